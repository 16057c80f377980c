"""Guards that hand a user to the view: it reaches the run, or the request is refused with an error that says why."""

import functools

import pytest
from flask import abort, jsonify, request

from flask_bgtasks.errors import NotSerializable
from tests.retrofit.harness import Mode
from tests.retrofit.placing import PLACES, build_with, endpoints_of, modes_of, run

USERS = {"key-of-ann": {"id": 1, "name": "ann"}, "key-of-bob": {"id": 2, "name": "bob"}}


class User:
    """What cannot be stored as JSON."""

    def __init__(self, name):
        self.name = name


def found_user():
    return USERS.get(request.headers.get("X-Api-Key", ""))


def token_required(view):
    """The recipe of a thousand tutorials: the user comes first."""

    @functools.wraps(view)
    def decorated(*args, **kwargs):
        user = found_user()
        if user is None:
            return jsonify(message="Token is missing!"), 401
        return view(user, *args, **kwargs)

    return decorated


def user_by_name(view):
    @functools.wraps(view)
    def decorated(*args, **kwargs):
        user = found_user()
        if user is None:
            abort(401)
        return view(*args, user=user, **kwargs)

    return decorated


def user_id_by_name(view):
    def decorated(*args, **kwargs):
        user = found_user()
        if user is None:
            abort(401)
        kwargs["user"] = {"name": user["name"]}
        return view(*args, **kwargs)

    return decorated


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("decorate", [token_required, user_by_name, user_id_by_name], ids=lambda d: d.__name__)
def test_a_user_that_a_guard_hands_over_reaches_the_run(decorate, place, allowed_in, refused):
    def generate(user, number):
        return {"by": user["name"], "number": number, "path": request.path}

    build = build_with(decorate, place, generate, "/generate/<int:number>")

    def check(client, mode):
        refused(client.post("/generate/7"), 401)
        for name in ("ann", "bob"):
            answer = allowed_in(mode, client.post("/generate/7", headers={"X-Api-Key": f"key-of-{name}"}))
            assert answer.json == {"by": name, "number": 7, "path": "/generate/7"}

    for mode in modes_of(place):
        run(build, mode, functools.partial(check, mode=mode), endpoints=endpoints_of(place))


@pytest.mark.parametrize("place", PLACES)
def test_a_user_that_cannot_be_stored_is_no_task_that_must_fail(place, refused):
    def object_required(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            user = found_user()
            if user is None:
                abort(401)
            return view(User(user["name"]), *args, **kwargs)

        return decorated

    def check(client):
        refused(client.post("/generate"), 401)
        with pytest.raises(NotSerializable, match="decorator"):  # TESTING; in production a 500, and this in the log
            client.post("/generate", headers={"X-Api-Key": "key-of-ann"})
        assert client.retrofitted.stored() == 0

    def here(client):
        assert client.post("/generate", headers={"X-Api-Key": "key-of-ann"}).json == {"by": "ann"}

    build = build_with(object_required, place, lambda user: {"by": user.name})
    for mode in (Mode.WAIT, Mode.ASYNC):
        run(build, mode, check, endpoints=endpoints_of(place))
    if place == "by name":  # without a preference the view runs in the request, with the user as it is
        run(build, Mode.WRAPPED, here, endpoints=endpoints_of(place))


@pytest.mark.parametrize("place", PLACES)
def test_a_login_that_is_optional_reaches_the_run(place, allowed_in):
    def user_if_any(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            user = found_user() or {"name": "guest"}
            return view(*args, user=user["name"], **kwargs)

        return decorated

    def check(client, mode):
        for headers, name in (({}, "guest"), ({"X-Api-Key": "key-of-ann"}, "ann")):
            assert allowed_in(mode, client.post("/generate", headers=headers)).json == {"by": name}

    for mode in modes_of(place):
        build = build_with(user_if_any, place, lambda user: {"by": user})
        run(build, mode, functools.partial(check, mode=mode), endpoints=endpoints_of(place))


@pytest.mark.parametrize("place", ["by name", "below @background"])
def test_no_run_works_as_nobody_for_a_user_that_cannot_be_stored(place):
    def user_or_nobody(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            user = found_user()
            return view(*args, user=User(user["name"]) if user else None, **kwargs)

        return decorated

    def check(client):
        assert client.post("/generate").json == {"by": None}
        with pytest.raises(NotSerializable, match="user"):  # TESTING; in production a 500, and this in the log
            client.post("/generate", headers={"X-Api-Key": "key-of-ann"})

    for mode in (Mode.WAIT, Mode.ASYNC):
        build = build_with(user_or_nobody, place, lambda user: {"by": user and user.name})
        run(build, mode, check, endpoints=endpoints_of(place))
