"""What two processes that tell each other of changes do in tests."""

from datetime import timedelta

from flask_bgtasks.core.transitions.attempt import Claim
from flask_bgtasks.runtime import processes
from tests.support.tasks import new_task

LEASE = timedelta(minutes=5)


def held(app, *args, task="work"):
    """A task that is begun with its creation, as for this process: nobody ends it but the test."""
    registry = app.state.registry
    name = next(name for name in registry if name.rpartition(".")[2] == task)
    stored = new_task(name=name, kind=registry[name].kind)
    claim, input = Claim(processes.me(), LEASE), {"args": [*args], "kwargs": {}}
    return app.state.store.create(stored, input=input, claim=claim, most_running=registry.most_running).attempt.task


def submit(app, *args, task="work"):
    with app.app_context():
        return getattr(app, task).submit(*args)


def stream(app, handle):
    """What an event stream gives from beginning to end."""
    return app.test_client().get(f"/tasks/{handle.request_id}/events").get_data(as_text=True)
