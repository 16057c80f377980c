"""Posts the events of tasks to webhooks, signed according to Standard Webhooks (www.standardwebhooks.com).

Each URL has its own deliveries; one that is down is retried for days and holds up no other. The scheme's own library
signs; the calls go through :mod:`.safe_http`, since URLs may come from an app's customers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..core.backoff import Backoff, retry_after_seconds, rng
from ..core.documents import rfc3339, task_document
from ..core.model import Event, Task
from ..core.notifications import Message
from ..core.webhooks import WebhookTarget
from ..errors import ConfigurationError, EndpointUnreachable, RetryLater, Undeliverable
from ..hookspecs import hookimpl
from .cooldown import Cooldowns
from .safe_http import GuardedClient

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings
    from ..sink_context import SinkContext

log = logging.getLogger("flask_bgtasks")

HOUR = 3600.0
SCHEDULE = (5.0, 300.0, 1800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Seconds between the tries of one message (Standard Webhooks specification, "Deliverability and reliability"). What
was not taken after the last is a dead letter."""

JITTER = 0.1  # of a wait: those who failed together come apart
MAX_WAIT_SECONDS = 24 * HOUR  # that a Retry-After is believed

PAUSES = Backoff(first=5.0, longest=1800.0)
"""Between two tries at a target that does not answer: of its pending messages, one each."""


class WebhookSink:
    """``BGTASKS_SINKS = ["webhook"]``.

    :param targets: those of the settings; the app's own come from the hook ``bgtasks_webhook_targets``.
    """

    name = "webhook"

    def __init__(self, targets: Iterable[WebhookTarget], door: GuardedClient, *, concurrency: int = 16) -> None:
        self._targets = {target.id: target for target in targets}
        self._door = door
        self._rests = Cooldowns(PAUSES)
        self.concurrency = concurrency

    @classmethod
    def from_settings(cls, app: Flask, settings: Settings) -> WebhookSink:
        """Made by its name. :raises ConfigurationError: a target is wrong, or the extra is not installed."""
        try:
            import standardwebhooks  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"webhook: {error.name!r} is not installed: pip install 'flask-bgtasks[webhook]'"
            ) from None
        door = GuardedClient(settings.private_targets)
        made = [_target_of(number, given, door) for number, given in enumerate(settings.webhooks, 1)]
        _check_doubles(made)
        return cls(made, door, concurrency=settings.push_concurrency)

    @hookimpl
    def bgtasks_task_event(self, task: Task, event: Event, context: SinkContext) -> Iterator[Message]:
        for target in self._all(task, context).values():
            if target.wants(task, event):
                number = hashlib.sha256(f"{task.request_id}:{event.seq}:{target.id}".encode()).hexdigest()[:32]
                yield Message(
                    f"webhook:{target.id}", {"to": target.id, "id": f"msg_{number}", "body": _body(task, event)}
                )

    @hookimpl
    def bgtasks_deliver_message(self, message: Message, context: SinkContext) -> None:
        target = self._found(message, context)
        if target is None:
            log.info("a webhook of task %s is dropped: its target is gone", message.request_id)
            return
        turn = self._rests.begin(target.id, target.shown)
        body = message.payload["body"].encode()
        try:
            answer = self._door.post(target.url, body=body, headers=_signed(target, message.payload["id"], body))
        except EndpointUnreachable as error:
            raise _later(message, str(error), turn.refused()) from error
        after = retry_after_seconds(answer.headers.get("retry-after"))
        if answer.status == 429 or (answer.status >= 300 and after is not None):
            after = turn.refused(None if after is None else min(after, MAX_WAIT_SECONDS))
        else:
            turn.answered()
        if 200 <= answer.status < 300:
            return
        if answer.status == 410:
            raise Undeliverable(f"{target.shown} answered 410 Gone: it wants no more deliveries. Remove it")
        raise _later(message, f"{target.shown} answered {answer.status}", after)

    @hookimpl
    def bgtasks_check(self) -> Iterator[tuple[str, str | None]]:
        for target in self._targets.values():
            try:
                self._door.look_up(target.url)
            except (Undeliverable, EndpointUnreachable) as error:
                yield f"webhook {target.shown}", str(error)
            else:
                yield f"webhook {target.shown}", None

    def _all(self, task: Task, context: SinkContext) -> Mapping[str, WebhookTarget]:
        """The targets for a task, by id."""
        return {**self._targets, **{target.id: target for target in context.webhook_targets(task)}}

    def _found(self, message: Message, context: SinkContext) -> WebhookTarget | None:
        to: str = message.payload["to"]
        known: Mapping[str, WebhookTarget] = self._targets
        if to not in known and message.request_id is not None:
            task = context.find_task(message.request_id)
            if task is None:
                return None
            known = self._all(task, context)
        if to in known:
            return known[to]
        # What it wants to be told was changed since: where nobody else has its address, it is the same one.
        same = [target for target in known.values() if target.place == to.partition("-")[0]]
        return same[0] if len(same) == 1 else None


def _signed(target: WebhookTarget, id: str, body: bytes) -> dict[str, str]:
    """The headers of a message; the time is that of the try, since receivers refuse what is old."""
    from standardwebhooks.webhooks import Webhook

    now = datetime.now(timezone.utc)
    signatures = [Webhook(secret).sign(msg_id=id, timestamp=now, data=body.decode()) for secret in target.secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": "flask-bgtasks",
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _body(task: Task, event: Event) -> str:
    """The message (Standard Webhooks specification, "Payload structure"); the result is fetched, not sent."""
    data = task_document(task)
    del data["result_data"]
    data |= {"seq": event.seq, "attempt": event.attempt}
    return json.dumps({"type": f"task.{event.type.value}", "timestamp": rfc3339(event.at), "data": data})


def _later(message: Message, why: str, after: float | None) -> RetryLater | Undeliverable:
    if message.tries >= len(SCHEDULE):
        return Undeliverable(f"{why}, as in {message.tries} tries before")
    return RetryLater(why, after=max(SCHEDULE[message.tries] * rng.uniform(1.0, 1.0 + JITTER), after or 0.0))


def _check_doubles(targets: Sequence[WebhookTarget]) -> None:
    """:raises ConfigurationError: two would be told the same, and could not be told apart."""
    numbers: dict[str, int] = {}
    for number, target in enumerate(targets, 1):
        if target.id in numbers:
            raise ConfigurationError(
                f"BGTASKS_WEBHOOKS: number {number} has the url, events and names of number {numbers[target.id]}. "
                "Two secrets, while one replaces the other, are a list in one target"
            )
        numbers[target.id] = number


def _target_of(number: int, given: Any, door: GuardedClient) -> WebhookTarget:
    """One of ``BGTASKS_WEBHOOKS``. :raises ConfigurationError: with what is expected."""
    label = f"BGTASKS_WEBHOOKS: number {number}"
    if not isinstance(given, Mapping) or not isinstance(given.get("url"), str) or "secret" not in given:
        raise ConfigurationError(f'{label}: expected {{"url": "https://…", "secret": "whsec_…"}}')
    unknown = set(given) - {"url", "secret", "events", "names"}
    if unknown:
        raise ConfigurationError(f"{label}: there is no {min(unknown)!r}; url, secret, events and names are")
    try:
        target = WebhookTarget(**given)
        door.check(target.url)
    except (ConfigurationError, Undeliverable) as error:
        raise ConfigurationError(f"{label}: {error}") from None
    return target
