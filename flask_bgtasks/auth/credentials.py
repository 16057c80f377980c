"""Passes the login of a request on to the run: encrypted headers that the app names, and the user of its extensions.

These form the private part of a task's input, which the store erases when the task ends. Knows the sealer, the
adapters and the owners; no store.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, Request

from ..core.model import Task
from ..errors import LoginLost
from ..stores.base import PRIVATE
from . import identities
from .owners import Owners
from .sealing import Headers, Sealer

log = logging.getLogger("flask_bgtasks")


class Credentials:
    """What the runs of one app are given of their requests' logins.

    :param names: headers to keep (``BGTASKS_KEEP_HEADERS``).
    :raises ConfigurationError: headers are to be kept, and nothing can seal them.
    """

    def __init__(self, app: Flask, owners: Owners, names: tuple[str, ...]) -> None:
        self._app = app
        self._owners = owners
        self._names = frozenset(name.lower() for name in names)
        self._sealer = Sealer(app) if names else None

    def of(self, request: Request) -> dict[str, Any]:
        """The private part of an input: of the current request, after its guards have let it in."""
        private: dict[str, Any] = {}
        sealed = self._sealed(request)
        if sealed is not None:
            private["headers"] = sealed
        saved = identities.saved(self._app)
        if saved:
            private["identity"] = saved
        return private

    def opened(self, task: Task, input: Mapping[str, Any]) -> Mapping[str, Any]:
        """The captured request with the headers that were kept."""
        sealed = input.get(PRIVATE, {}).get("headers")
        if sealed is None:
            return input
        headers: Headers | None = self._sealer.open(sealed) if self._sealer is not None else None
        if headers is None:
            log.warning(
                "task %s runs without its kept headers: no SECRET_KEY or SECRET_KEY_FALLBACKS of this process opens "
                "them, or BGTASKS_KEEP_HEADERS is off here",
                task.request_id,
            )
            return input
        return {**input, "headers": [*input["headers"], *headers]}

    def restore(self, task: Task, input: Mapping[str, Any]) -> None:
        """Restore what the login extensions knew, in the run's own request context."""
        saved = input.get(PRIVATE, {}).get("identity", {})
        if "flask_login" not in saved:
            self._owners.restore(task)
        identities.restore(self._app, saved)

    def lost(self, task: Task, input: Mapping[str, Any], status_code: int | None) -> LoginLost | None:
        """Whether a view that refuses a run elsewhere than in its request lacks the request's login.

        The request was let in, with a login that the run lacks: who is told ``401`` would log in again for nothing.

        :param input: as :meth:`opened` gave it to the run. :param status_code: what the view answered.
        """
        if status_code not in (401, 403):
            return None
        if status_code == 403 and input.get(PRIVATE, {}).get("identity", {}).keys() - {"flask_wtf"}:
            return None  # the run knew who asks: the view has judged
        there = {header[0].lower() for header in input["headers"]}
        dropped = [name for name in input.get("dropped", ()) if name.lower() not in there]
        lost = LoginLost(task.request_id, status_code, dropped)
        log.error("task %s (%s): %s", task.request_id, task.name, lost)
        return lost

    def _sealed(self, request: Request) -> str | None:
        if self._sealer is None:
            return None
        kept = [(name, value) for name, value in request.headers.items() if name.lower() in self._names]
        if not kept:
            return None
        sealed = self._sealer.seal(kept)
        if sealed is None:
            log.warning("the headers of a request to %s are too large to be kept for its run", request.endpoint)
        return sealed
