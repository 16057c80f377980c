"""Guards of every make, in every place: whoever they refuse is refused in the request, and nothing is stored.

The guards here are of apps' own; those of the extensions are in the modules of their names.
"""

import contextlib
import functools
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, Response, abort, copy_current_request_context, g, jsonify, redirect, request
from flask.views import MethodView, View

from flask_bgtasks import BackgroundTasks, current_task
from flask_bgtasks.errors import NotSerializable
from tests.retrofit.harness import Mode, Retrofitted, needs

needs("wrapt")

import wrapt


class NotAllowed(Exception):
    """An app's own error, with a handler."""


def knows_key():
    return request.headers.get("X-Key") == "right"


# -- guards ----------------------------------------------------------------------------------------------------------


def with_wraps(view):
    @functools.wraps(view)
    def decorated(*args, **kwargs):
        if not knows_key():
            abort(401)
        return view(*args, **kwargs)

    return decorated


def without_wraps(callback):
    def secured(*args, **kwargs):
        if not knows_key():
            return jsonify(error="no key"), 401
        return callback(*args, **kwargs)

    return secured


def with_a_check(check):
    """Two functions in its closure, and no `functools.wraps`."""

    def decorator(view):
        def checked(*args, **kwargs):
            if not check():
                return Response("no key", 401)
            return view(*args, **kwargs)

        return checked

    return decorator


def with_odd_names(allows):
    """The same, and nothing says which of the two is the view."""

    def secure(target):
        def run(*args, **kwargs):
            if not allows():
                abort(401)
            return target(*args, **kwargs)

        return run

    return secure


def with_fixed_parameters(view):
    """Takes no `*args`."""

    def checked():
        if not knows_key():
            abort(401)
        return view()

    return checked


class AsClass:
    def __init__(self, view):
        functools.update_wrapper(self, view)
        self.view = view

    def __call__(self, *args, **kwargs):
        if not knows_key():
            abort(401)
        return self.view(*args, **kwargs)


class AsPlainClass:
    def __init__(self, target):
        self._target = target

    def __call__(self, *args, **kwargs):
        if not knows_key():
            abort(401)
        return self._target(*args, **kwargs)


class AsSlots:
    __slots__ = ("target",)

    def __init__(self, target):
        self.target = target

    def __call__(self, *args, **kwargs):
        if not knows_key():
            abort(401)
        return self.target(*args, **kwargs)


class Auth:
    """A guard that is a method of an object, as extensions have it."""

    def required(self, view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            return self.checked(view, *args, **kwargs)

        return decorated

    def checked(self, view, *args, **kwargs):
        if not knows_key():
            raise NotAllowed
        return view(*args, **kwargs)


def by_partial(view):
    def checked(inner, *args, **kwargs):
        if not knows_key():
            abort(401)
        return inner(*args, **kwargs)

    return functools.partial(checked, view)


def by_default_argument(view):
    def checked(_view=view):
        if not knows_key():
            abort(401)
        return _view()

    return checked


class AsContext(contextlib.ContextDecorator):
    def __enter__(self):
        if not knows_key():
            abort(401)
        return self

    def __exit__(self, *error):
        return False


@wrapt.decorator
def by_wrapt(wrapped, instance, args, kwargs):
    if not knows_key():
        abort(401)
    return wrapped(*args, **kwargs)


def by_redirect(view):
    @functools.wraps(view)
    def decorated(*args, **kwargs):
        return view(*args, **kwargs) if knows_key() else redirect("/login")

    return decorated


def by_lambda(view):
    return lambda *args, **kwargs: view(*args, **kwargs) if knows_key() else (jsonify(error="no key"), 401)


def of_several_views(view):
    """Looks its view up in a table."""
    table = {"view": view}

    def dispatch(*args, **kwargs):
        if not knows_key():
            abort(401)
        return table["view"](*args, **kwargs)

    return dispatch


def by_name(view):
    """Decides by the endpoint, as libraries of permissions do."""

    @functools.wraps(view)
    def decorated(*args, **kwargs):
        if request.endpoint == "generate" and not knows_key():
            abort(401)
        g.checked = True
        return view(*args, **kwargs)

    return decorated


GUARDS = {
    "wraps": with_wraps,
    "no wraps": without_wraps,
    "a check beside the view": with_a_check(knows_key),
    "fixed parameters": with_fixed_parameters,
    "class": AsClass,
    "plain class": AsPlainClass,
    "class with slots": AsSlots,
    "method": Auth().required,
    "partial": by_partial,
    "default argument": by_default_argument,
    "context": AsContext(),
    "wrapt": by_wrapt,
    "redirect": by_redirect,
    "lambda": by_lambda,
    "table": of_several_views,
    "by endpoint": by_name,
}
REFUSALS = {"redirect": 302, "method": 403}

PLACES = ["by name", "above @background", "below @background"]


def run(build, mode, check, *, endpoints=(), config=None):
    """Build an app, add the extension, and check its answers in one mode."""
    bgtasks = BackgroundTasks()
    app = Flask(__name__)
    app.config.from_mapping({"TESTING": True, "SECRET_KEY": "for tests", **(config or {})})
    app.register_error_handler(NotAllowed, lambda error: ({"error": "not allowed"}, 403))
    build(app, bgtasks)
    retrofitted = Retrofitted(app, mode, endpoints, extension=bgtasks)
    try:
        check(app.test_client())
    finally:
        retrofitted.close()


def modes_of(place):
    """`@background` answers 202 by default: what a client without a preference gets there is the last mode's."""
    return [Mode.WAIT, Mode.ASYNC] if "@" in place else [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC]


def build_with(decorate, place, view):
    def build(app, bgtasks):
        match place:
            case "by name":
                made = decorate(view)
            case "above @background":
                made = decorate(bgtasks.background(view))
            case "below @background":
                made = bgtasks.background(name="generate")(decorate(view))
        app.add_url_rule("/generate", "generate", made, methods=["POST"])

    return build


def endpoints_of(place):
    return ["generate"] if place == "by name" else []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_judges_the_request(name, place, allowed_in, refused):
    calls = []

    def generate():
        calls.append(request.get_json())
        return {"text": request.get_json()["topic"].upper()}

    for mode in modes_of(place):

        def check(client, mode=mode):
            refused(client.post("/generate", json={"topic": "whales"}), REFUSALS.get(name, 401))
            refused(client.post("/generate", headers={"X-Key": "wrong"}), REFUSALS.get(name, 401))
            answer = allowed_in(mode, client.post("/generate", json={"topic": "whales"}, headers={"X-Key": "right"}))
            assert answer.json == {"text": "WHALES"}

        run(build_with(GUARDS[name], place, generate), mode, check, endpoints=endpoints_of(place))
    assert calls == [{"topic": "whales"}] * len(modes_of(place))


@pytest.fixture
def allowed_in():
    def check(mode, response, status=200):
        assert response.status_code == status, response.get_data(as_text=True)
        assert response.task_id is not None
        assert response.newly_stored == 1
        return response

    return check


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


def role_required(role):
    def decorator(view):
        @functools.wraps(view)
        def decorated(*args, **kwargs):
            if request.headers.get("X-Role") != role:
                return jsonify(error=f"{role}s only"), 403
            return view(*args, **kwargs)

        return decorated

    return decorator


STACKS = {
    "key, role": (lambda view: with_wraps(role_required("editor")(view)), 401),
    "role, key": (lambda view: role_required("editor")(with_wraps(view)), 403),
    "no wraps, role": (lambda view: without_wraps(role_required("editor")(view)), 401),
    "role, no wraps": (lambda view: role_required("editor")(without_wraps(view)), 403),
    "class, role, partial": (lambda view: AsPlainClass(role_required("editor")(by_partial(view))), 401),
    "partial, class, role": (lambda view: by_partial(AsClass(role_required("editor")(view))), 401),
    "key, key, key, role": (lambda v: with_wraps(AsClass(without_wraps(role_required("editor")(v)))), 401),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", STACKS)
def test_each_of_several_guards_judges_the_request(name, place, allowed_in, refused):
    decorate, first = STACKS[name]

    def check(client, mode):
        refused(client.post("/generate"), first)
        refused(client.post("/generate", headers={"X-Key": "right"}), 403)
        refused(client.post("/generate", headers={"X-Role": "editor"}), 401)
        allowed_in(mode, client.post("/generate", headers={"X-Key": "right", "X-Role": "editor"}))

    for mode in modes_of(place):
        build = build_with(decorate, place, lambda: {"done": True})
        run(build, mode, functools.partial(check, mode=mode), endpoints=endpoints_of(place))


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


# -- guards that hand something to the view --------------------------------------------------------------------------

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

    def build(app, bgtasks):
        match place:
            case "by name":
                made = decorate(generate)
            case "above @background":
                made = decorate(bgtasks.background(generate))
            case "below @background":
                made = bgtasks.background(name="generate")(decorate(generate))
        app.add_url_rule("/generate/<int:number>", "generate", made, methods=["POST"])

    def check(client, mode):
        refused(client.post("/generate/7"), 401)
        for name in ("ann", "bob"):
            answer = allowed_in(mode, client.post("/generate/7", headers={"X-Api-Key": f"key-of-{name}"}))
            assert answer.json == {"by": name, "number": 7, "path": "/generate/7"}

    for mode in modes_of(place):
        run(build, mode, functools.partial(check, mode=mode), endpoints=endpoints_of(place))


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


# -- class-based views -----------------------------------------------------------------------------------------------


class Guarded(MethodView):
    init_every_request = True
    decorators = (with_wraps,)

    def post(self, number):
        return {"number": number, "view": type(self).__name__}


class GuardedOnce(Guarded):
    init_every_request = False


class GuardedMethod(MethodView):
    @with_wraps
    def post(self, number):
        return {"number": number, "view": type(self).__name__}


class GuardedByPlainDecorators(MethodView):
    decorators = (without_wraps, role_required("editor"))

    @without_wraps
    def post(self, number):
        return {"number": number, "view": type(self).__name__}


class GuardedView(View):
    methods = ("POST",)
    decorators = (with_wraps,)

    def __init__(self, prefix="Guarded"):
        self.prefix = prefix

    def dispatch_request(self, number):
        return {"number": number, "view": self.prefix + "View"}


class ChecksItself(MethodView):
    """A base class of the app's own that guards in `dispatch_request`."""

    def dispatch_request(self, **kwargs):
        if not knows_key():
            abort(401)
        return super().dispatch_request(**kwargs)

    def post(self, number):
        return {"number": number, "view": type(self).__name__}


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "view",
    [Guarded, GuardedOnce, GuardedMethod, GuardedByPlainDecorators, GuardedView, ChecksItself],
    ids=lambda view: view.__name__,
)
def test_guards_of_a_class_based_view(view, mode, allowed_in, refused):
    def build(app, bgtasks):
        app.add_url_rule("/generate/<int:number>", view_func=view.as_view("generate"))

    def check(client):
        if view is not GuardedByPlainDecorators:
            refused(client.post("/generate/7"), 401)
        refused(client.post("/generate/7", headers={"X-Role": "editor"}), 401)
        headers = {"X-Key": "right", "X-Role": "editor"}
        answer = allowed_in(mode, client.post("/generate/7", headers=headers))
        assert answer.json == {"number": 7, "view": view.__name__}

    run(build, mode, check, endpoints=["generate"])


@pytest.mark.parametrize("mode", [Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
def test_a_method_with_a_guard_and_background(mode, allowed_in, refused):
    def build(app, bgtasks):
        class Letters(MethodView):
            greeting = "Dear"

            @with_wraps
            @bgtasks.background(name="above")
            def post(self):
                return {"letter": f"{self.greeting} Ann"}

            @bgtasks.background(name="below")
            @with_wraps
            def put(self):
                return {"letter": f"{self.greeting} Bob"}

        app.add_url_rule("/letters", view_func=Letters.as_view("letters"))

    def check(client):
        for method, name in (("POST", "Ann"), ("PUT", "Bob")):
            refused(client.open("/letters", method=method), 401)
            answer = allowed_in(mode, client.open("/letters", method=method, headers={"X-Key": "right"}))
            assert answer.json == {"letter": f"Dear {name}"}

    run(build, mode, check)


# -- asynchronous views ----------------------------------------------------------------------------------------------


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
        user = found_user()
        if user is None and not knows_key():
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


# -- guards that are no decorators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.WRAPPED, Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize("scope", ["app", "blueprint"])
def test_a_guard_before_every_request(scope, mode, allowed_in, refused):
    def build(app, bgtasks):
        from flask import Blueprint

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


# -- decorators that are no guards -----------------------------------------------------------------------------------


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
