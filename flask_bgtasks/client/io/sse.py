"""Reads Server-Sent Events from bytes as they come (WHATWG HTML, section 9.2.6). Pure.

A chunk may end anywhere: in a character, between CR and LF, in a field. An event that is not finished is dropped.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")

MAX_CHARACTERS = 64 * 2**20
"""Of one event that does not end: four times the largest output that a server keeps unless it is told otherwise."""


class NotAnEventStream(ValueError):
    """An event is larger than any that a server would send."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. ``id`` is the newest that the stream has given, with this event or before it."""

    type: str
    data: str
    id: str


class EventStreamParser:
    """Fed with the bytes of one stream; gives the events that they complete.

    ``retry`` is what the server asks to wait before the next connection, in seconds; None until it does.
    """

    def __init__(self) -> None:
        self.retry: float | None = None
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._begun: list[str] = []  # pieces of the line that has not ended yet
        self._after_cr = False  # an LF now would belong to the line end before it
        self._id = ""
        self._type = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that end in this chunk. :raises NotAnEventStream: one does not end."""
        text = self._decode(chunk)
        if not text:
            return
        doubled = self._after_cr and text.startswith("\n")
        self._after_cr = text.endswith("\r")
        *ended, rest = _LINE_END.split(text[1:] if doubled else text)
        for line in ended:
            self._begun.append(line)
            event = self._line("".join(self._begun))
            self._begun.clear()
            if event is not None:
                yield event
        self._begun.append(rest)
        self._size += len(rest)
        if self._size > MAX_CHARACTERS:
            raise NotAnEventStream(f"an event is longer than {MAX_CHARACTERS} characters")

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value) / 1000
        return None  # comments have an empty name

    def _dispatch(self) -> ServerSentEvent | None:
        data, type = self._data, self._type
        self._data, self._type, self._size = [], "", 0
        return ServerSentEvent(type or "message", "\n".join(data), self._id) if data else None
