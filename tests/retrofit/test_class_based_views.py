"""Guards of class-based views: in `decorators`, on methods, in `dispatch_request`."""

from unittest import mock

import pytest
from flask import abort
from flask.views import MethodView, View

from tests.retrofit.guards import (
    knows_key,
    role_required,
    with_wraps,
    without_wraps,
)
from tests.retrofit.harness import Mode
from tests.retrofit.placing import run


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


class ChecksBeforeAHook(View):
    """A base class that checks, and leaves the work to a method of its subclasses."""

    methods = ("POST",)

    def dispatch_request(self, number):
        if not knows_key():
            abort(401)
        return self.generate(number)

    def generate(self, number):
        raise NotImplementedError


class Hooked(ChecksBeforeAHook):
    def generate(self, number):
        return {"number": number, "view": type(self).__name__}


class ChecksByAHook(View):
    """The other way round: the subclass says who is let in."""

    methods = ("POST",)

    def dispatch_request(self, number):
        if not self.let_in():
            abort(401)
        return {"number": number, "view": type(self).__name__}

    def let_in(self):
        return True


class LetsIn(ChecksByAHook):
    def let_in(self):
        return knows_key()


class MethodBeforeAHook(MethodView):
    def post(self, **kwargs):
        if not knows_key():
            abort(401)
        return getattr(self, "create")(**kwargs)  # noqa: B009

    def create(self, number):
        raise NotImplementedError


class HookedMethod(MethodBeforeAHook):
    def create(self, number):
        return {"number": number, "view": type(self).__name__}


class ChecksThenParent(GuardedMethod):
    """Its parent's own guard aside, it names each argument that it passes on."""

    def post(self, number):
        if not knows_key():
            abort(401)
        return super().post(number)


class Mixin:
    def dispatch_request(self, number):
        if not knows_key():
            abort(401)
        return super().dispatch_request(number=number)


class Plain(View):
    methods = ("POST",)

    def dispatch_request(self, number):
        return {"number": number, "view": type(self).__name__}


class MixedIn(Mixin, Plain):
    pass


class HookInAMixin(ChecksBeforeAHook):
    pass


class Generates:
    def generate(self, number):
        return {"number": number, "view": type(self).__name__}


class MixedInHook(Generates, HookInAMixin):
    pass


@pytest.mark.parametrize("mode", [Mode.WAIT, Mode.ASYNC], ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "view",
    [Hooked, LetsIn, HookedMethod, ChecksThenParent, MixedIn, MixedInHook],
    ids=lambda view: view.__name__,
)
def test_a_class_that_checks_before_it_calls_a_method_of_another_class_is_judged_in_the_request(view, mode):
    def build(app, bgtasks):
        app.add_url_rule("/generate/<int:number>", view_func=view.as_view("generate"))

    def check(client):
        assert client.post("/generate/7").first.status_code == 401
        answer = client.post("/generate/7", headers={"X-Key": "right"}).first
        assert (answer.status_code, answer.json) == (200, {"number": 7, "view": view.__name__})

    run(build, mode, check, endpoints=["generate"])


@pytest.mark.parametrize("mode", list(Mode), ids=lambda mode: mode.value)
def test_a_method_that_a_test_replaces_is_the_one_that_is_called(mode):
    def stand_in(self):
        return {"by": "a stand-in"}

    class Sentences(MethodView):
        def post(self):
            return {"by": "the model"}

    def build(app, bgtasks):
        app.add_url_rule("/sentences", view_func=Sentences.as_view("sentences"))

    def check(client):
        assert client.post("/sentences").json == {"by": "the model"}
        with mock.patch.object(Sentences, "post", stand_in):
            assert client.post("/sentences").json == {"by": "a stand-in"}
        assert client.post("/sentences").json == {"by": "the model"}

    run(build, mode, check, endpoints=["sentences"])
