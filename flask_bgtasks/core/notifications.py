"""The notification of a task's end, made from the task's ``notify=`` option and its result.

Decides what to send, and in which language; sinks do the sending. Pure.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError
from .model import Status, Task, TokenNote
from .text.clean import is_text, text_of

DEVICE_CHANNEL = "device:"
"""Begins the channel of a message to one device of an owner; the device's id follows."""

Text = str | Mapping[str, str]
"""A string, or a mapping of language tags (BCP 47) to strings: ``{"en": "Your lesson is ready", "pt-BR": …}``. The
first one is the default."""

Notify = Any
"""The ``notify=`` option: a title (:data:`Text`), a :class:`Notification`, or ``function(task, result_data)`` that
returns one or None. Texts are format strings over the result's fields, except those that a function returns. Any of
these is for completion only; for other ends map statuses to them: ``{"completed": …, "failed": …, "cancelled": …}``."""

OUTCOME = ("request_id", "status", "name", "seq", "attempt")
"""What of a notification's data tells the app which outcome it is about: the same whoever has shaped the rest."""

ENDS = tuple(status.value for status in Status if status.terminal)

FORMATTER = string.Formatter()

_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*")
"""A language's tag: its code (ISO 639), script, region (RFC 5646, section 2.1). Longer codes have never been given, and
so ``{"faild": …}`` is not taken for a language."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one user.

    :param title: :data:`Text`. :param body: as the title.
    :param user_token: the address that came with the request; None if it is no longer the owner's.
    :param owner: the owner whose devices it goes to as well.
    :param data: strings for the app. Never put the result here: every channel transmits it in the clear.
    :param link: the URL that it opens.
    :param status: how the task ended; None for a notification that belongs to no task.
    :param user_token_kind: the kind of that address, as the client says; None to guess it from its form.
    :param user_token_lang: the language of that device, as the client says.
    """

    title: Text
    body: Text = ""
    user_token: str | None = field(default=None, repr=False)
    owner: str | None = None
    request_id: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    status: str | None = None
    user_token_kind: str | None = None
    user_token_lang: str | None = None

    def __post_init__(self) -> None:
        """Clean every text; evaluate lazy translations."""
        for name in ("title", "body", "user_token", "link"):
            object.__setattr__(self, name, _clean(getattr(self, name)))
        if isinstance(self.data, Mapping):
            object.__setattr__(self, "data", _as_texts(self.data))

    def in_language(self, lang: str | None) -> Notification:
        """This notification with the texts for one language: for the exact tag, else the language, else the first."""
        return replace(self, title=_in_language(self.title, lang), body=_in_language(self.body, lang))


@dataclass(frozen=True, slots=True)
class Message:
    """A sink's message to one addressee: stored, retried and settled independently of other messages.

    :param channel: names the addressee; messages of a task with the same channel are delivered in order. For an
        owner's device, ``device:`` plus its id: the message is dropped if the device is gone or changes hands.
    :param payload: what to send, and where to, JSON.
    :param request_id: the task that it is about. :param notification: the notification that it was made from, if any.
    :param tries: how many tries have failed. These three are filled in for
        :func:`~flask_bgtasks.hookspecs.bgtasks_deliver_message`.
    """

    channel: str
    payload: Mapping[str, Any] = field(repr=False)
    request_id: str | None = None
    notification: Notification | None = None
    tries: int = 0


def checked(notify: Notify) -> Notify:
    """A ``notify=`` option, looked at when it is given. :raises ConfigurationError: with what is expected."""
    for one in notify.values() if by_status(notify) else (notify,):
        if one is None:
            continue
        if callable(one):
            if inspect.iscoroutinefunction(one):
                raise ConfigurationError(f"notify={notify!r}: expected a plain function, not an async one")
            continue
        wanted = one if isinstance(one, Notification) else Notification(one)
        if not _is_shaped(wanted):
            raise ConfigurationError(
                f"notify={notify!r}: expected a string, strings by language, a Notification or a function, "
                f"or a mapping of these by status ({', '.join(ENDS)})"
            )
        for text in (*_texts(wanted.title), *_texts(wanted.body)):
            _names_in(text, "notify")
        if wanted.link is not None:
            check_link(wanted.link, "notify: link")
    return notify


def check_link(link: str, what: str) -> None:
    """What a notification opens, as it is given. :param what: names it. :raises ConfigurationError: it is wrong."""
    unknown = set(_names_in(link, what)) - {"request_id", "name"}
    if unknown:
        raise ConfigurationError(
            f"{what}={link!r}: {{{min(unknown)}}} is not a field of a link; use {{request_id}} and {{name}}"
        )


def _is_shaped(wanted: Notification) -> bool:
    """Whether every field of a notification that an app has made has its type."""
    texts = (wanted.title, wanted.body)
    if not all(isinstance(text, str) or (isinstance(text, Mapping) and text) for text in texts):
        return False
    if not all(isinstance(one, str) for text in texts for one in _texts(text)):
        return False
    tags = [tag for text in texts if isinstance(text, Mapping) for tag in text]
    if not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        return False
    return isinstance(wanted.data, Mapping) and (wanted.link is None or isinstance(wanted.link, str))


def _texts(text: Text) -> list[str]:
    return list(text.values()) if isinstance(text, Mapping) else [text]


def _names_in(text: str, what: str) -> list[str]:
    """The fields of a format string. :raises ConfigurationError: it is none."""
    try:
        names = [name for _, name, _, _ in FORMATTER.parse(text) if name is not None]
    except ValueError as error:
        raise ConfigurationError(
            f"{what}={text!r} is not a format string ({error}); write a literal brace twice"
        ) from None
    if any(not name or name[0].isdigit() for name in names):
        raise ConfigurationError(f"{what}={text!r} has a field without a name; write a literal brace twice")
    return names


def by_status(notify: Notify) -> bool:
    """Whether an option says something else for each end."""
    return isinstance(notify, Mapping) and bool(notify) and all(key in ENDS for key in notify)


def asked_for(status: Status, notify: Notify) -> Any:
    """What an option says about this end, None if nothing."""
    if by_status(notify):
        return notify.get(status.value) or None
    return (notify or None) if status is Status.COMPLETED else None


def for_task(task: Task, notify: Notify, result_data: Any, *, link: str | None = None) -> Notification | None:
    """The notification of a finished task for its user, None when it has none.

    :param notify: the task's option.
    :param result_data: the result as parsed JSON, None where it is none; its top-level fields are the format fields,
        beside ``name``, ``request_id`` and ``error_message``.
    :param link: the ``BGTASKS_NOTIFICATION_LINK`` setting.
    """
    option = asked_for(task.status, notify)
    made = option(task, result_data) if callable(option) else option
    if not made:
        return None
    wanted = made if isinstance(made, Notification) else Notification(made)
    if not _is_shaped(wanted):
        raise TypeError(f"it returned {made!r}; expected a string, strings by language, a Notification or None")
    ours = {"name": task.name, "request_id": task.request_id}
    fields = {**ours, "error_message": task.error_message or ""}
    fields.update(result_data if isinstance(result_data, Mapping) else {})
    as_written = callable(option)
    opens = wanted.link if as_written else None
    opens = opens or _filled_link(wanted.link or link, ours)
    outcome = (task.request_id, task.status.value, task.name, str(task.seq), str(task.attempt))
    note = task.token_note or TokenNote()
    return Notification(
        title=wanted.title if as_written else _filled(wanted.title, fields),
        body=wanted.body if as_written else _filled(wanted.body, fields),
        user_token=task.user_token,
        owner=task.owner,
        request_id=task.request_id,
        data={**wanted.data, **dict(zip(OUTCOME, outcome, strict=True))},
        link=opens,
        status=task.status.value,
        user_token_kind=note.kind,
        user_token_lang=note.lang,
    )


def reshaped(shaped: Notification, before: Notification) -> Notification:
    """A notification as a plugin has shaped it: its texts, data and link; to whom it goes and of what stays as it was.

    :raises TypeError: one of its fields has another type.
    """
    if not _is_shaped(shaped):
        raise TypeError(
            "expected strings, or strings by language, as title and body, a mapping as data, a string as link"
        )
    ours = {key: before.data[key] for key in OUTCOME if key in before.data}
    data = {**shaped.data, **ours}
    return replace(before, title=shaped.title, body=shaped.body, data=data, link=shaped.link)


def as_document(notification: Notification) -> dict[str, Any]:
    """A notification as JSON, for the outbox; :func:`of_document` reads it."""
    return {
        "title": notification.title,
        "body": notification.body,
        "user_token": notification.user_token,
        "owner": notification.owner,
        "data": dict(notification.data),
        "link": notification.link,
        "status": notification.status,
        "user_token_kind": notification.user_token_kind,
        "user_token_lang": notification.user_token_lang,
    }


def of_document(document: Mapping[str, Any], request_id: str | None) -> Notification:
    """A notification as :func:`as_document` has written it."""
    return Notification(request_id=request_id, **document)


def _as_texts(data: Mapping[Any, Any]) -> dict[str, str]:
    return {text_of(key, None): text_of(value, None) for key, value in data.items()}


def _clean(text: Any) -> Any:
    """A text, or texts by language, clean; of what is neither :func:`checked` says so."""
    if isinstance(text, Mapping):
        return {tag: _clean(one) for tag, one in text.items()}
    return text_of(text, None) if is_text(text) else text


def _filled(text: Text, fields: Mapping[str, Any]) -> Text:
    if isinstance(text, Mapping):
        return {lang: _filled_one(one, fields) for lang, one in text.items()}
    return _filled_one(text, fields)


def _filled_one(text: str, fields: Mapping[str, Any]) -> str:
    """A text with its fields. One that the result lacks, or that is not of that form, stands as it was written."""
    parts = []
    for literal, name, form, conversion in FORMATTER.parse(text):
        parts.append(literal)
        if name is not None:
            written = f"{{{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}}}"
            try:
                parts.append(written.format_map(fields))
            except (LookupError, AttributeError, TypeError, ValueError):
                parts.append(written)
    return "".join(parts)


def _filled_link(link: str | None, fields: Mapping[str, str]) -> str | None:
    return link and _filled_one(link, {name: quote(value, safe="") for name, value in fields.items()})


def _in_language(text: Text, lang: str | None) -> str:
    """By the tag, then by ever less of it (RFC 4647, section 3.4: lookup), then the first."""
    if not isinstance(text, Mapping):
        return text
    known = {tag.lower().replace("_", "-"): one for tag, one in text.items()}
    wanted = (lang or "").lower().replace("_", "-")
    while wanted:
        if wanted in known:
            return known[wanted]
        wanted = wanted.rpartition("-")[0]
    return next(iter(text.values()), "")
