"""What the HTTP layer keeps per app beside the state: cached answers and the places for streams.

Looked up from the app in each request, never from the state with which the blueprint was registered: the test fixture
replaces that state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import Flask, request

from ..app.state import KEY, AppState, state_of
from ..auth.owners import is_id
from ..core.model import Task
from ..errors import TaskNotFound
from ..runtime.server_threads import streams
from ..wording import counted
from .problems import TYPES, Problem
from .requests.client_address import client_network
from .responses.stats_cache import Figures
from .responses.status_cache import StatusCache
from .streaming.frame_cache import FrameCache
from .streaming.slots import Slot, Slots

PARTS_KEY = KEY + ".http"

STREAMS_RETRY_SECONDS = 15
"""When a client without a place for its stream tries again: it polls meanwhile."""


@dataclass(frozen=True)
class HttpContext:
    """One app's parts of the HTTP layer."""

    state: AppState
    answers: StatusCache
    slots: Slots
    frames: FrameCache
    figures: Figures

    def base(self) -> str:
        """The path of the blueprint, as the client of this request sees it."""
        return request.root_path + self.state.settings.url_prefix

    def token(self, task: Task) -> str | None:
        """A fresh ``access_token`` for a task, None where the app has no ``SECRET_KEY`` to sign with."""
        return self.state.access.sign(task.request_id)

    def owner(self) -> str:
        """The owner of this request, for what belongs to a person. :raises Problem: it has none."""
        owner = self.state.owners.current()
        if owner is None:
            raise Problem("owner-required", TYPES["owner-required"].meaning)
        return owner

    def take_slot(self) -> Slot | None:
        """A place for an answer that waits, None if all are taken, or all of this client's share."""
        return self.slots.take(lambda: streams(request.environ), self._client())

    def stream_slot(self) -> Slot:
        """A place for a stream. :raises Problem: all are taken, or all of this client's share."""
        slot = self.take_slot()
        if slot is None:
            full = f"this process has {counted(self.slots.limit or 0, 'stream')} open (BGTASKS_MAX_STREAMS)"
            if self.slots.taken < (self.slots.limit or 0):
                share = counted(self.slots.share or 0, "stream")
                full = f"you have {share} open in this process (BGTASKS_MAX_STREAMS_PER_OWNER)"
            raise Problem(
                "stream-limit-reached",
                f"{full}; poll the status instead",
                headers={"Retry-After": str(STREAMS_RETRY_SECONDS)},
            )
        return slot

    def _client(self) -> str | None:
        """Whose share of the places a request takes from: its owner's, else that of the address that it comes from.

        None where the clients of an app that names no owners all seem to come from a proxy: a share would be for all.
        """
        owners = self.state.owners
        # Who reads by a token needs no login, so nobody is asked for one.
        owner = None if request.args.get("access_token") else owners.current()
        if owner is not None:
            return f"owner:{owner}"
        network = client_network(request.remote_addr)
        return f"address:{network or 'unknown'}" if network is not None or owners.known else None

    def readable(self, request_id: str, token: str | None = None) -> Task:
        """A task that this request may read: its owner's, or by the ``access_token`` in its address.

        :param token: the token, where the address holds several.
        :raises TaskNotFound: it may not, or there is none. :raises AccessDenied: the token is wrong.
        """
        token = token if token is not None else request.args.get("access_token")
        if not token:
            return self.state.access.task(request_id)
        if not is_id(request_id):
            raise TaskNotFound(request_id)
        return self.state.access.token_task(request_id, token)


def parts_of(app: Flask) -> HttpContext:
    """The parts that belong to the app's present state."""
    extensions = app.extensions  # once: asking current_app costs, and every poll comes here
    parts = cast("HttpContext | None", extensions.get(PARTS_KEY))
    if parts is None or parts.state is not extensions.get(KEY):
        state = state_of(app)
        parts = extensions[PARTS_KEY] = HttpContext(
            state=state,
            answers=StatusCache(state.store, state.settings.url_prefix),
            slots=Slots(state.settings.max_streams, state.settings.max_streams_per_owner),
            frames=FrameCache(),
            figures=Figures(state.store, state.registry),
        )
    return parts
