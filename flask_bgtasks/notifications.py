"""What a user is told when a task ends: the notification, made from the task's ``notify=`` option and its result.

Says what is to be sent, and in which language; sinks do the sending. Pure.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import ConfigurationError
from .model import Status, Task

Text = str | Mapping[str, str]
"""A text, or one for each language by its tag (BCP 47): ``{"en": "Your lesson is ready", "pt-BR": …}``. The first is
for everyone else."""

Notify = Any
"""The ``notify=`` option: a title (:data:`Text`), a :class:`Notification`, or ``function(task, result_data)`` that
gives one or None. Texts are format strings over the result's fields, but for those that a function returns. Any of
these is for completion only; for other ends a mapping by status: ``{"completed": …, "failed": …, "cancelled": …}``."""

ENDS = tuple(status.value for status in Status if status.terminal)


@dataclass(frozen=True, slots=True)
class Notification:
    """One message to one user.

    :param title: :data:`Text`. :param body: as the title.
    :param user_token: the address that came with the request. :param owner: whose devices it goes to besides.
    :param data: texts for the app. Never the result: every channel carries it openly.
    :param link: what it opens.
    :param status: how the task ended; None for one that stands for itself.
    """

    title: Text
    body: Text = ""
    user_token: str | None = field(default=None, repr=False)
    owner: str | None = None
    request_id: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    link: str | None = None
    status: str | None = None

    def in_language(self, lang: str | None) -> Notification:
        """This notification with the texts for one language: its tag's, its language's, or the first there is."""
        return replace(self, title=_in_language(self.title, lang), body=_in_language(self.body, lang))


@dataclass(frozen=True, slots=True)
class Message:
    """What a sink has for one addressee: stored, tried and settled on its own, apart from those for others.

    :param channel: names the addressee; messages of a task to the same one are delivered in order.
    :param payload: what to send and where to, JSON.
    :param request_id: the task that it is about. :param notification: what it tells, where it comes of one.
    :param tries: how often it was tried in vain. These three are filled in for
        :func:`~flask_bgtasks.hookspecs.bgtasks_deliver_message`.
    """

    channel: str
    payload: Mapping[str, Any]
    request_id: str | None = None
    notification: Notification | None = None
    tries: int = 0


class _Fields(dict[str, Any]):
    """Format fields; one that the result lacks stands as it was written, so that a text is never lost."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


def checked(notify: Notify) -> Notify:
    """A ``notify=`` option, looked at when it is given. :raises ConfigurationError: with what is wanted."""
    for one in notify.values() if by_status(notify) else (notify,):
        if one is None or callable(one):
            continue
        for text in (one.title, one.body) if isinstance(one, Notification) else (one,):
            _check_text(text, notify)
    return notify


def _check_text(text: Any, notify: Notify) -> None:
    texts = list(text.values()) if isinstance(text, Mapping) else [text]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise ConfigurationError(
            f"notify={notify!r}: a text, texts by language, a Notification or a function is wanted, "
            f"or a mapping of these by status ({', '.join(ENDS)})"
        )
    for one in texts:
        try:
            list(string.Formatter().parse(one))
        except ValueError as error:
            raise ConfigurationError(
                f"notify: {one!r} is no format string ({error}); a brace that is meant is written twice"
            ) from None


def by_status(notify: Notify) -> bool:
    """Whether an option says something else for each end."""
    return isinstance(notify, Mapping) and bool(notify) and all(key in ENDS for key in notify)


def asked_for(status: Status, notify: Notify) -> Any:
    """What an option says about this end, None if nothing."""
    if by_status(notify):
        return notify.get(status.value)
    return notify if status is Status.COMPLETED else None


def for_task(task: Task, notify: Notify, result_data: Any, *, link: str | None = None) -> Notification | None:
    """The notification that a finished task owes its user, None when it owes none.

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
    fields = {"name": task.name, "request_id": task.request_id, "error_message": task.error_message or ""}
    names = _Fields({**fields, **(result_data if isinstance(result_data, Mapping) else {})})
    filled = (lambda text: text) if callable(option) else (lambda text: _filled(text, names))
    opens = wanted.link or link
    data = {
        "request_id": task.request_id,
        "status": task.status.value,
        "name": task.name,
        "seq": str(task.seq),
        "attempt": str(task.attempt),
    }
    return Notification(
        title=filled(wanted.title),
        body=filled(wanted.body),
        user_token=task.user_token,
        owner=task.owner,
        request_id=task.request_id,
        data={**{key: str(value) for key, value in wanted.data.items()}, **data},
        link=opens and opens.format_map(_Fields(request_id=task.request_id, name=task.name)),
        status=task.status.value,
    )


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
    }


def of_document(document: Mapping[str, Any], request_id: str | None) -> Notification:
    """A notification as :func:`as_document` has written it."""
    return Notification(request_id=request_id, **document)


def _filled(text: Text, names: _Fields) -> Text:
    if isinstance(text, Mapping):
        return {lang: one.format_map(names) for lang, one in text.items()}
    return text.format_map(names)


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
