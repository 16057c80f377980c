"""Guards as apps have them: functions, classes, partials, with `functools.wraps` and without; and stacks of them.

Each lets in who sends `X-Key: right`.
"""

import contextlib
import functools

from flask import Response, abort, g, jsonify, redirect, request

from tests.retrofit.harness import needs
from tests.retrofit.placing import NotAllowed

needs("wrapt")

import wrapt


def knows_key():
    return request.headers.get("X-Key") == "right"


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
        if request.endpoint == "by endpoint" and not knows_key():
            abort(401)
        g.checked = True
        return view(*args, **kwargs)

    return decorated


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
"""What a guard answers, where that is not 401."""
