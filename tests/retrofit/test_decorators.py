"""Guards of asynchronous views, and decorators that are no guards: transactions, error handlers, time limits."""

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import abort, copy_current_request_context, g, jsonify, request

from flask_bgtasks import current_task
from tests.retrofit.guards import (
    knows_key,
)
from tests.retrofit.harness import Mode
from tests.retrofit.placing import PLACES, NotAllowed, build_with, endpoints_of, modes_of, run


def async_guard(view):
    @functools.wraps(view)
    async def decorated(*args, **kwargs):
        if not knows_key():
            abort(401)
        return await view(*args, **kwargs)

    return decorated


def sync_guard_of_async(view):
    """As Flask-Login has it: a plain function that calls `ensure_sync`."""
    from flask import current_app

    @functools.wraps(view)
    def decorated(*args, **kwargs):
        if not knows_key():
            abort(401)
        return current_app.ensure_sync(view)(*args, **kwargs)

    return decorated


def async_user_required(view):
    @functools.wraps(view)
    async def decorated(*args, **kwargs):
        if not knows_key():
            abort(401)
        return await view(*args, user="ann", **kwargs)

    return decorated


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("decorate", "user"),
    [(async_guard, "nobody"), (sync_guard_of_async, "nobody"), (async_user_required, "ann")],
    ids=["async guard", "sync guard", "async guard that hands over"],
)
def test_guards_of_asynchronous_views(decorate, user, place, allowed_in, refused):
    async def generate(user="nobody"):
        return {"text": request.get_json()["topic"].upper(), "by": user}

    def check(client, mode):
        refused(client.post("/generate", json={"topic": "whales"}), 401)
        answer = allowed_in(mode, client.post("/generate", json={"topic": "whales"}, headers={"X-Key": "right"}))
        assert answer.json == {"text": "WHALES", "by": user}

    if place == "above @background" and decorate is not sync_guard_of_async:
        pytest.skip("an async guard awaits its view: @background gives it a plain function, as `login_required` does")
    for mode in modes_of(place):
        run(
            build_with(decorate, place, generate),
            mode,
            functools.partial(check, mode=mode),
            endpoints=endpoints_of(place),
        )


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_decorator_that_catches_everything_does_not_swallow_the_answer(mode, allowed_in):
    def answer_errors(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            try:
                return view(*args, **kwargs)
            except:  # noqa: E722 - as found in apps
                return jsonify(error="caught"), 500

        return decorated

    def generate():
        return {"done": 1 / int(request.args["by"])}

    def check(client):
        assert allowed_in(mode, client.post("/generate?by=1")).json == {"done": 1}
        assert allowed_in(mode, client.post("/generate?by=0"), 500).json == {"error": "caught"}

    run(build_with(answer_errors, "by name", generate), mode, check, endpoints=["generate"])


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_transaction_around_the_view_is_committed_once_and_rolled_back_where_it_raises(mode, allowed_in):
    committed = []

    def transaction(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            g.pending = []
            try:
                answer = view(*args, **kwargs)
            except BaseException:
                g.pending = []
                raise
            finally:
                committed.extend(g.pending)
            return jsonify(data=answer, count=len(committed)), 201

        return decorated

    def generate():
        g.pending.append(request.args["id"])
        if request.args["id"] == "bad":
            raise NotAllowed
        return request.args["id"]

    def check(client):
        assert allowed_in(mode, client.post("/generate?id=a"), 201).json == {"data": "a", "count": 1}
        client.post("/generate?id=bad")
        assert allowed_in(mode, client.post("/generate?id=b"), 201).json == {"data": "b", "count": 2}

    run(build_with(transaction, "by name", generate), mode, check, endpoints=["generate"])
    assert committed == ["a", "b"]


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_decorator_that_calls_the_view_in_another_thread_answers_as_before(mode):
    """It is not followed there: the view runs in the request, without a task."""

    def in_time(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(copy_current_request_context(view), *args, **kwargs).result(timeout=20)

        return decorated

    def check(client):
        answer = client.post("/generate").first
        assert (answer.status_code, answer.json) == (200, {"method": "POST"})
        assert client.retrofitted.stored() == 0

    run(build_with(in_time, "by name", lambda: {"method": request.method}), mode, check, endpoints=["generate"])


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_decorator_that_tries_again_after_anything_has_the_view_called_once(mode, allowed_in):
    def insistent(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            for _ in range(3):
                try:
                    return view(*args, **kwargs)
                except BaseException:
                    continue
            return jsonify(error="three times"), 503

        return decorated

    called = []

    def generate():
        called.append(1)
        return {"done": True}

    def check(client):
        assert allowed_in(mode, client.post("/generate")).json == {"done": True}

    run(build_with(insistent, "by name", generate), mode, check, endpoints=["generate"])
    assert called == [1]


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_step_of_a_view_that_is_tried_again_belongs_to_its_task(mode, allowed_in):
    def twice(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            try:
                return view(*args, **kwargs)
            except ZeroDivisionError:
                return view(*args, **kwargs)

        return decorated

    called = []

    def generate():
        called.append(1)
        if len(called) == 1:
            raise ZeroDivisionError
        return {"task": current_task.request_id}

    def check(client):
        answer = allowed_in(mode, client.post("/generate"))
        assert answer.json == {"task": answer.task_id}

    run(build_with(twice, "by name", generate), mode, check, endpoints=["generate"])
