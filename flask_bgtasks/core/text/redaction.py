"""Redacts anything that looks like a credential from text that users and operators see. Knows no other module.

Every pattern takes time in proportion to the text: it starts at a fixed word, and once it has begun to read a run of
characters it matches, so that no character is read again. ``tests/unit/test_growth.py`` measures it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

MAX_LENGTH = 20_000  # characters of a text that are looked at; nobody is shown more than a few thousand

STARS = "***"

_PREFIXES = "|".join(
    (
        r"sk-(?:[a-z]{2,12}\d{0,2}-)?[A-Za-z0-9_-]{8,}",  # OpenAI (sk-proj-, sk-svcacct-), Anthropic (sk-ant-api03-)
        r"(?:sk|pk|rk)_(?:live|test|prod)_[A-Za-z0-9]{8,}|whsec_[A-Za-z0-9+/=]{8,}",  # Stripe, Standard Webhooks
        r"gh[a-z]_[A-Za-z0-9_]{8,}|github_pat_[A-Za-z0-9_]{8,}",
        r"gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[A-Za-z0-9_.-]{8,}",  # GitLab
        r"(?:xox[a-z]|xapp)[-.][A-Za-z0-9-]{8,}",  # Slack
        r"AIza[A-Za-z0-9_-]{16,}|ya29\.[A-Za-z0-9_.-]{4,}|1//0[A-Za-z0-9_-]{8,}|GOCSPX-[A-Za-z0-9_-]{8,}",  # Google
        r"APA91b[A-Za-z0-9_-]{16,}",  # the second half of an FCM registration token
        r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA)[A-Z0-9]{8,}",  # AWS
        r"SG\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)?|key-[0-9a-f]{32}",  # SendGrid, Mailgun
        r"SK[0-9a-f]{32}|shp[a-z]{2}_[A-Za-z0-9]{8,}|sq0[a-z]{3}-[A-Za-z0-9_-]{8,}",  # Twilio, Shopify, Square
        r"npm_[A-Za-z0-9]{8,}|pypi-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{8,}|do[opr]_v1_[a-f0-9]{8,}|dckr_pat_[\w-]{8,}",
        r"(?:gsk|glc|glsa|sbp|pul|ntn|r8|lin_api|pscale_tkn|sntrys|nvapi|xai|pplx)[_-][A-Za-z0-9_+/=-]{20,}",
        r"hv[sbr]\.[A-Za-z0-9_-]{8,}|dapi[0-9a-f]{32}|dp\.(?:pt|st|ct)\.[A-Za-z0-9.]{8,}|AGE-SECRET-KEY-1[A-Z0-9]{8,}",
        r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}",  # a JSON Web Token, or what else is JSON in base64url
        r"[0-9]{6,12}:AA[A-Za-z0-9_-]{30,}",  # Telegram
    )
)
"""Credentials that name their issuer. Some are shorter here than their issuer makes them: they may have been cut."""

_OPEN = r"[A-Za-z]{0,2}\\{0,3}[\"']"
"""What begins a quoted value: a bytes literal's ``b``, the backslash of JSON inside JSON."""

_QUOTED = (
    r"(?:\\{1,3}\"[^\"\\]*|\\{1,3}'[^'\\]*"  # JSON inside JSON
    r"|[A-Za-z]{0,2}\"[^\"\\]*(?:\\.[^\"\\]*)*"
    r"|[A-Za-z]{0,2}'[^'\\]*(?:\\.[^'\\]*)*)"
)
"""A quoted value without the quote at its end: one that was cut has none."""

_VALUE = (
    rf"((?:[\[({{]|\w{{1,40}}\(){{1,2}}{_QUOTED}(?:[\"']\s{{0,4}},\s{{0,4}}{_QUOTED}){{0,20}}"  # ['x'], SecretStr('x')
    rf"|{_QUOTED}|[^\s&,;'\"<>(){{}}\[\]]+)"
)

_AFTER_NAME = (
    r"\\{0,3}[\"']?\]?\s{0,4}(?::=|=>|==|[:=])\s{0,4}"
    rf"|\\{{0,3}}[\"']\s{{0,4}},\s{{0,4}}(?={_OPEN}|[\[(])"
)
"""Between a name and its value: ``=``, ``:``, ``': '``, and the comma of a pair, ``('password', 'x')``."""

_AFTER_LOOSE_NAME = rf"=|\\{{0,3}}[\"']\]?\s{{0,4}}(?:=>|[:=,])\s{{0,4}}(?={_OPEN}|[\[(])"
"""For names that are words of everyday too: no bare ``:``, which may be prose."""

_NAMES = (
    r"(?:pass(?:word|wd|phrase|code)|passwort|pwd|secret|credentials?|token(?!s)"
    r"|(?:api|app|access|account|auth|client|consumer|encryption|license|master|private|secret|server"
    r"|shared[-_ ]?access|signing|storage|subscription|webhook)[-_ ]?key)"
    r"(?:[-_ ]?(?:access[-_ ]?key|key|hash|digest|value|text|base64|b64|id|\d{1,3}))?"
)
"""Whatever stands before them: ``DB_PASSWORD``, ``x-amz-security-token``. Not ``max_tokens``, nor ``KeyError``."""

_LOOSE_NAMES = (
    r"(?<![a-z])(?:key|pass|auth|sig|jwt|sid|session(?:[-_]?id)?|otp|pin|ticket)"
    r"|(?<=[?&])(?:code|state|nonce|assertion)"
    r"|signature|client_assertion|code_verifier|id_token_hint"
)

_HEADERS = r"(?:proxy-)?authorization|(?:set-)?cookie2?|x-[a-z-]{0,24}(?:auth|key|token|secret)[a-z-]{0,12}"

_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL
)
_USER_INFO = re.compile(r"(?<=://)(?:[^\s/?#@:'\"]{0,200}:[^\s/?#]*|[^\s/?#@:'\"]{16,200})@")
_WEBHOOK = re.compile(r"(?<=hooks\.slack\.com/)[\w/-]+|(?<=/api/webhooks/)[\w/-]+")
_HEADER = re.compile(
    rf"(?i)(?<![a-z])({_HEADERS})"
    rf"(\\{{0,3}}[\"']\]?\s{{0,4}}[:=,]\s{{0,4}}(?:[\[(]\s{{0,4}})?(?={_OPEN})|\s{{0,4}}[:=]\s{{0,4}})({_QUOTED}|[^\r\n]+)",
    re.DOTALL,
)
_BEARER = re.compile(r"(?i)\b(bearer\s{1,4})(?!tokens?\b)[\w.~+/=-]{6,}")
_SCHEME = re.compile(
    r"\b((?i:basic|negotiate|digest|apikey|token)\s{1,4})(?=[\w.~+/-]{0,40}(?:[0-9_~+/=]|[a-z][A-Z]))[\w.~+/=-]{6,}"
)
_ISSUED = re.compile(rf"(?<![A-Za-z0-9])(?:{_PREFIXES})")
_NAMED = re.compile(rf"(?i)({_NAMES})({_AFTER_NAME}|>)(?!\*\*\*){_VALUE}", re.DOTALL)
_LOOSELY_NAMED = re.compile(rf"(?i)({_LOOSE_NAMES})({_AFTER_LOOSE_NAME})(?!\*\*\*){_VALUE}", re.DOTALL)
_OPTION = re.compile(
    rf"(?i)(--(?:[a-z]+-){{0,3}}(?:password|passwd|pass|secret|token|key))(\s{{1,4}}){_VALUE}", re.DOTALL
)

_OPENING = re.compile(rf"(?:[\[({{]|\w{{1,40}}\(){{0,2}}{_OPEN}")


def _starred(match: re.Match[str]) -> str:
    """The name stays, what stands between, and the quote that opened the value."""
    name, between, value = match.groups()
    opening = _OPENING.match(value)
    return f"{name}{between}{opening[0] if opening else ''}{STARS}"


_IN_TURN: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (_BLOCK, STARS),
    (_USER_INFO, STARS + "@"),
    (_WEBHOOK, STARS),
    (_HEADER, _starred),
    (_BEARER, rf"\1{STARS}"),
    (_SCHEME, rf"\1{STARS}"),
    (_ISSUED, STARS),
    (_NAMED, _starred),
    (_LOOSELY_NAMED, _starred),
    (_OPTION, _starred),
)


def redact(text: str) -> str:
    """The text with stars in the place of what looks like a credential, cut to :data:`MAX_LENGTH` characters.

    A net, not a wall: it knows the shapes of secrets that are in use, and not those of one app's own.
    """
    if len(text) > MAX_LENGTH:
        text = "".join(text[:MAX_LENGTH].rsplit(maxsplit=1)[:1]) + " …"  # half a secret looks like none
    for pattern, replacement in _IN_TURN:
        text = pattern.sub(replacement, text)
    return text


def origin(url: str) -> str:
    """An address as a message may show it, scheme and host: a webhook's path is often its secret, and its query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    return f"{parts.scheme}://{host[:100]}" if host else "an address without a host"
