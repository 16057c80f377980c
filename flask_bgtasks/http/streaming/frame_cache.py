"""The bytes of events, made once for all the streams of this process that tell them.

A task that a thousand clients follow is encoded once for each of its events, not a thousand times: most of what telling
an event cost. Knows no owner: a stream asks for the events of tasks that its client may read.
"""

from __future__ import annotations

from ...core.documents import event_document
from ...core.model import Event
from ..responses.representation import dumps
from . import sse

MAX_BYTES = 4 * 2**20
"""Of the frames that are kept: many times what streams that are at their end ask for at one moment."""


class FrameCache:
    """The frames of one app's events, each without the ``id:`` line: that depends on the stream."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        # Each call on the dict is atomic, and what two threads make at the same time is the same: no lock. The size is
        # an estimate for that reason.
        self._frames: dict[tuple[str, int], bytes] = {}
        self._size = 0

    def frame(self, request_id: str, event: Event) -> bytes:
        """An event's ``event:`` and ``data:`` lines, and the empty line that ends it."""
        key = (request_id, event.seq)  # an event never changes once it is stored
        frame = self._frames.get(key)
        if frame is None:
            frame = sse.event(event.type.value, dumps(event_document(request_id, event)).decode())
            if self._size + len(frame) > self._max_bytes:
                self._frames.clear()  # what is still asked for is made again once
                self._size = 0
            self._frames[key] = frame
            self._size += len(frame)
        return frame
