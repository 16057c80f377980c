"""Whether a value can be that of a setting: one function for each kind of value.

Each is given the setting's full name and the value, and returns it as it is kept.

:raises ConfigurationError: it cannot be; the text says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ..core.notifications import check_link
from ..errors import ConfigurationError

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")  # a token; RFC 9110, section 5.6.2
ANNOUNCING = ("redis", "rediss", "unix", "postgresql")  # the schemes of BGTASKS_ANNOUNCEMENTS

CLOUD_QUEUE = re.compile(r"projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/queues/[A-Za-z0-9-]{1,100}")
"""A queue's full name; "Resource: Queue" of Cloud Tasks' REST reference."""

SERVICE_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\.gserviceaccount\.com")

HOST_AND_PORT = re.compile(r"[^/\s:]{1,255}:\d{1,5}")  # a name's length: RFC 1035, section 2.3.4

MAX_APP_ID_LENGTH = 100  # characters; our choice: it stands in every row, and in its indexes


def string(name: str, value: Any) -> str:
    """Words, without the space around them."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected a non-empty string")
    return value.strip()


def app_id(name: str, value: Any) -> str:
    """An app's id. :raises ConfigurationError: it cannot be one; ``name`` says where it came from."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.strip()) <= MAX_APP_ID_LENGTH:
        raise ConfigurationError(f"{name}={value!r}: expected 1 to {MAX_APP_ID_LENGTH} printable characters")
    return value.strip()


def number(minimum: float, *, whole: bool = True) -> Callable[[str, Any], Any]:
    """Gives a check for numbers. :param minimum: the least. :param whole: whether only integers are."""
    kinds = (int,) if whole else (int, float)
    noun = "whole number" if whole else "number"

    def check(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, kinds) or not minimum <= value < float("inf"):
            raise ConfigurationError(f"{name}={value!r}: expected a {noun} of at least {minimum:g}")
        return value

    return check


def optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Gives a check that lets None through."""
    return lambda name, value: None if value is None else check(name, value)


def duration(name: str, value: Any) -> timedelta:
    """Seconds of at least 1, or a timedelta."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    seconds = number(1, whole=False)(name, value)
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ConfigurationError(f"{name}={value!r}: that many seconds are beyond what a date can hold") from None


def listed(name: str, value: Any) -> tuple[Any, ...]:
    """A list, or names separated by commas."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence):
        raise ConfigurationError(f"{name}={value!r}: expected a list (or names separated by commas)")
    return tuple(value)


def endpoints(name: str, value: Any) -> Mapping[str, Mapping[str, Any]]:
    """Names of endpoints, or a mapping from each to the options of its task."""
    names = tuple(value) if isinstance(value, Mapping) else listed(name, value)
    for item in names:
        if not isinstance(item, str):
            raise ConfigurationError(
                f"{name}: {item!r} is not the name of an endpoint. Name views as url_for does, "
                "e.g. 'process' or 'blueprint.process'"
            )
    options = value if isinstance(value, Mapping) else {item: {} for item in names}
    for item, given in options.items():
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise ConfigurationError(
                f"{name}[{item!r}]={given!r}: expected a mapping of the task's options, e.g. {{'steps': ['Write']}}"
            )
    return MappingProxyType({item: dict(given) for item, given in options.items()})


def headers(name: str, value: Any) -> tuple[str, ...]:
    """A list of headers' names."""
    names = listed(name, value)
    for item in names:
        if not isinstance(item, str) or not HEADER_NAME.fullmatch(item):
            raise ConfigurationError(f"{name}: {item!r} is not the name of a header, as 'Authorization' is")
    return names


def prefix(name: str, value: Any) -> str:
    """A path, without the slash at its end."""
    text = string(name, value)
    if not text.startswith("/") or text == "/":
        raise ConfigurationError(f"{name}={value!r}: expected a path such as '/tasks'")
    return text.rstrip("/")


def anything(name: str, value: Any) -> Any:
    """Whatever it is: what uses it checks it."""
    return value


def choice(*choices: str) -> Callable[[str, Any], str]:
    """Gives a check for one of these words, in any case."""

    def check(name: str, value: Any) -> str:
        text = string(name, value).lower()
        if text not in choices:
            raise ConfigurationError(f"{name}={value!r}: expected one of {', '.join(choices)}")
        return text

    return check


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r}: expected True or False")
    return value


def shown(name: str, value: Any) -> bool | tuple[type[Exception], ...]:
    """True, False, or classes of exceptions."""
    if isinstance(value, bool):
        return value
    classes = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ConfigurationError(
                f"{name}: {item!r} is not an exception class. Expected True, False, or the classes of exceptions whose "
                "texts clients may see, e.g. (ValueError,)"
            )
    return classes


def link(name: str, value: Any) -> str:
    """What a notification opens, with the names that are filled in."""
    text = string(name, value)
    check_link(text, name)
    return text


def address(name: str, value: Any) -> str:
    """Where a service is reached: ``https``, or ``http`` on this machine, since what is sent there is confidential."""
    text = string(name, value).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment or parts.username)
    except ValueError:  # of the port, or of an address of IPv6
        usable = False
    local = usable and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not usable or any(sign.isspace() for sign in text) or parts.scheme not in ("https", "http" if local else ""):
        raise ConfigurationError(f"{name}={value!r}: expected an address such as 'https://app-abc123-ew.a.run.app'")
    return text


def cloud_queues(name: str, value: Any) -> str | Mapping[str, str]:
    """The full name of a Cloud Tasks queue, or a mapping from names of queues to such."""
    given = dict(value) if isinstance(value, Mapping) else {"default": value}
    for queue, path in given.items():
        if not isinstance(queue, str) or not isinstance(path, str) or not CLOUD_QUEUE.fullmatch(path):
            raise ConfigurationError(
                f"{name}={value!r}: expected 'projects/PROJECT/locations/REGION/queues/QUEUE', or a mapping from names "
                "of queues (queue=…) to such names"
            )
    if "default" not in given:
        raise ConfigurationError(f"{name}={value!r}: expected an entry 'default', for all queues that are not named")
    return MappingProxyType(given)


def service_account(name: str, value: Any) -> str:
    """The address of a service account."""
    text = string(name, value)
    if not SERVICE_ACCOUNT.fullmatch(text):
        raise ConfigurationError(
            f"{name}={value!r}: expected the address of a service account, e.g. 'tasks@PROJECT.iam.gserviceaccount.com'"
        )
    return text


def host_and_port(name: str, value: Any) -> str:
    """A host and a port, ``host:port``."""
    text = string(name, value)
    if not HOST_AND_PORT.fullmatch(text):
        raise ConfigurationError(f"{name}={value!r}: expected a host and a port, e.g. '127.0.0.1:8123'")
    return text


def dispatch_deadline(name: str, value: Any) -> Any:
    """Seconds from 15 to 1800 (``dispatchDeadline`` in "Resource: Task" of Cloud Tasks' REST reference)."""
    if number(15, whole=False)(name, value) > 1800:
        raise ConfigurationError(f"{name}={value!r}: expected at most 1800, Cloud Tasks' longest")
    return value


def collection(name: str, value: Any) -> str:
    """The name of a Firestore collection (firebase.google.com/docs/firestore/quotas, "Collections")."""
    text = string(name, value)
    if "/" in text or text in (".", "..") or (text.startswith("__") and text.endswith("__")):
        raise ConfigurationError(f"{name}={value!r}: expected the name of a collection, without slashes")
    return text


def announcements(name: str, value: Any) -> str:
    """``auto``, ``off``, or the URL of a Redis or of the PostgreSQL database; a password in it is not repeated."""
    text = string(name, value)
    scheme, found, _ = text.partition("://")
    if text.lower() in ("auto", "off"):
        return text.lower()
    if not found or scheme.partition("+")[0] not in ANNOUNCING:
        raise ConfigurationError(
            f"{name}: expected 'auto', 'off', the URL of a Redis (redis://host/0), or that of the PostgreSQL database "
            "(postgresql+psycopg://host/app)"
        )
    return text


def synchronous(name: str, value: Any) -> str:
    """SQLite's ``PRAGMA synchronous``, of the two that a store may have."""
    text = string(name, value).upper()
    if text not in ("FULL", "NORMAL"):
        raise ConfigurationError(f"{name}={value!r}: expected FULL (survives a power cut) or NORMAL (a killed process)")
    return text
