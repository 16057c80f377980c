"""Tells the developer when tasks fail, or when a sink is unreachable: by mail, chat or pager, through Apprise.

A lasting failure causes one message, and the next one after a silence. Marks in the store ensure this across all
processes of an app, and across retries. Each address has its own deliveries.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ..core.backoff import Backoff
from ..core.model import Event, EventType, Task
from ..core.notifications import Message
from ..core.text.redaction import redact
from ..errors import ConfigurationError, RetryLater
from ..hookspecs import hookimpl
from ..runtime.fork import after_fork_in_child
from ..wording import counted
from .cooldown import Cooldowns

if TYPE_CHECKING:
    from apprise import Apprise
    from flask import Flask

    from ..settings import Settings
    from ..sink_context import SinkContext

log = logging.getLogger("flask_bgtasks")

CLAIM = timedelta(seconds=60)
"""How long one process has for a message to one address, before another one may send it. Apprise gives up a connection
after 4 seconds and an answer after 4 more, and some services want a pause of seconds before a second request."""

CLAIM_PAUSE_SECONDS = 5.0  # until it is looked again whether another process has sent it

TROUBLE_SECONDS = 60.0
"""How often one process takes note of the same trouble: every letter of thousands that die at once reports it."""

PAUSES = Backoff(first=4.0, longest=300.0)
"""Between two tries of an address that does not answer."""

NAMES_REMEMBERED, ERRORS_REMEMBERED = 100, 3

MAX_TITLE, MAX_ERROR = 150, 300  # characters: some services refuse what is longer than a page


class AlertsSink:
    """``BGTASKS_SINKS = ["alerts"]``.

    :param addresses: where alerts go, by a name that gives none of them away.
    :param failures: of one task name within ``window``, that make an alert.
    :param silence: after an alert, in which nothing more is said about the same.
    """

    name = "alerts"

    def __init__(
        self, addresses: Mapping[str, Address], *, failures: int, window: timedelta, silence: timedelta
    ) -> None:
        self._addresses = addresses
        self._failures = failures
        self._window = window
        self._silence = silence
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._errors: OrderedDict[str, deque[str]] = OrderedDict()  # the latest of a task name; of the worker's thread
        self._noted: dict[str, float] = {}  # until when a trouble needs no further note, by time.monotonic

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> AlertsSink:
        """Made by its name. :raises ConfigurationError: an address is wrong, or the extra is not installed."""
        if not settings.alert_urls:
            raise ConfigurationError(
                "BGTASKS_ALERT_URLS: the alerts sink has no address to write to. Give Apprise URLs, "
                "e.g. ['mailto://user:password@example.com']"
            )
        made = [address_of(app, number, url) for number, url in enumerate(settings.alert_urls, 1)]
        return cls(
            {address.id: address for address in made},
            failures=settings.alert_failures,
            window=timedelta(seconds=settings.alert_window),
            silence=timedelta(seconds=settings.alert_silence),
        )

    # -- what the sink is told -----------------------------------------------------------------------------------------

    @hookimpl
    def bgtasks_task_event(self, task: Task, event: Event, context: SinkContext) -> Iterable[Message] | None:
        if event.type is not EventType.FAILED or event.data.get("rejected"):
            return None
        errors, failed = self._note(task), self._failed(context, task.name, event.at)
        if failed < self._failures:
            return None
        payload = {
            "subject": f"failures of {task.name!r}",
            "name": task.name,
            "failed": failed,
            "at": event.at.isoformat(),
            "errors": list(errors),
        }
        return [Message(to, payload) for to in self._addresses if not _is_silent(context, _mark(to, payload))]

    @hookimpl
    def bgtasks_trouble(self, subject: str, text: str, context: SinkContext) -> None:
        if repr(self.name) in subject or time.monotonic() < self._noted.get(subject, 0.0):
            return
        payload = {"subject": subject, "text": redact(text)[:MAX_ERROR]}
        for to in self._addresses:
            context.enqueue(self.name, Message(to, payload))
        self._noted[subject] = time.monotonic() + min(TROUBLE_SECONDS, self._silence.total_seconds())

    @hookimpl
    def bgtasks_deliver_message(self, message: Message, context: SinkContext) -> None:
        address = self._addresses.get(message.channel)
        if address is None:
            log.info("an alert is dropped: its address is no longer in BGTASKS_ALERT_URLS")
            return
        silence = _mark(message.channel, message.payload)
        turn = f"turn:{silence}"
        if _is_silent(context, silence):
            return
        if not context.take_mark(turn, CLAIM):
            raise RetryLater("another process is sending the same alert", after=CLAIM_PAUSE_SECONDS, tried=False)
        try:
            if _is_silent(context, silence):  # it was sent in between
                return
            address.send(*self._written(context, message))
            context.set_mark(silence, self._silence)
        finally:
            context.set_mark(turn, timedelta(0))

    # -- what it says --------------------------------------------------------------------------------------------------

    def _note(self, task: Task) -> Sequence[str]:
        """Remember what a task failed of; the latest errors of its name, which this process was told of."""
        errors = self._errors.setdefault(task.name, deque(maxlen=ERRORS_REMEMBERED))
        self._errors.move_to_end(task.name)
        if len(self._errors) > NAMES_REMEMBERED:
            self._errors.popitem(last=False)
        kind = f"{task.error_type}: " if task.error_type else ""
        error = redact(f"{kind}{task.error_message or 'no message'}")[:MAX_ERROR]
        if error in errors:
            errors.remove(error)
        errors.append(error)
        return errors

    def _failed(self, context: SinkContext, name: str, at: datetime) -> int:
        """How many failed within the window that ended with this failure, however long ago that was."""
        failed = context.count_failed(name, since=at - self._window)
        return failed if failed < self._failures else failed - context.count_failed(name, since=at + _MOMENT)

    def _written(self, context: SinkContext, message: Message) -> tuple[str, str]:
        """Title and text. How things stand is looked up when it is sent: the message may have waited for long."""
        payload, app = message.payload, context.app_name
        if "name" not in payload:
            lines = [payload["text"]]
            dead = context.count_dead_letters()
            if dead:
                lines.append(
                    f"{counted(dead, 'dead letter')} kept: `flask bgtasks dead` lists them, and `flask bgtasks replay` "
                    "delivers them again."
                )
            return f"{app}: {payload['subject']}"[:MAX_TITLE], "\n\n".join(lines)
        name, failed = payload["name"], payload["failed"]
        recent = context.count_failed(name, since=context.now() - self._silence)
        at = datetime.fromisoformat(payload["at"])
        failures = f"{counted(failed, 'failure')} within {_span(self._window)}, the last at {at:%Y-%m-%d %H:%M:%SZ}."
        if recent > failed:
            failures += f" {recent} within {_span(self._silence)}."
        latest = "\n".join(reversed(payload["errors"]))
        look = f"One of them: flask bgtasks show {message.request_id}"
        return f"{app}: {name} failed"[:MAX_TITLE], "\n\n".join((failures, latest, look))


class Address:
    """One address of Apprise's, which is left alone for a while when it does not answer.

    :param id: names it in the store, and does not give it away.
    :param service: what it begins with, for messages: ``slack``.
    """

    def __init__(self, id: str, service: str, apprise: Apprise) -> None:
        self.id = id
        self._service = service
        self._apprise = apprise
        self._rests = Cooldowns(PAUSES)

    def send(self, title: str, text: str) -> None:
        """Write there. :raises RetryLater: it was not taken, or the address is left alone for now."""
        turn = self._rests.begin(self.id, f"{self._service}://")
        import apprise

        sent = self._apprise.notify(
            title=title, body=text, notify_type=apprise.NotifyType.FAILURE, body_format=apprise.NotifyFormat.TEXT
        )
        if not sent:
            raise RetryLater(f"{self._service}:// did not take the alert; Apprise has logged why", after=turn.refused())
        turn.answered()


def address_of(app: Flask, number: int, url: Any) -> Address:
    """One of ``BGTASKS_ALERT_URLS``. :raises ConfigurationError: Apprise does not take it, or is not installed.

    :param number: which one it is: it may hold a password, and is never shown.
    """
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"alerts: {error.name!r} is not installed: pip install 'flask-bgtasks[alerts]'"
        ) from error
    made = apprise.Apprise(asset=apprise.AppriseAsset(app_id=app.name, async_mode=False))
    service, mark, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not mark or not _added(made, url):
        shown = f" ({service}://…)" if mark else ""
        raise ConfigurationError(
            f"BGTASKS_ALERT_URLS: Apprise does not take address {number}{shown}. "
            "How each service's address is made: https://appriseit.com/services/"
        )
    return Address(hashlib.sha256(url.encode()).hexdigest()[:16], service, made)


def _added(made: Apprise, url: str) -> bool:
    """Whether Apprise takes an address. What it has to say of one that it does not take is not logged: it shows it."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        return bool(made.add(url))
    finally:
        logger.disabled = before


_MOMENT = timedelta(microseconds=1)


def _mark(to: str, payload: Mapping[str, Any]) -> str:
    """The key of the silence about one thing at one address."""
    return f"alert:{to}:{payload['subject']}"


def _is_silent(context: SinkContext, mark: str) -> bool:
    """Whether it was told not long ago. A mark that is taken for no time at all is only looked at."""
    return not context.take_mark(mark, timedelta(0))


def _span(span: timedelta) -> str:
    """A time span in the largest unit that leaves no fraction."""
    seconds = span.total_seconds()
    for length, noun in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length and seconds % length == 0:
            return counted(int(seconds // length), noun)
    return counted(int(seconds), "second")
