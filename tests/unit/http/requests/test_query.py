"""Query parameters: each wrong one is named, with what is expected."""

import pytest

from flask_bgtasks.core.model import Status
from flask_bgtasks.http.problems import Problem
from flask_bgtasks.http.requests import query


@pytest.mark.parametrize(("text", "expected"), [("0", 0), ("1.5", 1.5), ("1e9", 60), ("60.1", 60), (" 5 ", 5)])
def test_seconds_are_read_and_cut(text, expected):
    assert query.seconds("wait", text, maximum=60) == expected


def test_ids_are_each_asked_for_once():
    assert query.ids("b, a,b,,") == ["b", "a"]


def test_as_many_ids_as_were_sent_are_counted():
    assert query.ids(",".join(["x"] * query.MAX_IDS)) == ["x"]

    with pytest.raises(Problem, match="got 101"):
        query.ids(",".join(["x"] * (query.MAX_IDS + 1)))


def test_states_are_read():
    assert query.statuses("failed, completed") == {Status.FAILED, Status.COMPLETED}
    assert query.statuses(None) is None


@pytest.mark.parametrize(
    "read",
    [
        lambda: query.seconds("wait", "abc", maximum=60),
        lambda: query.whole("limit", "x", default=1, maximum=10),
        lambda: query.flag("seen", "maybe"),
        lambda: query.statuses("done"),
    ],
)
def test_a_wrong_one_says_its_name_what_came_and_what_is_wanted(read):
    with pytest.raises(Problem, match="expected") as caught:
        read()

    assert caught.value.type.name == "invalid-parameter"
    assert caught.value.detail.startswith(caught.value.members["parameter"] + "=")


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(Problem) as caught:
        query.flag("seen", "x" * 10_000)

    assert len(caught.value.detail) < 200
