"""Guards of every make, in every place: whoever they refuse is refused in the request, and nothing is stored.

The guards here are of apps' own; those of the extensions are in the modules of their names.
"""

import functools
import threading
import types

import pytest
from flask import Blueprint, Response, abort, request

from flask_bgtasks import BackgroundTasks
from tests.retrofit.guards import (
    GUARDS,
    REFUSALS,
    STACKS,
    knows_key,
    role_required,
    with_odd_names,
    with_wraps,
)
from tests.retrofit.harness import Mode, Retrofitted
from tests.retrofit.placing import PLACES, build_with, endpoints_of, modes_of, new_app, placed, run


def new_view(name, calls):
    def generate():
        calls.append((name, request.get_json()))
        return {"text": request.get_json()["topic"].upper()}

    return generate


@pytest.fixture(
    scope="module",
    params=[(place, mode) for place in PLACES for mode in modes_of(place)],
    ids=lambda param: f"{param[0]}, {param[1].value}",
)
def guarded(request):
    """One app with a view behind each guard, in one place and mode; its client, and what the views were called with."""
    place, mode = request.param
    calls = []
    bgtasks = BackgroundTasks()
    app = new_app()
    decorators = {**GUARDS, **{name: decorate for name, (decorate, _) in STACKS.items()}}
    for name, decorate in decorators.items():
        view = placed(bgtasks, decorate, place, new_view(name, calls), name)
        app.add_url_rule(f"/{name}", name, view, methods=["POST"])
    retrofitted = Retrofitted(app, mode, list(decorators) if place == "by name" else [], extension=bgtasks)
    yield app.test_client(), mode, calls
    retrofitted.close()


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_judges_the_request(name, guarded, allowed_in, refused):
    client, mode, calls = guarded
    calls.clear()

    refused(client.post(f"/{name}", json={"topic": "whales"}), REFUSALS.get(name, 401))
    refused(client.post(f"/{name}", headers={"X-Key": "wrong"}), REFUSALS.get(name, 401))
    answer = allowed_in(mode, client.post(f"/{name}", json={"topic": "whales"}, headers={"X-Key": "right"}))

    assert answer.json == {"text": "WHALES"}
    assert calls == [(name, {"topic": "whales"})]


@pytest.mark.parametrize("place", ["by name", "below @background"])
@pytest.mark.parametrize("keep", [[], ["X-Key"]], ids=["", "its header is kept"])
def test_a_guard_that_changes_the_answer_too(place, keep, allowed_in, refused):
    """It refuses a run, which has not got the key, and is passed over, unless the app names its header."""

    def signed(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            if not knows_key():
                return Response("no key", 401)
            return {**view(*args, **kwargs), "signed": True}

        return decorated

    def check(client, mode):
        refused(client.post("/generate"), 401)
        answer = allowed_in(mode, client.post("/generate", headers={"X-Key": "right"}))
        assert answer.json == ({"done": True, "signed": True} if keep or not mode.runs_elsewhere else {"done": True})

    for mode in modes_of(place):
        run(
            build_with(signed, place, lambda: {"done": True}),
            mode,
            functools.partial(check, mode=mode),
            endpoints=endpoints_of(place),
            config={"BGTASKS_KEEP_HEADERS": keep},
        )


# -- several guards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_each_of_several_guards_judges_the_request(name, guarded, allowed_in, refused):
    client, mode, _ = guarded
    post = functools.partial(client.post, f"/{name}", json={"topic": "whales"})

    refused(post(), STACKS[name][1])
    refused(post(headers={"X-Key": "right"}), 403)
    refused(post(headers={"X-Role": "editor"}), 401)
    allowed_in(mode, post(headers={"X-Key": "right", "X-Role": "editor"}))


@pytest.mark.parametrize("mode", [Mode.WAIT, Mode.ASYNC])
def test_a_guard_above_and_one_below(mode, allowed_in, refused):
    def build(app, bgtasks):
        @app.post("/generate")
        @with_wraps
        @bgtasks.background
        @role_required("editor")
        def generate():
            return {"done": True}

    def check(client):
        refused(client.post("/generate"), 401)
        refused(client.post("/generate", headers={"X-Key": "right"}), 403)
        allowed_in(mode, client.post("/generate", headers={"X-Key": "right", "X-Role": "editor"}))

    run(build, mode, check)


# -- guards that are no decorators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize("scope", ["app", "blueprint"])
def test_a_guard_before_every_request(scope, mode, allowed_in, refused):
    def build(app, bgtasks):
        blueprint = Blueprint("texts", __name__)

        @blueprint.post("/generate")
        def generate():
            return {"done": True}

        @(app.before_request if scope == "app" else blueprint.before_request)
        def guard():
            if not knows_key():
                abort(401)

        app.register_blueprint(blueprint)

    def check(client):
        refused(client.post("/generate"), 401)
        allowed_in(mode, client.post("/generate", headers={"X-Key": "right"}))

    run(build, mode, check, endpoints=["texts.generate"])


@pytest.mark.parametrize("mode", [Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_guard_that_was_put_around_the_view_function_afterwards(mode, allowed_in, refused):
    """As an extension does that walks over `app.view_functions`."""

    def build(app, bgtasks):
        @app.post("/generate")
        def generate():
            return {"done": True}

        for endpoint, view in list(app.view_functions.items()):
            app.view_functions[endpoint] = with_wraps(view)

    def check(client):
        refused(client.post("/generate"), 401)
        allowed_in(mode, client.post("/generate", headers={"X-Key": "right"}))

    run(build, mode, check, endpoints=["generate"])


@pytest.mark.parametrize("mode", [Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize("place", ["above @background", "below @background"])
def test_a_guard_with_a_memory_counts_each_request_once(place, mode, allowed_in, refused):
    """Below `@background` it is named, or it would count the run too: nobody can tell that it only judges."""
    counted = types.SimpleNamespace(requests=0)

    def at_most_two(view):
        left = 2

        @functools.wraps(view)
        def decorated(*args, **kwargs):
            nonlocal left
            counted.requests += 1
            if left == 0:
                abort(429)
            left -= 1
            return view(*args, **kwargs)

        return decorated

    def build(app, bgtasks):
        def generate():
            return {"done": True}

        if place == "above @background":
            made = at_most_two(bgtasks.background(generate))
        else:
            made = bgtasks.background(guards=[at_most_two])(at_most_two(generate))
        app.add_url_rule("/generate", "generate", made, methods=["POST"])

    def check(client):
        allowed_in(mode, client.post("/generate"))
        allowed_in(mode, client.post("/generate"))
        refused(client.post("/generate"), 429)

    run(build, mode, check)
    assert counted.requests == 3


# -- guards that cannot be found -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize("place", ["by name", "below @background"])
def test_behind_a_guard_that_cannot_be_found_the_view_is_called_in_the_request(place, mode, caplog):
    threads = []

    def generate():
        threads.append(threading.current_thread())
        return {"done": True}

    def check(client):
        assert client.post("/generate").first.status_code == 401
        answer = client.post("/generate", headers={"X-Key": "right"}).first
        assert (answer.status_code, answer.json) == (200, {"done": True})

    run(build_with(with_odd_names(knows_key), place, generate), mode, check, endpoints=endpoints_of(place))
    assert threads == [threading.current_thread()]
    assert "with_odd_names" in caplog.text
