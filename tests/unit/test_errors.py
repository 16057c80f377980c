"""Errors go through pickle, as a broker or a process pool sends them, with message and fields."""

import copy
import pickle
from datetime import datetime, timezone

import pytest

from flask_bgtasks import errors

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EXAMPLES = [
    errors.BackgroundTasksError("why"),
    errors.ConfigurationError("why"),
    errors.TaskNotFound("7"),
    errors.TaskExpired("7", NOW),
    errors.TransitionRefused("7", status="started", change="claim", why="because"),
    errors.TaskFinished("7", status="failed", change="claim"),
    errors.AlreadyClaimed("7", status="processing", worker="here", until=NOW),
    errors.AtCapacity("7", status="started", name="report", limit=2),
    errors.LeaseLost("7", attempt=1, holder=2, status="processing"),
    errors.IdempotencyConflict("7"),
    errors.StoreUnavailable("why"),
    errors.StoreUnusable("why", "its file is damaged"),
    errors.OutcomeUnknown("why", "7"),
    errors.NotStorable("why"),
    errors.AccessDenied("why"),
    errors.LimitReached("full", limit=3, retry_after=5),
    errors.QueueFull(3),
    errors.AnonymousQueueFull(3),
    errors.OwnerQueueFull(3),
    errors.ShuttingDown(),
    errors.PayloadTooLarge("a result", size=7, limit=5, setting="BGTASKS_MAX_RESULT_BYTES", mend="Send less"),
    errors.NotSerializable("why"),
    errors.TaskFailed("7", None, error_type="ValueError"),
    errors.LoginLost("7", 401, ["Authorization"]),
    errors.TaskWasCancelled("7"),
    errors.WaitTimeout("7", 2.5),
    errors.RetryLater("busy", after=3, tried=False),
    errors.Undeliverable("why"),
    errors.DeviceGone("why", device_id="d1"),
    errors.Overloaded("busy", after=3),
    errors.TaskTimeout("7", 2.5),
    errors.TaskCancelled("7"),
]


def every_error():
    return {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
    }


def test_every_error_has_an_example():
    assert {type(error) for error in EXAMPLES} == every_error()


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"])
@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_with_message_and_fields(error, again):
    restored = again(error)

    assert type(restored) is type(error)
    assert (str(restored), restored.args, vars(restored)) == (str(error), error.args, vars(error))
