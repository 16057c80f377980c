"""Idempotency keys: which ones there are, and where they count."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.http.problems import Problem
from flask_bgtasks.http.submission.idempotency import MAX_LENGTH, parse, parse_parameter, scope

KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


def test_no_header_is_no_key():
    assert parse(None) is None


@pytest.mark.parametrize("header", [KEY, f'"{KEY}"', f'  "{KEY}" ', f'"{KEY}"; v=1'])
def test_the_drafts_quoted_form_and_the_bare_one_are_the_same_key(header):
    assert parse(header) == KEY


@pytest.mark.parametrize(
    ("header", "key"), [(r'"a\"b"', 'a"b'), (r'"a\\b"', "a\\b"), ("a;b", "a;b"), ("x" * MAX_LENGTH, "x" * MAX_LENGTH)]
)
def test_odd_keys_are_keys(header, key):
    assert parse(header) == key


@pytest.mark.parametrize(
    "header", ["", '""', '"', '"abc', '"abc"def', "a b", "schlüssel", "\x7f", "x" * (MAX_LENGTH + 1), r'"a\b"', "a\tb"]
)
def test_what_is_no_key_is_refused(header):
    with pytest.raises(Problem) as caught:
        parse(header)

    assert caught.value.type.name == "invalid-idempotency-key"
    assert caught.value.type.status == 400


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=MAX_LENGTH))
def test_every_visible_text_is_a_key_when_it_is_quoted(key):
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')

    assert parse(f'"{quoted}"') == key


@pytest.mark.parametrize(("text", "key"), [(KEY, KEY), (f'"{KEY}"', KEY), ('"', '"'), ('""', '""'), (r'"\""', '"')])
def test_a_key_in_an_address_is_bare_or_as_it_stood_in_the_header(text, key):
    assert parse_parameter(text) == key


@pytest.mark.parametrize("text", ["", " a", "a b", "ü", "x" * (MAX_LENGTH + 1)])
def test_what_is_no_key_in_an_address_is_refused(text):
    with pytest.raises(Problem) as caught:
        parse_parameter(text)

    assert caught.value.members["parameter"] == "idempotency_key"


def test_owner_task_and_key_each_make_another_scope():
    scopes = {scope(*parts) for parts in itertools.product((None, "", "ann", "bob"), ("a", "b"), ("k", "l"))}

    assert len(scopes) == 4 * 2 * 2


def test_parts_do_not_flow_into_each_other():
    assert scope("ann", "ab", "c") != scope("ann", "a", "bc")


def test_a_scope_shows_nothing_of_what_it_is_made_from():
    assert "ann" not in scope("ann", "process", KEY)
    assert KEY not in scope("ann", "process", KEY)
