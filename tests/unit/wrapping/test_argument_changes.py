"""What decorators add to the arguments of a view, as it is stored."""

import pytest

from flask_bgtasks.wrapping.argument_changes import difference, injected, is_json


@pytest.mark.parametrize("value", [1, "a", None, True, 1.5, [1, {"a": []}], {"x": 1}])
def test_values_that_come_back_from_json(value):
    assert is_json(value)


@pytest.mark.parametrize("value", [(1,), {1: 2}, object(), float("nan"), b"x", {"a": (1,)}, {1}])
def test_values_that_do_not(value):
    assert not is_json(value)


def test_arguments_are_told_apart_by_where_they_come_from():
    user, uid = object(), object()

    change = difference(((user,), {"id": uid}), ((uid, 5), {"user": user, "extra": object()}))

    assert change == {
        "args": [{"name": "id"}, {"value": 5}],
        "kwargs": {"user": {"arg": 0}, "extra": {}},
        "lost": ["extra"],
    }
    assert difference(((user,), {"id": uid}), ((user,), {"id": uid})) is None


def test_lost_arguments_name_their_decorator():
    _, lost = injected([((0, 0), "app.token_required", ((), {})), ((9, 9), "", ((object(),), {}))])

    assert lost == ["0 (from app.token_required)"]
