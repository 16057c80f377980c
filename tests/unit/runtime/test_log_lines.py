"""What strangers send stays in its own line of the log."""

import io
import logging

import pytest

from flask_bgtasks.runtime.log_lines import MAX_TEXT, OneLine, one_line

FORGED = "x\n2026-01-01 INFO admin logged in"


@pytest.fixture
def written():
    """A logger with the filter, and what was written by it."""
    log, stream = logging.getLogger("tests.log_lines"), io.StringIO()
    log.propagate = False
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    log.addHandler(handler)
    log.addFilter(made := OneLine())

    def write(*args, **kwargs):
        log.error(*args, **kwargs)
        text = stream.getvalue()
        stream.truncate(0)
        stream.seek(0)
        return text

    yield write
    log.removeHandler(handler)
    log.removeFilter(made)


HOSTILE = ["\n", "\r", "\r\n", "\x1b[2J", "\x00", "\x08", "\x7f", "\x85", "\x9b31m", "\u2028", "\u2029", "\ud800"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
@pytest.mark.parametrize("form", [str, ValueError, lambda text: {"said": text}, lambda text: [text]])
def test_control_characters_are_escaped(written, text, form):
    line = written("a client said %s", form(f"before{text}after"))

    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert "before" in line
    assert "after" in line


@pytest.mark.parametrize(
    "argument", ["plain", "größe 🎈", 7, 1.5, None, True, ValueError("it broke"), ("a", 1), {"a": "b"}]
)
def test_what_has_none_is_logged_as_it_is(argument):
    record = logging.LogRecord("x", logging.INFO, "x", 1, "said %s", (argument, 1), None)

    OneLine().filter(record)

    assert record.args == (argument, 1)


def test_numbers_and_names_are_formatted_as_before(written):
    assert written("%d of %.1f: %r", 3, 4.25, "a\nb") == "ERROR 3 of 4.2: 'a\\nb'\n"
    assert written("%(who)s has %(n)d", {"who": "a\nb", "n": 3}) == "ERROR a\\nb has 3\n"
    assert written("100% sure") == "ERROR 100% sure\n"


def test_a_very_long_text_is_truncated(written):
    assert len(written("said %s", "x" * 10**6)) < MAX_TEXT + 100
    assert one_line("x" * 50, max_length=10) == "x" * 9 + "…"


def test_a_message_in_a_traceback_cannot_pass_for_a_line_of_the_log(written):
    try:
        try:
            raise ValueError(FORGED + "\x1b[2J")
        except ValueError as error:
            raise RuntimeError(FORGED) from error
    except RuntimeError:
        text = written("it broke", exc_info=True)

    assert "\nRuntimeError: x\n" in text
    assert "direct cause" in text
    assert not any(line.startswith("2026") for line in text.splitlines())
    assert "\x1b" not in text
    assert "raise RuntimeError(FORGED)" in text


def test_what_cannot_be_shown_is_left_to_the_handlers():
    class Odd:
        def __str__(self):
            raise RuntimeError("no")

    odd = Odd()
    record = logging.LogRecord("x", logging.INFO, "x", 1, "said %s", (odd,), None)

    assert OneLine().filter(record)
    assert record.args == (odd,)


def test_the_librarys_logger_has_it_once():
    from flask import Flask

    from flask_bgtasks import BackgroundTasks

    for _ in range(2):
        BackgroundTasks(Flask("app"), store="memory://", runner="inline")

    assert sum(isinstance(one, OneLine) for one in logging.getLogger("flask_bgtasks").filters) == 1
