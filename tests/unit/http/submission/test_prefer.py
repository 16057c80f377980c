"""``Prefer`` is read as RFC 7240 says: what is malformed or unknown is ignored, the first of two counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.http.submission.prefer import NOTHING, Prefer, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, NOTHING),
        ("", NOTHING),
        ("respond-async", Prefer(respond_async=True)),
        ("Respond-Async", Prefer(respond_async=True)),
        ("wait=10", Prefer(wait=10)),
        ("wait = 10", Prefer(wait=10)),
        ('wait="10"', Prefer(wait=10)),
        ("wait=0", Prefer(wait=0)),
        ("wait=0.5", Prefer(wait=0.5)),
        ("wait=1e9", Prefer(wait=1e9)),
        ("respond-async, wait=10", Prefer(respond_async=True, wait=10)),
        ("respond-async,wait=10", Prefer(respond_async=True, wait=10)),
        ("handling=lenient, wait=100, respond-async", Prefer(respond_async=True, wait=100)),
        ('foo="a, wait=5; b"; x="y, z", wait=7', Prefer(wait=7)),
        (r'foo="quote \" inside, wait=5", wait=7', Prefer(wait=7)),
        ("priority=5; respond-async", NOTHING),  # a parameter of another preference
        ("wait=3, wait=30", Prefer(wait=3)),
        ("return=minimal", NOTHING),
        (", ,respond-async, ,", Prefer(respond_async=True)),
        ("respond-async ; a ; b = c;; , wait = 5 ; x", Prefer(respond_async=True, wait=5)),
        ('a="never closed, respond-async, wait=2', Prefer(respond_async=True, wait=2)),
        ("respond-async" + " " * 988, NOTHING),  # longer than what is read
    ],
)
def test_preferences_are_read(header, expected):
    assert parse(header) == expected


@pytest.mark.parametrize(
    "header", ["wait=abc", "wait=-1", "wait=", "wait", "wait=nan", "wait=inf", 'wait="', "=5", "@"]
)
def test_a_malformed_preference_is_ignored(header):
    assert parse(header) == NOTHING


@pytest.mark.parametrize("header", ["wait=abc, respond-async", "@@, respond-async", '"x", respond-async'])
def test_a_malformed_preference_does_not_hide_the_next(header):
    assert parse(header).respond_async


@given(st.text(max_size=200))
def test_no_header_breaks_the_parser(header):
    assert isinstance(parse(header), Prefer)


def test_a_long_hostile_header_is_read_in_no_time():
    assert parse("a;" * 4000) == NOTHING
    assert parse('a="' + "\\" * 8000) == NOTHING
    assert parse("a" * 8000 + "@") == NOTHING
