"""The pytest plugin: a ``bgtasks`` fixture for apps that use flask-bgtasks, with everything in memory.

Comes with the package (entry point ``pytest11``); needs an ``app`` fixture, as pytest-flask does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from .app.handles import TaskHandle
    from .app.state import AppState
    from .core.model import Event, EventType, Task
    from .core.notifications import Notification
    from .sinks.memory import MemorySink

RECORDER = "bgtasks-recorder"


class Recorder:
    """The value of the ``bgtasks`` fixture: waits for tasks, and records what sinks receive."""

    def __init__(self, app: Flask, state: AppState, sink: MemorySink) -> None:
        self.app = app
        self.state = state
        self._sink = sink

    def wait_for(self, task: Any, *, timeout: float = 10) -> Task:
        """Wait until a task has ended, however it ends, and the sinks have received its end.

        :param task: a handle, a :class:`~flask_bgtasks.Task`, a response with a ``Task-Id`` header, or an id.
        :param timeout: seconds.
        :returns: the task as it ended.
        :raises WaitTimeout: it did not end in time.
        """
        done = self.handle(task).wait_until_done(timeout=timeout)
        self._sink.wait_for(
            lambda sink: any(t.request_id == done.request_id and e.seq == done.seq for t, e in sink.events),
            timeout=timeout,
        )
        return done

    def handle(self, task: Any) -> TaskHandle[Any]:
        """The handle of a task, given as :meth:`wait_for` takes it."""
        from .app.handles import TaskHandle

        headers = getattr(task, "headers", None)
        request_id = headers.get("Task-Id") if headers is not None else getattr(task, "request_id", task)
        if not isinstance(request_id, str):
            raise TypeError(f"{task!r} is not a task: give a handle, a response with a Task-Id header, or an id")
        return TaskHandle(self.state, request_id)

    def result(self, task: Any, *, timeout: float = 10) -> Any:
        """Wait for the end and return the result. :raises TaskFailed: it failed."""
        self.wait_for(task, timeout=timeout)
        return self.handle(task).wait(timeout=timeout)

    @property
    def events(self) -> list[tuple[Task, Event]]:
        """The lifecycle events that sinks received, in order, each with the task at that time."""
        return list(self._sink.events)

    def event_types(self, task: Any) -> list[EventType]:
        """The types of a task's lifecycle events, in order."""
        request_id = self.handle(task).request_id
        return [event.type for told, event in self._sink.events if told.request_id == request_id]

    @property
    def notifications(self) -> list[Notification]:
        """The notifications that sinks were asked to send, in order."""
        return list(self._sink.notifications)

    def wait_for_notification(self, *, timeout: float = 10) -> Notification:
        """Wait for the first notification. :raises TimeoutError: none came in time."""
        return self._sink.wait_for(lambda sink: sink.notifications[:1], timeout=timeout)[0]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "bgtasks(**settings): settings of flask-bgtasks for this test, by lower-case name, e.g. runner='threads'.",
    )


@pytest.fixture
def bgtasks(request: pytest.FixtureRequest) -> Iterator[Recorder]:
    """The app's background tasks, in memory and run inline, with a recorder as a sink.

    ``@pytest.mark.bgtasks(runner="threads")`` runs them in threads; any setting can be given so.
    """
    from .app.factory import rebuild
    from .app.state import KEY, state_of
    from .sinks.memory import MemorySink

    app: Flask = request.getfixturevalue("app")
    before = state_of(app)
    marker = request.node.get_closest_marker("bgtasks")
    given = {"store": "memory://", "runner": "inline", "show_errors": True, **(marker.kwargs if marker else {})}
    sink = MemorySink()
    state = rebuild(before, given)
    state.plugins.register(sink, name=RECORDER)
    state.deliveries.refresh()
    app.extensions[KEY] = state
    with app.app_context():
        try:
            yield Recorder(app, state, sink)
        finally:
            state.close(grace=5)
            app.extensions[KEY] = before
