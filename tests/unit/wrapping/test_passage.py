"""What becomes of decorators and arguments on their way to the gate: in a run, and in a rehearsal."""

import functools

import pytest
from flask import Flask, Response

from flask_bgtasks.wrapping.argument_changes import difference
from flask_bgtasks.wrapping.layers import Chain
from flask_bgtasks.wrapping.passage import Arrived, Rehearsal, Run
from tests.support.decorators import traced, unnamed, view


def refusing(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        if not wrapper.logged_in:
            return "log in", 401
        return f(*args, user="ada", **kwargs)

    wrapper.logged_in = False
    return wrapper


def raising(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        token = kwargs["headers"]
        return f(*args, token=token, **kwargs)

    return wrapper


def in_a_run(decorated, passed_on=None, guards=(), **kwargs):
    way = Run(passed_on or {}, name="process")
    with Flask(__name__).app_context():
        return way.call(Chain(decorated, guards).view, ((), kwargs))


def test_a_decorator_that_refuses_a_run_is_passed_over():
    assert in_a_run(refusing(view)) == ["view"]
    assert in_a_run(traced(refusing(raising(unnamed(view))))) == ["traced", "unnamed", "view"]


def test_what_such_a_decorator_passed_on_in_the_request_reaches_the_run():
    def process(user):
        return [user]

    decorated = refusing(process)
    change = difference(((), {}), ((), {"user": "ada"}))

    assert in_a_run(decorated, {"0.0": change}) == ["ada"]


def test_what_was_not_stored_leaves_its_refusal_as_the_outcome():
    change = difference(((), {}), ((), {"user": object()}))

    assert in_a_run(refusing(view), {"0.0": change}) == ("log in", 401)


def test_a_guard_is_not_called_in_a_run():
    calls = []

    def limit(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            calls.append(1)
            return f(*args, **kwargs)

        return wrapper

    assert in_a_run(limit(view), guards=[limit]) == ["view"]
    assert calls == []
    assert in_a_run(limit(view)) == ["view"]
    assert calls == [1]


def test_an_error_of_the_view_itself_is_no_refusal():
    def process():
        raise PermissionError("mine")

    with pytest.raises(PermissionError, match="mine"):
        in_a_run(traced(process))


class Named:
    def __init__(self, id):
        self.id = id


@pytest.mark.parametrize(
    ("known", "made", "alike"),
    [(Named(7), Named(7), True), (Named(7), Named(None), False), (Named(7), None, False), ({1: 2}, {1: 3}, True)],
)
def test_a_rehearsal_compares_what_comes_to_the_gate(known, made, alike):
    def with_user(f):
        return lambda *args, **kwargs: f(*args, user=made, **kwargs)

    rehearsal = Rehearsal({}, name="process", bound=(), expected=((), {"user": known}))
    with Flask(__name__).app_context(), pytest.raises(Arrived) as arrived:
        rehearsal.call(Chain(with_user(lambda user: None)).view, ((), {}))
    assert arrived.value.alike is alike


def test_in_a_run_the_view_gets_the_arguments_that_were_stored():
    def with_user(f):
        return lambda *args, **kwargs: f(*args, user=None, book=made, **kwargs)

    def process(number, user, book):
        return [number, user, book]

    made = object()
    stored = {"args": [], "kwargs": {"number": {"name": "number"}, "user": {"value": "ann"}, "book": {}}}
    way = Run({"0.0": {**stored, "lost": ["book"]}}, name="process")
    with Flask(__name__).app_context():
        assert way.call(Chain(with_user(traced(process))).view, ((), {"number": 7})) == ["traced", 7, "ann", made]


def test_a_folder_of_the_request_that_is_gone_is_not_handed_to_the_run(tmp_path):
    def with_folder(f):
        return lambda *args, **kwargs: f(str(tmp_path), *args, **kwargs)

    def stored(path):
        return {"0.0": {"args": [{"value": str(path)}], "kwargs": {}}}

    assert in_a_run(with_folder(lambda folder: [folder]), stored(tmp_path / "gone")) == [str(tmp_path)]
    assert in_a_run(with_folder(lambda folder: [folder]), stored(tmp_path.parent)) == [str(tmp_path.parent)]


@pytest.mark.parametrize("answer", [{"error": "log in"}, "<form>", ("no", "401 UNAUTHORIZED"), ("no", 302)])
def test_a_decorator_that_refuses_in_a_run_is_passed_over_whatever_it_says(answer):
    def required(f):
        return lambda *args, **kwargs: answer or f(*args, **kwargs)

    assert in_a_run(required(view)) == ["view"]


def test_a_decorator_that_goes_on_later_is_not_passed_over():
    def streamed(f):
        def wrapper(*args, **kwargs):
            return (part for part in f(*args, **kwargs))

        return wrapper

    def deferred(f):
        def wrapper(*args, **kwargs):
            return Response(part for call in [f] for part in call(*args, **kwargs))

        return wrapper

    assert list(in_a_run(streamed(view))) == ["view"]
    assert in_a_run(deferred(view)).get_data() == b"view"


def test_a_rehearsal_ends_at_the_gate():
    ran = []
    with Flask(__name__).app_context(), pytest.raises(Arrived):
        Rehearsal({}, name="process", bound=(), expected=((), {})).call(
            Chain(traced(lambda: ran.append(1))).view, ((), {})
        )
    assert ran == []
