"""Decorated views are taken apart and put together again around a gate."""

import asyncio
import functools
from contextlib import ContextDecorator, nullcontext

import pytest
import wrapt
from flask import Flask
from flask.views import MethodView, View

from flask_bgtasks.wrapping.decorated import find_class_view, new_instance
from flask_bgtasks.wrapping.layers import Chain
from flask_bgtasks.wrapping.passage import Passage, Run
from tests.support.decorators import traced, unnamed, view


def named_only(f):  # nor *args, **kwargs
    def wrapper():
        return ["named", *f()]

    return wrapper


def with_settings(check, message):
    def decorate(f):
        def wrapper(*args, **kwargs):
            check(message)
            return ["settings", *f(*args, **kwargs)]

        return wrapper

    return decorate


def by_default(f):
    @functools.wraps(f)
    def wrapper(*args, _call=f, **kwargs):
        return ["default", *_call(*args, **kwargs)]

    return wrapper


def through_a_helper(f):
    def helper(*args, **kwargs):
        return f(*args, **kwargs)

    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return ["helper", *helper(*args, **kwargs)]

    return wrapper


def in_a_list(f):
    calls = [f]

    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return ["list", *calls[0](*args, **kwargs)]

    return wrapper


class Required:
    def __init__(self, f):
        self.f = f
        functools.update_wrapper(self, f)

    def __call__(self, *args, **kwargs):
        return ["class", *self.f(*args, **kwargs)]


class Plain:
    def __init__(self, view):
        self._view = view

    def __call__(self, *args, **kwargs):
        return ["plain", *self._view(*args, **kwargs)]


class around(ContextDecorator):  # noqa: N801
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def counted(f):
    count = 0

    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        nonlocal count
        count += 1
        return [count, *f(*args, **kwargs)]

    return wrapper


class Slotted:
    __slots__ = ("target",)

    def __init__(self, f):
        self.target = f

    def __call__(self, *args, **kwargs):
        return ["slotted", *self.target(*args, **kwargs)]


def call_with(f, *args, **kwargs):
    return ["called with", *f(*args, **kwargs)]


def by_name_of_a_default(f):
    def wrapper(_view=f):
        return ["default name", *_view()]

    return wrapper


def in_a_table(f):
    table = {"view": f}

    def wrapper(*args, **kwargs):
        return ["table", *table["view"](*args, **kwargs)]

    return wrapper


@wrapt.decorator
def by_wrapt(wrapped, instance, args, kwargs):
    return ["wrapt", *wrapped(*args, **kwargs)]


class OddName:
    def __init__(self, f):
        self._target = f

    def __call__(self, *args, **kwargs):
        return ["odd", *self._target(*args, **kwargs)]


DECORATED = {
    "slots": Slotted(view),
    "an argument of a partial": functools.partial(call_with, view),
    "a default without wraps": by_name_of_a_default(view),
    "a table": in_a_table(view),
    "wrapt": by_wrapt(view),
    "a class with a name of its own": OddName(view),
    "functools.wraps": traced(view),
    "a wrapper without wraps": unnamed(view),
    "a wrapper without arguments": named_only(view),
    "a decorator with settings": with_settings(print, "checked")(view),
    "a default value": by_default(view),
    "a helper in between": through_a_helper(view),
    "a list": in_a_list(view),
    "a class": Required(view),
    "a class without update_wrapper": Plain(view),
    "a context manager": around()(view),
    "partial": functools.partial(traced(view)),
    "several": traced(unnamed(Required(by_default(view)))),
    "a cache": functools.lru_cache(view),
}


def gate_calls(chain, *args, passage=Passage, **kwargs):
    """Call a chain; what came to its gate, and what it returned."""
    arrived = []
    way = passage(lambda arguments: arrived.append(arguments) or nullcontext())
    with Flask(__name__).app_context():
        return arrived, way.call(chain.view, (args, kwargs))


@pytest.mark.parametrize("name", [n for n in DECORATED if n != "a cache"])
def test_a_call_comes_to_the_gate_inside_every_decorator(name):
    decorated = DECORATED[name]
    expected = decorated()
    chain = Chain(decorated)

    arrived, outcome = gate_calls(chain)

    assert not chain.sealed
    assert arrived == [((), {})]
    assert outcome == expected
    assert decorated() == expected  # the app's own is as it was


def test_what_cannot_be_opened_is_named():
    chain = Chain(DECORATED["a cache"])

    arrived, _ = gate_calls(chain)

    assert len(arrived) == 1
    assert len(chain.sealed) == 1


def test_a_view_that_uses_functions_of_its_factory_is_no_decorator():
    def handler(*args):
        return ["made"]

    def process():
        return handler()

    def process_anything(*args, **kwargs):
        return handler(*args)

    for one in (process, process_anything):
        chain = Chain(one)
        assert (chain.layers, chain.sealed) == ([], [])
        arrived, outcome = gate_calls(chain)
        assert (len(arrived), outcome) == (1, ["made"])


class Lazy:
    """From Flask's documentation, "Lazily Loading Views"."""

    def __init__(self, name):
        self.name = name

    @functools.cached_property
    def view(self):
        return LOADED[self.name]

    def __call__(self, *args, **kwargs):
        return self.view(*args, **kwargs)


LOADED = {"view": view, **{f"view {number}": view for number in range(30)}}


class Proxy:
    def __init__(self, f):
        self.inner = Lazy("view")
        self.handlers = [[f]]

    def __call__(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def handle(self, *args, **kwargs):
        return self.handlers[0][0](*args, **kwargs)


def by_an_object(f):
    proxy = Proxy(f)

    def check(*args, **kwargs):
        return proxy.handle(*args, **kwargs)

    return check


def by_its_own_attribute(f):
    def check(*args, **kwargs):
        return check.target(*args, **kwargs)

    check.target = f
    return check


def by_keywords_only(controller):
    def check(**kwargs):
        return controller(**kwargs)

    return check


def from_a_table(*args, **kwargs):
    return LOADED["view"](*args, **kwargs)


def by_odd_name(endpoint):
    def check():
        return endpoint()

    return check


class Checked:
    def post(self, *args, **kwargs):
        return super().post(*args, **kwargs)


class Posts(MethodView):
    def post(self):
        return ["post"]


class CheckedPosts(Checked, Posts):
    pass


@pytest.mark.parametrize(
    "hidden",
    [
        Lazy("view"),
        Proxy(view),
        Proxy(view).handle,
        by_an_object(view),
        by_its_own_attribute(view),
        from_a_table,
        by_odd_name(view),
        CheckedPosts.as_view("posts"),
    ],
    ids=lambda one: getattr(one, "__qualname__", type(one).__name__),
)
def test_what_passes_on_to_something_unseen_may_hide_a_guard(hidden):
    assert Chain(hidden).unseen(by_name=True)


def test_a_wrapper_with_the_name_of_what_it_holds_is_a_decorator():
    decorated = by_odd_name(view)
    decorated.__name__ = view.__name__  # as it is done by hand where Flask says that an endpoint exists already

    chain = Chain(decorated)

    assert (len(chain.layers), chain.sealed) == (1, [])


def generate(topic):
    return topic.upper()


def of_a_factory(handler):
    def process():
        return [handler("a"), handler("b")]

    return process


class Strategy:
    def __init__(self, generate):
        self.generate = generate

    def __call__(self):
        return [self.generate("a"), self.generate("b")]


def with_function(generate):
    return [generate("a"), generate("b")]


def with_default(func=generate):
    return [func("a"), func("b")]


@pytest.mark.parametrize(
    "using", [of_a_factory(generate), Strategy(generate), functools.partial(with_function, generate), with_default]
)
def test_a_view_that_uses_a_function_given_to_it_is_not_taken_apart(using):
    chain = Chain(using)

    arrived, outcome = gate_calls(chain)

    assert chain.layers == []
    assert arrived == [((), {})] or arrived == [((generate,), {})]  # the view itself, and not its helper
    assert outcome == ["A", "B"]


def test_a_view_of_any_arguments_that_passes_none_on_hides_nothing():
    def catch_all(**kwargs):
        return sorted(kwargs)

    assert Chain(catch_all).sealed == []


class Switch:
    def __init__(self, f):
        self.f = f
        self.on = False
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return ["refused"] if self.on else self.f(*args, **kwargs)


def test_a_decorator_that_is_changed_later_is_changed_for_the_view_too():
    switch = Switch(view)
    chain = Chain(switch)

    assert gate_calls(chain)[1] == ["view"]
    switch.on = True
    assert gate_calls(chain) == ([], ["refused"])
    assert switch.calls == 2
    switch.on, switch.f = False, lambda: ["another"]
    assert gate_calls(chain)[1] == ["another"]


class Registering(type):
    known: list = []  # noqa: RUF012 - of all classes

    def __new__(mcs, name, bases, body):
        made = super().__new__(mcs, name, bases, body)
        mcs.known.append(made)
        return made


class OfAPath(MethodView):
    def __init_subclass__(cls, *, path, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.path = path


class Registered(MethodView, metaclass=Registering):
    def post(self):
        return ["registered"]


class WithPath(OfAPath, path="/x"):
    init_every_request = False
    count = 0

    def post(self):
        self.count += 1
        return [self.path, self.count]


@pytest.mark.parametrize(("kind", "outcomes"), [(Registered, [["registered"]] * 2), (WithPath, [["/x", 1], ["/x", 2]])])
def test_a_class_that_hears_of_its_subclasses_hears_of_none(kind, outcomes):
    known = [*Registering.known]
    chain = Chain(kind.as_view("process"))

    with Flask(__name__).test_request_context(method="POST"):
        assert [gate_calls(chain)[1] for _ in outcomes] == outcomes
    assert Registering.known == known


def test_what_decorators_share_stays_shared():
    decorated = counted(view)
    chain = Chain(decorated)

    assert decorated() == [1, "view"]
    assert gate_calls(chain)[1] == [2, "view"]
    assert decorated() == [3, "view"]


def test_two_gates_in_copies_of_one_function_do_not_meet():
    decorated = traced(view)
    first, second = Chain(decorated), Chain(decorated)

    assert len(gate_calls(first)[0]) == 1
    assert len(gate_calls(second)[0]) == 1


def test_async_views_and_decorators():
    def login(f):
        @functools.wraps(f)
        async def wrapper(*args, **kwargs):
            return ["async", *await f(*args, **kwargs)]

        return wrapper

    @login
    async def process():
        await asyncio.sleep(0)
        return ["view"]

    arrived, outcome = gate_calls(Chain(process))

    assert (arrived, outcome) == ([((), {})], ["async", "view"])


def test_the_methods_of_a_class_based_view_have_gates():
    class Lessons(MethodView):
        decorators = (traced,)

        def __init__(self, made):
            self.made = made

        @unnamed
        def post(self, id):
            return [self.made, id]

    view = Lessons.as_view("lessons", "made")
    chain = Chain(view)
    app = Flask(__name__)

    arrived = []
    passage = Passage(lambda arguments: arrived.append(arguments) or nullcontext())
    with app.test_request_context(method="POST"):
        assert passage.call(chain.view, ((), {"id": 7})) == ["traced", "unnamed", "made", 7]

    [((self,), named)] = arrived
    assert isinstance(self, Lessons)
    assert named == {"id": 7}
    assert [layer.name.rpartition(".")[2] for layer in chain.layers] == ["wrapper", "wrapper"]
    assert new_instance(view).made == "made"
    assert find_class_view(traced(view)) is not None


def test_a_class_based_view_that_is_made_once():
    class Page(View):
        init_every_request = False

        @traced
        def dispatch_request(self):
            return ["page"]

    arrived, outcome = gate_calls(Chain(Page.as_view("page")))

    assert (len(arrived), outcome) == (1, ["traced", "page"])


def test_a_class_that_checks_before_it_dispatches_is_a_layer():
    class Lessons(MethodView):
        def dispatch_request(self, **kwargs):
            if not self.logged_in():
                return "log in", 401
            return super().dispatch_request(**kwargs)

        def logged_in(self):
            return False

        def post(self, id):
            return [id]

    chain = Chain(Lessons.as_view("lessons"))
    with Flask(__name__).test_request_context(method="POST"):
        assert Passage(lambda arguments: nullcontext()).call(chain.view, ((), {"id": 7})) == ("log in", 401)
        assert Run({}, name="lessons").call(chain.view, ((), {"id": 7})) == [7]
