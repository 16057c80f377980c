"""Tasks whose end is notified, in a store whose clock stands at night."""

from datetime import datetime, timedelta, timezone

from flask_bgtasks.core.model import Result, TaskKind
from flask_bgtasks.core.transitions.attempt import Claim, Complete
from tests.support.tasks import new_task

NIGHT = datetime(2026, 1, 1, 23, 30, tzinfo=timezone.utc)


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = NIGHT

    def __call__(self):
        return self.now


def start_one(store, deliveries, *, owner="anna", user_token=None, name="process"):
    """A task in its first attempt; its id."""
    task = new_task(name=name, kind=TaskKind.VIEW, at=NIGHT, owner=owner, user_token=user_token)
    store.create(task, input={}, deliveries=deliveries.for_change)
    store.transition(task.request_id, Claim("w", timedelta(seconds=60)), deliveries=deliveries.for_change)
    return task.request_id


def finish_one(store, deliveries, change=None, **fields):
    """A task that has ended, by itself or by a change; its id."""
    request_id = start_one(store, deliveries, **fields)
    change = change or Complete(1, Result(b'{"topic": "whales"}'))
    store.transition(request_id, change, deliveries=deliveries.for_change)
    return request_id


def nothing_pending(store):
    return store.stats().deliveries_pending == 0
