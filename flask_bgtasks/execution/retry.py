"""Decides whether a failed attempt is retried, and after how long. Pure, except for randomness."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException

from ..core.backoff import retry_after_seconds
from ..core.definitions import TaskOptions
from ..core.model import LOGIN_LOST, PASSING
from ..errors import NotSerializable, PayloadTooLarge, RetryLater
from .invocation import CallResult

MAX_WAIT_SECONDS = 86_400.0  # that a Retry-After is believed


def wait_before_retry(options: TaskOptions, failures: int, answer: CallResult) -> float | None:
    """Seconds until the next attempt; None if there is none.

    :param failures: how many attempts have failed before this one.
    """
    if failures >= options.retries or not _is_passing(options.retry_on, answer):
        return None
    wait = options.waits.wait(failures + 1)
    asked = _asked(answer)
    # Not all that were told the same come back at the same moment.
    return wait if asked is None else min(MAX_WAIT_SECONDS, asked + min(wait, options.waits.first))


def _is_passing(retry_on: Any, answer: CallResult) -> bool:
    """Whether what went wrong may go right the next time."""
    error = answer.exception
    wanted = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if isinstance(error, (NotSerializable, PayloadTooLarge)) or answer.error_type == LOGIN_LOST:
        return False
    if isinstance(error, RetryLater):
        return True
    if error is not None and not isinstance(error, HTTPException):
        return isinstance(error, wanted)
    if error is not None and any(issubclass(one, HTTPException) and isinstance(error, one) for one in wanted):
        return True
    if Exception not in wanted and HTTPException not in wanted:
        return False
    status = answer.result.status_code if answer.result is not None else 500
    return status >= 500 or status in PASSING


def _asked(answer: CallResult) -> float | None:
    """The seconds that the failure itself asks to wait: a ``Retry-After``, as RFC 9110 (10.2.3) has it, or ours."""
    error = answer.exception
    if isinstance(error, RetryLater):
        return error.after
    for value in (getattr(error, "retry_after", None), _header(error), answer.retry_after):
        seconds = retry_after_seconds(value)
        if seconds is not None:
            return seconds
    return None


def _header(error: BaseException | None) -> Any:
    """What the HTTP client libraries (requests, httpx, and those on top of them) keep of the answer that they got."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    return headers.get("Retry-After") if hasattr(headers, "get") else None
