"""JSON on its way in, which is refused with its place, and on its way out, which cannot fail."""

import json
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks.core.text import json_values
from flask_bgtasks.core.text.json_values import NotJson, checked, dumps, encode, repeated, snapshot

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@dataclass
class Point:
    x: int


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def in_itself():
    value = []
    value.append(value)
    value.append(value)
    return value


NO_JSON = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "a set": {1},
    "bytes": b"x",
    "a dataclass": Point(1),
    "a Decimal": Decimal(1),
    "a complex number": 1j,
    "an object": object(),
    "keys that are no texts": {(1, 2): 3},
    "1,000 levels": nested(1000),
    "100,000 levels": nested(100_000),
    "201 levels": nested(201),
    "a list in itself": in_itself(),
}


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
def test_what_is_not_json_is_refused_on_the_way_in(value):
    with pytest.raises(NotJson):
        encode({"a": value})


@pytest.mark.parametrize("value", NO_JSON.values(), ids=NO_JSON)
def test_what_is_not_json_is_written_all_the_same_on_the_way_out(value):
    if value is not NO_JSON["a list in itself"]:  # documents are trees
        json.loads(dumps({"a": value}))


def test_the_place_is_said():
    with pytest.raises(NotJson, match=r"at value\['scores'\]\[1\]"):
        encode({"scores": [1, {2}]})


@given(ANY_JSON)
def test_what_goes_in_comes_out_as_valid_utf_8(value):
    text = encode(value)

    assert json.loads(dumps(json.loads(text))) == json.loads(text)
    assert json.loads(dumps(value).decode()) == json.loads(text)


@given(ANY_JSON)
def test_the_size_of_a_snapshot_is_that_of_its_json_in_utf_8(value):
    copied, size = snapshot(value)

    assert size == len(json.dumps(copied, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_snapshot_does_not_change_with_its_original():
    value = {"a": [1]}
    copied, _ = snapshot(value)
    value["a"].append(2)

    assert copied == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('"\\ud83d"', "\ufffd"),
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\\\ud83d"', "\\ud83d"),
        ('"\ud83d"', "\ufffd"),
        ('"NaN and Infinity"', "NaN and Infinity"),
        ('{"\\udc00": [1]}', {"\ufffd": [1]}),
    ],
)
def test_json_of_an_apps_own_encoder_is_cleaned(text, kept):
    assert json.loads(checked(text)) == kept


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "[" * 201 + "]" * 201, "[" * 5000 + "]" * 5000])
def test_json_that_others_cannot_read_is_refused(text):
    with pytest.raises(NotJson):
        checked(text)


def test_a_stored_answer_is_repeated_as_valid_json_or_not_at_all():
    assert repeated(b'{"a": NaN}') == b'{"a":null}'
    assert repeated(b'"\\ud83d"') == '"\ufffd"'.encode()
    assert repeated(b"[" * 1000 + b"]" * 1000) is None
    assert json_values.parsed(b"[" * 100_000 + b"]" * 100_000) is None
    with pytest.raises(ValueError):
        repeated(b"<html>")
