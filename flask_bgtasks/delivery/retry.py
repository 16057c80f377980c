"""What a failed delivery comes to: another try after a back-off, or a dead letter; and what it says of its sink.

Reads from the store how long a task is kept; settles nothing itself.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from ..core.backoff import Backoff, retry_after_seconds
from ..core.text.clean import text_of
from ..errors import Overloaded, RetryLater, TaskNotFound, Undeliverable
from ..runtime.log_lines import one_line
from ..stores.base import Store
from ..stores.types import Delivery, Settlement
from ..wording import counted
from .circuit_breaker import Reply
from .sink_calls import was_tried

log = logging.getLogger("flask_bgtasks")

MIN_PAUSE_SECONDS = 1.0
"""The shortest pause of a sink whose service asks for one, also where it names none, or one that is over."""

FIRST_RETRY_SECONDS = 1.0
BACKOFF = Backoff(first=FIRST_RETRY_SECONDS, longest=300.0)


def backoff(tries: int) -> float:
    """Seconds to wait after so many failed tries; the floor keeps one from following at once."""
    return FIRST_RETRY_SECONDS / 2 + BACKOFF.wait(tries + 1)


def settlement_of(store: Store, delivery: Delivery, error: BaseException, *, max_wait: float | None) -> Settlement:
    """What becomes of a delivery whose try raised an error: another try, or a dead letter.

    :param max_wait: seconds after which it is tried again at the latest, while the sink is unreachable.
    """
    what = _one_line(error)
    if isinstance(error, Undeliverable):
        log.warning("delivery %s to sink %r can never succeed: %s", delivery.id, delivery.sink, what)
        return Settlement(dead=True, error=what)
    wait = backoff(delivery.tries)
    if max_wait is not None:
        wait = min(wait, max_wait)
    wanted = retry_after_seconds(error.after) if isinstance(error, RetryLater) else None
    if wanted is not None:
        wait = wanted
    due_at, tried = store.now() + timedelta(seconds=wait), was_tried(error)
    if due_at >= _give_up_at(store, delivery):
        log.error("delivery %s to sink %r is given up: %s", delivery.id, delivery.sink, what)
        return Settlement(dead=True, error=f"given up after {counted(delivery.tries + tried, 'try', 'tries')}: {what}")
    if not tried:
        log.debug("delivery %s to sink %r waits for %.0f s: %s", delivery.id, delivery.sink, wait, what)
        return Settlement(due_at=due_at)
    level = logging.WARNING if max_wait is None else logging.DEBUG  # of an outage the worker has told
    log.log(level, "delivery %s to sink %r failed, next try in %.0f s: %s", delivery.id, delivery.sink, wait, what)
    return Settlement(due_at=due_at, error=what)


def reply_of(error: BaseException) -> Reply:
    """What an error says about the sink."""
    pause = max(MIN_PAUSE_SECONDS, retry_after_seconds(error.after) or 0.0) if isinstance(error, Overloaded) else 0.0
    answered = isinstance(error, Undeliverable) or getattr(error, "after", None) is not None
    return Reply(answered, pause, _one_line(error), tried=was_tried(error))


def _one_line(error: BaseException) -> str:
    """An error as it is stored: it may quote somebody else's server, and PostgreSQL, say, stores no NUL."""
    return one_line(f"{type(error).__name__}: {text_of(error)}")


def _give_up_at(store: Store, delivery: Delivery) -> datetime:
    """Outages are outlived up to the task's expiry; what belongs to no task gets as long as a task by default."""
    if delivery.request_id is not None:
        try:
            task = store.get(delivery.request_id)
        except TaskNotFound:
            return delivery.created_at
        return task.expire_at or store.now() + task.expires_after
    return delivery.created_at + timedelta(days=7)
