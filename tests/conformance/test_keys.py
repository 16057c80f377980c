"""Ids, names and cursors as strangers send them: in every store they name nothing, and break nothing."""

import base64
from datetime import timedelta
from functools import partial

import pytest

from flask_bgtasks import TaskNotFound
from flask_bgtasks.core.transitions.outside import MarkSeen
from flask_bgtasks.stores.types import TaskQuery
from tests.support.stored_input import stored_input

ODD = [
    "",
    ".",
    "..",
    "a/b",
    "/",
    "a/b/c",
    "__x__",
    "____",
    "\x00",
    "a\x00b",
    "\n",
    "\x1b[31m",
    "\ud800",
    "x" * 2000,
    "é" * 1000,
    "tasks/../tasks",
    "\u2028",
]


def encoded(text):
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()


CURSORS = [
    "",
    "x",
    "!",
    "é",
    "\x00",
    "a b",
    "=" * 9,
    "١٢٣",
    encoded(""),
    encoded("|"),
    encoded("1"),
    encoded("1|"),
    encoded("-1|a"),
    encoded(" 1|a"),
    encoded("1_0|a"),
    encoded("１２|a"),
    encoded("1e3|a"),
    encoded(f"{2**63}|a"),
    encoded(f"{2**64}|a"),
    encoded(f"{10**17 * 9}|a"),
    encoded("9" * 400 + "|a"),
    encoded("1|\x00"),
    encoded("1|a/b"),
    encoded("1|__x__"),
    encoded("1|\ud800"),
    encoded("2026-01-01|a"),
    encoded("2026-01-01T00:00:00+00:00|a"),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
]


def test_an_id_that_none_can_have_is_not_there(bench, store):
    for key in ODD:
        for ask in (
            store.get,
            store.events,
            partial(stored_input, store),
            store.load_result,
            store.delete,
            lambda key: store.transition(key, MarkSeen("poll")),
            lambda key: store.claim(key, worker="w", lease=timedelta(seconds=9)),
        ):
            with pytest.raises(TaskNotFound):
                ask(key)
        assert store.versions([key]) == {}
        assert store.find(TaskQuery(ids=[key])).tasks == []
        assert store.find_device(key) is None
        assert store.forget_device(key) is False


def test_the_others_of_a_list_are_found(bench, store):
    task = bench.create()

    found = store.find(TaskQuery(ids=[*ODD, task.request_id], limit=100))

    assert [one.request_id for one in found.tasks] == [task.request_id]
    assert store.versions([*ODD, task.request_id]) == {task.request_id: 1}


def test_a_cursor_that_no_page_gave_is_a_value_error(store):
    for cursor in CURSORS:
        with pytest.raises(ValueError, match="cursor"):
            store.find(TaskQuery(owner="ada", cursor=cursor))


def test_pages_follow_one_another_by_their_cursors(bench, store):
    ids = {bench.create(owner="ada").request_id for _ in range(5)}

    found, cursor = [], None
    while True:
        page = store.find(TaskQuery(owner="ada", limit=2, cursor=cursor))
        found += [task.request_id for task in page.tasks]
        cursor = page.cursor
        if cursor is None:
            break

    assert len(found) == 5
    assert set(found) == ids
