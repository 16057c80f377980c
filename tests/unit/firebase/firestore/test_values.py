"""What Firestore takes as it is, and how its bytes are counted."""

import json

import pytest

from flask_bgtasks.core.model import Result, Status
from flask_bgtasks.firebase.firestore import documents, values
from flask_bgtasks.firebase.firestore.client import told
from tests.support.tasks import new_task


def nested(depth):
    return json.loads('{"a":' * depth + "1" + "}" * depth)


NUMBERS = [1, -(2**63), 2**63 - 1, 0.5]
TEXTS = ["", "ü"]
SHAPES = [[], {}, {"a.b": 1}, {"_x": 1}, {"__x": 1}, nested(17), [{"a": [1]}]]


@pytest.mark.parametrize("value", [None, True, *NUMBERS, *TEXTS, *SHAPES])
def test_what_can_be_kept_is(value):
    assert values.native(value)


REFUSED = {
    "a number over 64 bits": 2**63,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "half a surrogate pair": "\ud83d",
    "a list in a list": [[1]],
    "the same inside a map": {"a": [[1]]},
    "an empty key": {"": 1},
    "a reserved key": {"__x__": 1},
    "a long key": {"x" * 1501: 1},
    "half a surrogate pair in a key": {"\ud83d": 1},
    "deep": nested(19),
    "many values": list(range(10_001)),
    "no JSON": {"a": object()},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_be_refused_is_known(what):
    assert not values.native(REFUSED[what])


@pytest.mark.parametrize(
    ("value", "size"),
    [("", 1), ("é", 3), (1, 8), (1.5, 8), (None, 1), (True, 1), ([1, "a"], 10), ({"ab": 1}, 32 + 3 + 8)],
)
def test_sizes_are_counted_as_firestore_counts_them(value, size):
    assert values.size(value) == size


@pytest.mark.parametrize(
    ("given", "most", "kept"),
    [
        (None, 9, None),
        ("short", 9, "short"),
        ("a\ud800b", 9, "a�b"),
        ("x" * 10, 9, "x" * 6 + "…"),
        ("é" * 5, 9, "ééé…"),
    ],
)
def test_texts_are_made_valid_and_cut_by_bytes(given, most, kept):
    assert values.text(given, most) == kept
    assert kept is None or len(kept.encode()) <= most


def test_pieces_sort_as_they_come():
    ids = [documents.chunk_id(number) for number in (0, 2, 10, 100)]

    assert sorted(ids) == ids


@pytest.mark.parametrize(
    ("name", "kind"), [("ServiceUnavailable", "RetryLater"), ("PermissionDenied", "Undeliverable")]
)
def test_errors_are_told_apart_by_whether_a_later_try_can_help(name, kind):
    error = told(type(name, (Exception,), {})("x"))

    assert type(error).__name__ == kind


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/jsonl", b"1\n"), ("application/jsonl", b"1\n2\n"), ("application/json", b"not JSON")],
)
def test_a_result_that_is_not_json_comes_back_as_its_bytes(content_type, body):
    task = new_task(status=Status.COMPLETED)

    stored = documents.task_document(task, Result(body, content_type=content_type))

    assert documents.read_result(stored.document, list(stored.chunks)) == body
