"""No text from outside takes more than its share of time: twice the text, twice the time.

Every regular expression of the package is found and fed with texts that are made of what stands in it, and so is every
parser of foreign text. Measured is the thread's own time, which other processes do not lengthen.
"""

import ast
import contextlib
import importlib
import pkgutil
import random
import re
import statistics
import time
from pathlib import Path

import pytest
from flask import Flask, request

import flask_bgtasks
from example_app import reading
from flask_bgtasks.capture import kept_request
from flask_bgtasks.client.io.sse import EventStreamParser
from flask_bgtasks.core import backoff, devices
from flask_bgtasks.core.text import redaction
from flask_bgtasks.errors import BackgroundTasksError
from flask_bgtasks.http.problems import Problem
from flask_bgtasks.http.requests import json_body, query
from flask_bgtasks.http.streaming import cursors, sse
from flask_bgtasks.http.submission import idempotency, prefer
from flask_bgtasks.http.views import events, task
from flask_bgtasks.sinks.safe_http import GuardedClient

PACKAGE = Path(flask_bgtasks.__file__).parent
SOURCES = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
FUNCTIONS = ("compile", "sub", "subn", "match", "fullmatch", "search", "split", "findall", "finditer")
METHODS = FUNCTIONS[1:]

SMALL = range(12, 49, 4)  # grows by a factor at each step where the time is exponential
LENGTH = 2048
QUICK = 0.0005  # seconds for LENGTH characters: something quadratic takes ten times as long
LARGEST_RATIO = 9  # for four times the text: 4 if linear, 16 if quadratic
TRIES = 40  # texts for each pattern

CHARACTERS = [*"a0 -=\"'\\;,:./@_&?%[({<\n", "é", "A"]


def timed(read, text):
    begun = time.thread_time()
    read(text)
    return time.thread_time() - begun


def grows(read, begin, pump, end):
    """Whether a text of many pumps takes more than its share of time."""

    def text(length):
        return begin + pump * (length // len(pump)) + end

    for length in SMALL:
        if timed(read, text(length)) > 0.02 and min(timed(read, text(length)) for _ in range(3)) > 0.02:
            return True
    if timed(read, text(LENGTH)) < QUICK:
        return False
    # Side by side: a machine that is slow for a moment is slow for both, and one moment of five decides nothing.
    ratios = [timed(read, text(4 * LENGTH)) / timed(read, text(LENGTH)) for _ in range(5)]
    return statistics.median(ratios) >= LARGEST_RATIO


def hostile(words, seed):
    """Texts that repeat something, after something, before something that does not match."""
    draw = random.Random(seed)
    pieces = CHARACTERS + words
    for character in CHARACTERS:
        yield "", character, ""
        yield "a" + character, character, "\x00"
    for word in words:
        yield "", word, ""
        yield "", "-" + word, "!"
    for _ in range(TRIES):
        pump = "".join(draw.choices(pieces, k=draw.randint(1, 3)))
        yield draw.choice(["", *pieces]), pump, draw.choice(["", "\x00", *CHARACTERS])


def patterns():
    """Every compiled pattern of the package's modules, by its place; and those written where they are used."""
    found = {}
    for module in [flask_bgtasks, *pkgutil.walk_packages(flask_bgtasks.__path__, "flask_bgtasks.")]:
        name = getattr(module, "name", "flask_bgtasks")
        if name.endswith("__main__"):
            continue
        try:
            namespace = vars(importlib.import_module(name))
        except ImportError:  # an extra that is not installed
            continue
        for constant, value in namespace.items():
            for number, pattern in enumerate(_patterns_in(value)):
                found.setdefault((pattern.pattern, pattern.flags), f"{name}.{constant}[{number}]")
    for path, source in SOURCES.items():
        for call in _calls(ast.parse(source)):
            if call.args and isinstance(call.args[0], ast.Constant):
                pattern = re.compile(call.args[0].value)
                found.setdefault((pattern.pattern, pattern.flags), f"{path.stem}:{call.lineno}")
    return sorted(((place, re.compile(*key)) for key, place in found.items()), key=lambda pair: pair[0])


def _patterns_in(value):
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _patterns_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _patterns_in(item)


def _calls(tree):
    for node in ast.walk(tree):
        function = node.func if isinstance(node, ast.Call) else None
        if isinstance(function, ast.Attribute) and function.attr in FUNCTIONS and ast.unparse(function.value) == "re":
            yield node


def readers(place, pattern):
    """How the package reads with a pattern; in every way where that cannot be told."""
    name = place.rpartition(".")[2].partition("[")[0]
    used = {
        method
        for source in SOURCES.values()
        for method in re.findall(rf"\b{re.escape(name)}\.({'|'.join(METHODS)})\(", source)
    }
    for method in sorted(used or {"fullmatch", "search", "sub"}):
        call = getattr(pattern, method)
        yield method, (lambda text, call=call: call("*", text)) if method in ("sub", "subn") else call


def worst(place, pattern, methods=METHODS):
    """A text for which a pattern takes more than its share of time, None if none was found."""
    literal = re.sub(r"\\[a-zA-Z]", " ", pattern.pattern)
    words = sorted(set(re.findall(r"[A-Za-z0-9]{2,}|[:/.-]{2,}", literal)), key=lambda word: (len(word), word))[:20]
    for method, read in readers(place, pattern):
        if method not in methods:
            continue
        for begin, pump, end in hostile(words, seed=place):
            if grows(read, begin, pump, end):
                return method, begin, pump, end
    return None


ALL = patterns()


@pytest.mark.parametrize(("place", "pattern"), ALL, ids=[place for place, _ in ALL])
def test_a_pattern_takes_time_in_proportion_to_the_text(place, pattern):
    assert worst(place, pattern) is None


def test_every_pattern_of_the_package_is_among_those_that_are_measured():
    """A pattern is a constant of its module, or a literal; not put together where it is used."""
    for path, source in SOURCES.items():
        tree = ast.parse(source)
        at_import = {id(call) for statement in tree.body if not _defines(statement) for call in _calls(statement)}
        for call in _calls(tree):
            literal = call.args and isinstance(call.args[0], ast.Constant)
            assert literal or id(call) in at_import, f"{path}:{call.lineno}"
    assert len(ALL) > 30


def _defines(statement):
    return isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


@pytest.mark.parametrize(
    "planted",
    [
        r"(a+)+$",  # exponential
        r"(?:\s*;\s*a?)*\s*$",  # what Prefer was read with
        r"\beyJ[\w-]+\.[\w-]+",  # what redaction had
        r"\s+$",
        r"(.*?),(.*?)=",
    ],
)
def test_a_pattern_that_takes_more_than_its_share_is_found(planted):
    assert worst("planted", re.compile(planted), methods=["search"]) is not None


def feed_whole(text):
    list(EventStreamParser().feed(text.encode()))


def feed_in_pieces(text):
    parser = EventStreamParser()
    for begin in range(0, len(text), 16):
        list(parser.feed(text[begin : begin + 16].encode()))


APP = Flask(__name__)


def read_accept(text):
    with APP.test_request_context(headers={"Accept": re.sub(r"[\r\n]", " ", text)}), contextlib.suppress(Problem):
        events._wanted(("text/event-stream", "application/json"))


def read_accept_language(text):
    with APP.test_request_context(headers={"Accept-Language": re.sub(r"[\r\n]", " ", text)}):
        json_body.spoken(request)


DOOR = GuardedClient()
ID = "11111111-2222-4333-8444-555555555555"

PARSERS = {
    "redaction": redaction.redact,
    "an address to show": redaction.origin,
    "Prefer": prefer.parse,
    "Idempotency-Key": idempotency.parse,
    "?idempotency_key=": idempotency.parse_parameter,
    "If-None-Match": lambda text: task._matches(text, '"1"'),
    "Accept": read_accept,
    "Accept-Language": read_accept_language,
    "Last-Event-ID": lambda text: cursors.parse_one(text, ID),
    "Last-Event-ID of several": lambda text: cursors.parse_many(text, [ID]),
    "?wait=": lambda text: query.seconds("wait", text, maximum=60),
    "?limit=": lambda text: query.whole("limit", text, default=50, maximum=100),
    "?ids=": query.ids,
    "?status=": query.statuses,
    "a language": json_body.is_language,
    "Retry-After": backoff.retry_after_seconds,
    "Host": lambda text: kept_request._name_and_port(text, "http"),
    "Content-Type": lambda text: kept_request.fingerprint(
        {"method": "", "path": "", "query": "", "headers": [["Content-Type", text]], "text": ""}
    ),
    "a user_token": devices.of_user_token,
    "a webhook's address": DOOR.check,
    "a webhook's host": lambda text: DOOR.check(f"https://{text}/"),
    "output to stream": lambda text: sse.event("output", text),
    "a stream": feed_whole,
    "a stream in pieces": feed_in_pieces,
}

WORDS = ["password=", "eyJ", "://", "Bearer ", '": "', "multipart/form-data; ", "data:", "\r\n", "W/", "wait=1", ID]


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_of_foreign_text_takes_time_in_proportion_to_it(name):
    def read(text):
        with contextlib.suppress(Problem, BackgroundTasksError, ValueError):
            PARSERS[name](text)

    for begin, pump, end in hostile(WORDS, seed=name):
        assert not grows(read, begin, pump, end), (begin, pump, end)


def test_a_hostile_prefer_header_is_read_in_no_time():
    """What held the interpreter for seconds with 47 bytes, and for ever with 80."""
    assert timed(prefer.parse, "a;" + "  ;" * 15 + "=") < 0.1
    assert timed(prefer.parse, "a;" + "  ;" * 300 + "=") < 0.1


def test_a_hostile_error_text_is_redacted_in_no_time():
    for pump in ("-eyJ", "eyJ.", "password=", "://a:", "Authorization: ", "'password': '", "a.", "\\"):
        assert timed(redaction.redact, pump * (80_000 // len(pump))) < 1.0


@pytest.mark.parametrize("header", ["a" + " " * 8000 + "/b", ",".join(["a" + " " * 800 + "/b"] * 100), "a\t;" * 2000])
def test_a_hostile_accept_header_is_read_in_no_time(header):
    """Werkzeug takes the square of a run of blanks, for each type that is offered: a second for 8 kB."""
    assert timed(read_accept, header) < 0.1


# -- the demo, which takes anybody's text ------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [*_patterns_in([*vars(reading).values()])], ids=lambda pattern: pattern.pattern)
def test_a_pattern_of_the_demo_takes_time_in_proportion_to_the_text(pattern):
    assert worst("reading", pattern, methods=["search", "sub"]) is None


PASTED = [
    "*a ",
    "_a ",
    "**a ",
    "[image ",
    "[figure",
    " ",
    " \n",
    "- ",
    "--",
    "«",
    "“",
    "'",
    "。",
    "a。",
    "a. ",
    "a, ",
    "# a\n",
]


@pytest.mark.parametrize("pump", PASTED)
def test_the_demo_reads_any_text_in_proportion_to_it(pump):
    few, many = (pump * (length // len(pump)) for length in (20_000, 80_000))

    for _ in range(2):  # twice, before it is believed
        if timed(reading.read, many) < max(0.3, timed(reading.read, few) * LARGEST_RATIO):
            return
    pytest.fail(f"{pump!r} takes more than its share of time")
