"""Runs a test of an existing app in four modes: as it is, wrapped, and wrapped with each thing a client may prefer.

The client of :class:`Retrofitted` sends what the test sends, adds the header of its mode, and gives back the view's own
answer: where that was ``202``, the one from ``/tasks/{id}/result``.
"""

from __future__ import annotations

import enum
import importlib
import os
from collections.abc import Sequence
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_bgtasks import BackgroundTasks, TaskHandle
from flask_bgtasks.stores.types import TaskQuery
from tests.support.waiting import PATIENCE


def needs(package: str) -> None:
    """Skip the module where a package is missing; fail it in CI, so that a green CI has run it."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{package} is missing, and CI must not skip it: install the `test` group", pytrace=False)
        pytest.skip(f"{package} is missing: install the `test` group", allow_module_level=True)


class Mode(enum.Enum):
    """How the app is wrapped, and what each request prefers."""

    UNWRAPPED = "unwrapped"
    WRAPPED = "wrapped"
    WAIT = "wait"
    ASYNC = "respond-async"

    @property
    def prefer(self) -> str | None:
        """The ``Prefer`` header of every request."""
        return {Mode.WAIT: f"wait={PATIENCE * 3}", Mode.ASYNC: "respond-async"}.get(self)

    @property
    def runs_elsewhere(self) -> bool:
        """Whether the view runs in a thread of the runner, after the request was stored."""
        return self.prefer is not None


class Retrofitted:
    """An app of a test in one mode, and what is in its store."""

    def __init__(
        self, app: Flask, mode: Mode, endpoints: Sequence[str], *, extension: BackgroundTasks | None = None
    ) -> None:
        self.app = app
        self.mode = mode
        self.extension = extension or BackgroundTasks()
        if mode is not Mode.UNWRAPPED:
            self.extension.init_app(app, endpoints=endpoints, store="memory://", progress_interval=0.02)
        app.test_client_class = type("Client", (Client,), {"retrofitted": self})

    @property
    def state(self) -> Any:
        return self.app.extensions["bgtasks"]

    def stored(self) -> int:
        """How many tasks are in the store."""
        if self.mode is Mode.UNWRAPPED:
            return 0
        return len(self.state.store.find(TaskQuery(limit=100)).tasks)

    def close(self) -> None:
        if self.mode is not Mode.UNWRAPPED:
            self.state.close(grace=10)


class Client(FlaskClient):
    """The app's test client, in its mode."""

    retrofitted: Retrofitted

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request; the view's answer, wherever it ran.

        ``task_id`` of the answer names the task behind it, None if there is none; ``newly_stored`` is how many tasks
        the request left in the store; ``first`` is what the request itself was answered with.
        """
        ours = self.retrofitted
        if ours.mode.prefer is not None:
            kwargs["headers"] = [*_pairs(kwargs.get("headers")), ("Prefer", ours.mode.prefer)]
        before = ours.stored()
        first = response = super().open(*args, **kwargs)
        task_id = response.headers.get("Task-Id")
        newly_stored = ours.stored() - before
        if task_id is not None and response.status_code == 202:
            assert ours.mode is Mode.ASYNC, f"202 in mode {ours.mode.value}: {response.get_data(as_text=True)}"
            TaskHandle(ours.state, task_id).wait_until_done(timeout=PATIENCE)
            again = {k: v for k, v in kwargs.items() if k in ("headers", "auth", "environ_base", "base_url")}
            again["headers"] = [(k, v) for k, v in again["headers"] if k.lower() not in ("prefer", "content-type")]
            response = super().open(f"/tasks/{task_id}/result", **again)
        response.first = first
        response.task_id = task_id
        response.newly_stored = newly_stored
        return response


def _pairs(headers: Any) -> list[tuple[str, str]]:
    if headers is None:
        return []
    return list(headers.items() if hasattr(headers, "items") else headers)
