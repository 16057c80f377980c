"""An attempt on the request's own thread: the view is called as usual, and its answer is stored.

Flask makes the answer, also from an exception, and tears the context down. Only then is the end of the attempt stored,
so that a commit which fails in a teardown function fails the task. Knows how to end an attempt, not its caller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Response

from ..errors import CancelRequested, PayloadTooLarge
from ..pipeline import reporting
from ..pipeline.attempt import RunningAttempt
from . import invocation
from .invocation import CallResult

log = logging.getLogger("flask_bgtasks")


SHORT_BYTES = 65_536
"""An iterator that says that it is no longer than this is read at once: no client waits for its first byte."""


class Superseded(BaseException):
    """Ends the request of an attempt that failed and is followed by another one.

    Not an :class:`Exception`: nobody is to handle or report it, and the teardown functions are to see it.
    """


class Foreground:
    """An attempt whose view is called by a request.

    :param finish: stores what it came to; whether another attempt follows. :param retried: whether one would.
    :param stop: it was told to stop and did; whether somebody else goes on with its task.
    :param interrupt: its thread is being ended: gives its lease up.
    """

    def __init__(
        self,
        running: RunningAttempt,
        *,
        name: str,
        max_bytes: int,
        finish: Callable[[CallResult], bool],
        retried: Callable[[CallResult], bool],
        stop: Callable[[], bool],
        interrupt: Callable[[], None],
    ) -> None:
        self.request_id = running.request_id
        self._running = running
        self._name = name
        self._max_bytes = max_bytes
        self._finish = finish
        self._retried = retried
        self._stop = stop
        self._interrupt = interrupt
        self._error: BaseException | None = None
        self._answer: CallResult | None = None
        self._streams = False
        self._ended = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make it the attempt that the pipeline reports into."""
        before = reporting.enter(self._running)
        try:
            self._running.check()
            yield
        finally:
            reporting.leave(before)

    # -- how the view ended ------------------------------------------------------------------------------------------

    def raised(self, error: Exception) -> None:
        """The view, or a decorator around it, raised.

        :raises Superseded: another attempt follows.
        """
        self._error = error
        self._superseded(invocation.failed_answer(error))

    def refused(self, response: Response) -> None:
        """The view gave an answer that says that it failed.

        :raises Superseded: another attempt follows.
        """
        if response.status_code >= 400 and not response.is_streamed:
            result = invocation.stored_response(response, self._name, self._max_bytes)
            self._superseded(invocation.answer_of(response, result, None))

    def _superseded(self, answer: CallResult) -> None:
        if self._retried(answer):
            self._answer = answer
            raise Superseded

    def take(self, response: Response) -> None:
        """Keep what the client is answered; called when the answer is complete, before the app changes its coding."""
        self._streams = self._is_stream(response)
        if self._streams:
            response.response = _Recorded(response.iter_encoded(), self, response)
            return
        response.make_sequence()  # an iterator gives its parts once, and the client is to get them too
        try:
            result = invocation.stored_response(response, self._name, self._max_bytes)
        except PayloadTooLarge as error:
            self._answer = invocation.failed_answer(error)
        else:
            self._answer = invocation.answer_of(response, result, self._error)

    def _is_stream(self, response: Response) -> bool:
        """Whether the client is to get the answer piece by piece. Werkzeug's answers to errors are iterators too."""
        if response.direct_passthrough:
            return True
        length = response.content_length
        return response.is_streamed and self._error is None and (length is None or length > SHORT_BYTES)

    # -- how the request ended ---------------------------------------------------------------------------------------

    def end(self) -> bool:
        """The request was answered; whether another attempt follows. A stream ends its attempt itself."""
        if self._streams:
            return False
        if self._answer is None:
            missing = self._error or RuntimeError("the request ended without an answer")
            self._answer = invocation.failed_answer(missing)
        return self._end(self._answer)

    def broke(self, error: BaseException) -> None:
        """The request ended with an exception: of the view, or of a teardown function that could not commit."""
        self._end(invocation.failed_answer(self._error or error))

    def stopped(self) -> bool:
        """The view stopped because it was told to; whether somebody else goes on with the task."""
        if self._ended:
            return False
        self._ended = True
        return self._stop()

    def interrupt(self) -> None:
        """The thread is being ended from outside: gunicorn's timeout, Ctrl-C."""
        if not self._ended:
            self._ended = True
            self._interrupt()

    def _end(self, answer: CallResult) -> bool:
        if self._ended:
            return False
        self._ended = True
        return self._finish(answer)

    # -- streams -----------------------------------------------------------------------------------------------------

    def streamed(self, response: Response, parts: list[bytes] | None, size: int, error: BaseException | None) -> None:
        """A streamed answer has ended.

        :param parts: what was sent; None if it was more than is stored.
        """
        if isinstance(error, CancelRequested):
            self.stopped()
        elif error is not None:
            self._end(invocation.failed_answer(error))
        elif parts is None:
            self._end(invocation.failed_answer(invocation.too_large(self._name, size, self._max_bytes)))
        else:
            result = invocation.head_of(response, b"".join(parts))
            self._end(invocation.answer_of(response, result, self._error))

    @property
    def max_bytes(self) -> int:
        """The largest answer that is stored."""
        return self._max_bytes


class _Recorded:
    """The body of a streamed answer on its way to the client, kept meanwhile.

    Where the client leaves, the rest is read for the task; but not more than is stored.
    """

    def __init__(self, body: Iterable[bytes], foreground: Foreground, response: Response) -> None:
        self._original: Any = response.response
        self._body = iter(body)
        self._foreground = foreground
        self._response = response
        self._parts: list[bytes] | None = []
        self._size = 0
        self._over = False

    def __iter__(self) -> _Recorded:
        return self

    def __next__(self) -> bytes:
        try:
            with self._foreground.inside():
                part = next(self._body)
        except StopIteration:
            self._finish(None)
            raise
        except BaseException as error:
            self._finish(error)
            raise
        self._size += len(part)
        if self._size > self._foreground.max_bytes:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(part)
        return part

    def close(self) -> None:
        """Called by the server when the answer is sent, or its client has gone."""
        try:
            while not self._over and self._parts is not None:
                next(self)
        except StopIteration:
            return
        except Exception:
            log.exception("task %s: its stream broke after its client had left", self._foreground.request_id)
        finally:
            close = getattr(self._original, "close", None)
            if close is not None:
                close()
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        if not self._over:
            self._over = True
            self._foreground.streamed(self._response, self._parts, self._size, error)
