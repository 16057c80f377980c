"""Escapes foreign text in log lines, and logs lasting trouble only once a minute.

A header, an address, the answer of another server or an exception's message may hold a line break and what looks like
another line of the log, or a terminal's escape sequences (CWE-117, "Improper Output Neutralization for Logs"). One
filter on the library's logger looks at every argument; records without such characters stay as they are.
"""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Mapping
from typing import Any

LOGGER = "flask_bgtasks"

REPEAT_SECONDS = 60.0
"""Between two lines about a trouble that lasts: a store or a mirror that is down is met several times a second."""

MAX_TEXT = 4000  # characters of one argument

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters (C0, delete, C1), Unicode's line breaks, and halves of surrogate pairs, which no file takes."""

_CONTROL_IN_TRACEBACK = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: str, max_length: int = MAX_TEXT) -> str:
    """A text as one line of visible characters, with control characters escaped, and ``…`` where it is truncated."""
    if len(text) > max_length:
        text = text[: max_length - 1] + "…"
    return _CONTROL.sub(_escaped, text)


class OneLine(logging.Filter):
    """Escapes the control characters in what is logged; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's arguments where needed."""
        arguments = record.args
        if isinstance(arguments, Mapping):
            record.args = {name: _shown(value) for name, value in arguments.items()}
        elif arguments:
            record.args = tuple(_shown(value) for value in arguments)
        if record.exc_info and not record.exc_text and record.exc_info[1] is not None:
            record.exc_text = _traceback(record.exc_info[1])  # which formatters take as it is
        return True


class Recurring:
    """Logs trouble that is met again and again: at once, then once a minute, and once more when it is over.

    Each kind of it, by its message before it is formatted, on its own.

    Used without a lock: of two threads at once both may log it.

    :param seconds: between two lines about it.
    """

    def __init__(self, logger: logging.Logger, *, seconds: float = REPEAT_SECONDS) -> None:
        self._logger = logger
        self._seconds = seconds
        self._said: dict[str, tuple[float, int]] = {}  # when, by time.monotonic, and how often it was met since

    def note(self, message: str, *args: object, level: int = logging.WARNING, exc_info: bool = False) -> None:
        """It was met."""
        now = time.monotonic()
        at, silent = self._said.get(message, (None, 0))
        if at is not None and now - at < self._seconds:
            self._said[message] = (at, silent + 1)
            return
        self._said[message] = (now, 0)
        if silent:
            message, args = message + " (and %d more times since the last such line)", (*args, silent)
        self._logger.log(level, message, *args, exc_info=exc_info)

    def over(self, message: str, *args: object) -> None:
        """What it was in the way of has gone well."""
        if self._said:
            self._said = {}
            self._logger.info(message, *args)


def install() -> None:
    """Have the library's logger filter. Can be called again."""
    logging.getLogger(LOGGER).addFilter(_FILTER)


class _Escaped:
    """An argument whose texts are escaped, whichever way it is formatted."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return one_line(str(self._value))

    def __repr__(self) -> str:
        return one_line(repr(self._value))


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        text = str(value)
    except Exception:  # formatting it fails too, and logging says so
        return value
    return _Escaped(value) if len(text) > MAX_TEXT or _CONTROL.search(text) else value


def _traceback(error: BaseException) -> str:
    """A traceback in which the further lines of a message are indented: they cannot pass for lines of the log."""
    parts = []
    for part in traceback.TracebackException.from_exception(error).format():
        first, *others = part.removesuffix("\n").split("\n")
        structural = not part.strip() or part.startswith(("\n", " ", "Traceback "))
        parts.append("\n".join([first, *(line if structural else f"    {line}" for line in others)]))
    return _CONTROL_IN_TRACEBACK.sub(_escaped, "\n".join(parts))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


_FILTER = OneLine()
