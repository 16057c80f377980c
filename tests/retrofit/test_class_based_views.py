"""Guards of class-based views: in `decorators`, on methods, in `dispatch_request`."""

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
