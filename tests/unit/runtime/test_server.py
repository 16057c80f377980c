"""Who loads the app: told from the stack, here one that is made up."""

import sys
import threading
import types

import click
import pytest

from flask_bgtasks.runtime import server as serving


def called_from(*places, **variables):
    """Call `serving.server()` below functions of these modules, outermost first; their local variables are given."""

    def call():
        return serving.server()

    for module, function in reversed(places):
        namespace = {"__name__": module, "inner": call, **variables}
        names = ", ".join(variables)
        exec(f"def {function}({names}):\n    return inner()", namespace)
        made = namespace[function]
        call = lambda made=made: made(**variables)  # noqa: E731 - each its own
    return call()


class Worker:
    booted = False
    alive = True


def test_under_nothing_known_there_is_no_server():
    assert serving.server() is None
    assert called_from(("my.script", "main")) is None


@pytest.mark.parametrize("function", ["load_wsgi"])
def test_a_worker_of_gunicorn_is_ready_when_it_has_booted_and_stops_when_it_is_told_to(function):
    worker = Worker()

    found = called_from(("gunicorn.arbiter", "run"), ("gunicorn.workers.base", function), self=worker)

    assert found.own_signals
    assert (found.ready(), found.stopping()) == (False, False)
    worker.booted = True
    worker.alive = False
    assert (found.ready(), found.stopping()) == (True, True)


def test_gunicorns_master_serves_nothing():
    assert called_from(("gunicorn.arbiter", "setup")) is None


def test_a_worker_that_will_put_greenlets_in_the_place_of_threads_begins_later():
    green = type("GeventWorker", (Worker,), {"__module__": "gunicorn.workers.ggevent"})()

    assert called_from(("gunicorn.workers.base", "load_wsgi"), self=green) is None


@pytest.mark.parametrize(
    ("reload", "main", "serves"),
    [(False, None, True), (True, None, False), (True, "true", True), (None, None, True)],
)
def test_flask_run_serves_unless_its_reloader_starts_another_process(monkeypatch, reload, main, serves):
    monkeypatch.delenv("WERKZEUG_RUN_MAIN", raising=False)
    monkeypatch.delenv("FLASK_DEBUG", raising=False)
    if main:
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", main)

    assert (called_from(("flask.cli", "run_command"), reload=reload) is not None) is serves


def test_flask_run_in_debug_mode_has_a_reloader(monkeypatch):
    monkeypatch.delenv("WERKZEUG_RUN_MAIN", raising=False)
    monkeypatch.setenv("FLASK_DEBUG", "1")

    assert called_from(("flask.cli", "run_command"), reload=None) is None


def test_the_app_is_complete_when_the_function_that_loads_it_has_been_left():
    loading, loaded, found = threading.Event(), threading.Event(), []
    server = types.ModuleType("waitress.runner")
    server.__dict__.update(found=found, look=serving.server, loading=loading, loaded=loaded)
    exec(
        "def load():\n    found.append(look())\n    loading.set()\n    assert loaded.wait(10)\n"
        "def run():\n    load()\n    served.wait(10)\n",
        server.__dict__,
    )
    server.served = threading.Event()
    thread = threading.Thread(target=server.run)
    thread.start()
    assert loading.wait(10)

    assert found[0].ready() is False
    loaded.set()
    deadline = threading.Event()
    while not found[0].ready():
        deadline.wait(0.001)
    assert not found[0].own_signals
    server.served.set()
    thread.join(10)


def test_a_gevent_worker_whose_threads_are_greenlets_already_begins_as_any_other(monkeypatch):
    green = type("GeventWorker", (Worker,), {"__module__": "gunicorn.workers.ggevent"})()
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.SimpleNamespace(is_module_patched=lambda name: True))

    assert called_from(("gunicorn.workers.base", "load_wsgi"), self=green).own_signals


@pytest.mark.parametrize(
    ("module", "function", "variable", "told_last"),
    [("uvicorn.main", "run", "server", False), ("uvicorn.server", "_serve", "self", True)],
)
def test_uvicorn_is_asked_whether_it_has_started_and_whether_it_stops(module, function, variable, told_last):
    uvicorn = types.SimpleNamespace(started=False, should_exit=False)

    found = called_from((module, function), **{variable: uvicorn})

    assert (found.own_signals, found.told_last) == (False, told_last)
    assert (found.ready(), found.stopping()) == (False, False)
    uvicorn.started = uvicorn.should_exit = True
    assert (found.ready(), found.stopping()) == (True, True)


def test_uvicorn_may_load_the_app_before_there_is_a_server():
    found = called_from(("uvicorn.main", "run"))

    assert (found.ready(), found.stopping()) == (False, False)


def test_a_fork_is_gunicorns_only_if_gunicorn_forked():
    assert serving.server_of_fork() is None


@pytest.mark.parametrize(("name", "inside"), [("shell", True), ("seed", True), ("run", False), ("worker", False)])
def test_a_command_of_the_shell_is_known(name, inside):
    import flask.cli  # noqa: F401 - as it is in a shell's command

    assert serving.in_command() is False
    with click.Context(click.Command(name), info_name=name):
        assert serving.in_command() is inside
