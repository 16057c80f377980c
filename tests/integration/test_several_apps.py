"""One extension object and several apps in one process: each runs its own functions, nothing is left of dead ones."""

import gc
import weakref

import pytest
from flask import Blueprint, Flask
from flask.views import MethodView

from flask_bgtasks import BackgroundTasks, ConfigurationError, TaskFailed, TaskHandle
from tests.support.waiting import PATIENCE

shared = BackgroundTasks()


@shared.task
def shout(text):
    return text.upper()


class Factory:
    """Makes apps on one extension object, as an application factory does; closes them."""

    def __init__(self, folder):
        self.folder = folder
        self.made = []
        self.bg = BackgroundTasks()

    def new(self, name, **settings):
        app = Flask(name, instance_path=str(self.folder / name))
        self.made.append(app)
        self.init = lambda: self.bg.init_app(app, **{"store": "memory://", **settings})
        return app


@pytest.fixture
def factory(tmp_path):
    made = Factory(tmp_path)
    yield made
    for app in made.made:
        if "bgtasks" in app.extensions:
            app.extensions["bgtasks"].close(grace=5)


def result_of(app, path="/process", **kwargs):
    """What the task of a request to this app came to."""
    accepted = app.test_client().post(path, **kwargs)
    assert accepted.status_code == 202, accepted.text
    task = TaskHandle(app.extensions["bgtasks"], accepted.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)
    assert task.error_message is None
    return app.test_client().get(accepted.location + "/result").get_json()


def run_stored(app, name, *args):
    """Run a task of that name as a process does that only found it in the store."""
    with app.app_context():
        return app.extensions["bgtasks"].extension.submit(name, args=args).wait(timeout=PATIENCE)


# -- ways to write a factory: the view of each app is a closure of its own


def plain(factory, name):
    app = factory.new(name)
    factory.init()

    @app.post("/process")
    @factory.bg.background
    def process():
        return {"by": name}

    return app


def before_init_app(factory, name):
    app = factory.new(name)

    @app.post("/process")
    @factory.bg.background
    def process():
        return {"by": name}

    factory.init()
    return app


def blueprint(factory, name):
    def make():
        made = Blueprint("lessons", __name__)

        @made.post("/process")
        @factory.bg.background
        def process():
            return {"by": name}

        return made

    app = factory.new(name)
    factory.init()
    app.register_blueprint(make())
    return app


def under_a_decorator_that_forgets_what_it_wraps(factory, name):
    def guarded(view):
        def guard(**kwargs):
            return view(**kwargs)

        return guard

    app = factory.new(name)
    factory.init()

    @app.post("/process")
    @guarded
    @factory.bg.background
    def process():
        return {"by": name}

    return app


def method_view(factory, name):
    class Process(MethodView):
        decorators = (factory.bg.background(name="process"),)

        def post(self):
            return {"by": name}

    app = factory.new(name)
    factory.init()
    app.add_url_rule("/process", view_func=Process.as_view("process"))
    return app


def by_endpoint(factory, name):
    app = factory.new(name, endpoints={"process": {"respond": "async"}})
    factory.init()

    @app.post("/process")
    def process():
        return {"by": name}

    return app


def view_without_a_name_of_its_own(factory, name):
    app = factory.new(name)
    factory.init()
    app.add_url_rule(
        "/process", "process", factory.bg.background(name="process")(lambda: {"by": name}), methods=["POST"]
    )
    return app


FACTORIES = [
    plain,
    before_init_app,
    blueprint,
    under_a_decorator_that_forgets_what_it_wraps,
    method_view,
    by_endpoint,
    view_without_a_name_of_its_own,
]


@pytest.mark.parametrize("make", FACTORIES, ids=lambda make: make.__name__)
def test_each_app_runs_its_own_view(factory, make):
    one, two = make(factory, "one"), make(factory, "two")

    assert [result_of(app) for app in (one, two, one)] == [{"by": "one"}, {"by": "two"}, {"by": "one"}]


@pytest.mark.parametrize("make", FACTORIES, ids=lambda make: make.__name__)
def test_each_app_runs_its_own_view_for_a_task_that_it_finds_in_its_store(factory, make):
    one, two = make(factory, "one"), make(factory, "two")
    for app in (one, two):
        app.extensions["bgtasks"].completion.complete()

    for app, name in ((one, "one"), (two, "two")):
        definition = app.extensions["bgtasks"].registry["process"]
        with app.test_request_context("/process", method="POST"):
            view = app.extensions["bgtasks"].view_function(definition)
            assert app.ensure_sync(view)() == {"by": name}


# -- functions that are submitted


def submitted_by_a_view(factory, name):
    """Reachable from a closure cell of a view."""

    @factory.bg.task
    def generate():
        return {"by": name}

    app = factory.new(name)
    factory.init()

    @app.post("/generate")
    def submit():
        return {"request_id": generate.submit().request_id}, 202

    return app


def below_the_app(factory, name):
    """Declared where the app is a local variable."""
    app = factory.new(name)
    factory.init()

    @factory.bg.task
    def generate():
        return {"by": name}

    return app


def above_the_app(factory, name):
    """Declared before there is an app."""

    @factory.bg.task
    def generate():
        return {"by": name}

    app = factory.new(name)
    factory.bg.init_app(app, store="memory://")
    return app


def in_a_function_that_is_given_the_app(factory, name):
    def add_tasks(app):
        @factory.bg.task
        def generate():
            return {"by": name}

    app = factory.new(name)
    factory.init()
    add_tasks(app)
    return app


def made_elsewhere(factory, name):
    def make():
        def generate():
            return {"by": name}

        return generate

    app = factory.new(name)
    factory.init()
    factory.bg.task(name="generate")(make())
    return app


@pytest.mark.parametrize(
    "make",
    [submitted_by_a_view, below_the_app, above_the_app, in_a_function_that_is_given_the_app, made_elsewhere],
    ids=lambda make: make.__name__,
)
def test_each_app_runs_its_own_function(factory, make):
    one, two = make(factory, "one"), make(factory, "two")

    assert [run_stored(app, "generate") for app in (one, two, one)] == [{"by": "one"}, {"by": "two"}, {"by": "one"}]


def test_a_function_that_was_submitted_in_an_apps_context_is_that_apps(factory):
    def make(name):
        @factory.bg.task
        def generate():
            return name

        return generate

    first, second = make("one"), make("two")
    one = factory.new("one")
    factory.init()
    two = factory.new("two")
    factory.init()
    for app, function, name in ((one, first, "one"), (two, second, "two")):
        with app.app_context():
            assert function.submit().wait(timeout=PATIENCE) == name

    assert [run_stored(app, "generate") for app in (one, two)] == ["one", "two"]


def test_a_name_of_which_nothing_says_whose_it_is_is_refused_with_the_mend(factory):
    def make(name):
        @factory.bg.task
        def generate():
            return name

        return generate

    kept = [make("one"), make("two")]
    one = factory.new("one")
    factory.init()
    two = factory.new("two")
    factory.init()

    for app in (one, two):
        with pytest.raises(
            ConfigurationError, match=r"'generate' was declared by .*make\.<locals>\.generate \(2 times\)"
        ):
            run_stored(app, "generate")
        assert "generate" not in app.extensions["bgtasks"].registry  # nor is it picked from the store
    assert len(kept) == 2


def test_two_different_functions_of_one_name_are_refused_with_both_places(factory):
    def for_pupils():
        @factory.bg.task(name="generate")
        def lesson(): ...

        return lesson

    def for_teachers():
        @factory.bg.task(name="generate")
        def plan(): ...

        return plan

    kept = [for_pupils(), for_teachers()]
    app = factory.new("one")
    factory.init()

    with pytest.raises(ConfigurationError, match=r"for_pupils\.<locals>\.lesson and by .*for_teachers\.<locals>\.plan"):
        run_stored(app, "generate")
    assert len(kept) == 2


def test_another_apps_function_is_not_submitted_in_the_place_of_ones_own(factory):
    tasks = {}

    def create_app(name):
        app = factory.new(name)
        factory.init()

        @factory.bg.task
        def generate():
            return name

        tasks["generate"] = generate  # the second app takes the first one's place
        return app

    one, two = create_app("one"), create_app("two")

    with two.app_context():
        assert tasks["generate"].submit().wait(timeout=PATIENCE) == "two"
    with one.app_context(), pytest.raises(ConfigurationError, match=r"create_app\.<locals>\.generate"):
        tasks["generate"].submit()


def test_one_place_that_declares_many_tasks_of_one_app_is_found(factory, caplog):
    app = factory.new("one")
    factory.init()
    for kind in ("lesson", "quiz"):

        @app.post(f"/{kind}", endpoint=kind)
        @factory.bg.background
        def process(kind=kind):
            return {"kind": kind}

    client = app.test_client()
    answers = [client.post(f"/{kind}", headers={"Prefer": "wait=5"}) for kind in ("lesson", "quiz")]

    assert "two tasks of one app are called 'process'" in caplog.text
    assert answers[0].status_code == 500
    assert answers[1].get_json() == {"kind": "quiz"}  # never the other one's


def test_what_stands_at_the_top_of_a_module_belongs_to_every_app(tmp_path):
    apps = []
    for name in ("one", "two"):
        app = Flask(name, instance_path=str(tmp_path / name))
        shared.init_app(app, store="memory://")
        apps.append(app)

    for app in apps:
        with app.app_context():
            assert shout.submit("a").wait(timeout=PATIENCE) == "A"
        assert run_stored(app, "shout", "b") == "B"
        app.extensions["bgtasks"].close(grace=5)


def test_names_of_one_app_are_unknown_to_the_other(factory):
    one = plain(factory, "one")
    two = factory.new("two")
    factory.init()
    one.extensions["bgtasks"].completion.complete()

    assert "process" in one.extensions["bgtasks"].registry
    assert "process" not in two.extensions["bgtasks"].registry


def test_two_functions_of_one_name_in_one_app_are_refused_where_the_second_is_declared(factory):
    app = factory.new("one")
    factory.init()

    @app.post("/lesson")
    @factory.bg.background(name="process")
    def lesson(): ...

    with pytest.raises(ConfigurationError, match=r"two tasks are called 'process': .*lesson and .*quiz"):

        @app.post("/quiz")
        @factory.bg.background(name="process")
        def quiz(): ...


def test_different_factories_may_use_one_name(factory):
    def create_admin():
        app = factory.new("admin")
        factory.init()

        @app.post("/process")
        @factory.bg.background(name="process")
        def administer():
            return {"by": "admin"}

        return app

    public, admin = plain(factory, "public"), create_admin()

    assert (result_of(public), result_of(admin)) == ({"by": "public"}, {"by": "admin"})


@pytest.mark.parametrize("make", [*FACTORIES, submitted_by_a_view, above_the_app], ids=lambda make: make.__name__)
def test_nothing_is_left_of_apps_that_are_gone(tmp_path, make):
    factory, apps, views = Factory(tmp_path), [], []
    for _ in range(5):
        app = make(factory, "same")
        app.extensions["bgtasks"].completion.complete()
        views += [weakref.ref(view) for view in app.view_functions.values() if view.__module__ == __name__]
        apps.append(weakref.ref(app))
        app.extensions["bgtasks"].close(grace=0)
        factory.made.clear()
        del app
    factory.init = None
    gc.collect()

    assert sum(app() is not None for app in apps) <= 1  # the newest of what nobody has claimed
    assert len(factory.bg.registry) <= 1


def test_a_suite_that_makes_an_app_for_each_test_meets_no_other_tests_functions(tmp_path):
    def add_tasks(bg, n):
        @bg.task
        def generate():
            return n

    factory = Factory(tmp_path)
    for n in range(5):
        app = factory.new("same")
        factory.init()
        add_tasks(factory.bg, n)  # nothing says whose it is

        assert run_stored(app, "generate") == n
        app.extensions["bgtasks"].close(grace=1)
        factory.made.clear()
        factory.init = None
        del app


def test_a_failed_task_of_the_wrong_app_is_not_what_a_client_gets(factory):
    one, two = plain(factory, "one"), plain(factory, "two")

    @two.post("/fail")
    @factory.bg.background
    def fail():
        raise ValueError("two's own")  # whose text is the log's

    with two.app_context():
        accepted = two.test_client().post("/fail")
        with pytest.raises(TaskFailed, match="ValueError"):
            factory.bg.get(accepted.headers["Task-Id"]).wait(timeout=PATIENCE)
    assert one.test_client().get(accepted.location).status_code == 404


def test_a_validate_of_an_app_that_is_gone_is_gone_with_it(tmp_path):
    """Where an app factory gives `validate=` a function of its own, that function leads to its app."""
    gone = []

    def factory():
        app, bgtasks = Flask("app", instance_path=str(tmp_path)), BackgroundTasks()
        seen = []

        def check(number, app=app):
            seen.append(number)

        @app.post("/process/<int:number>")
        @bgtasks.background(validate=check)
        def process(number):
            return {"number": number}

        bgtasks.init_app(app, store="memory://", runner="inline")
        assert app.test_client().post("/process/7").status_code == 202
        assert seen == [7]
        app.extensions["bgtasks"].close(grace=1)
        gone.extend(weakref.ref(one) for one in (app, check))

    for _ in range(3):
        factory()
    gc.collect()

    assert [one() for one in gone if one() is not None] == []
