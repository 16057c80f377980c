"""What all code that talks to one server shares: headers, registry, clock, and the way to send requests.

Sends fresh headers, and remembers which ones the server has refused. Does no I/O itself: it yields effects.
"""

from __future__ import annotations

import logging
import random
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...core.backoff import rng
from ...errors import CredentialsRefused, TaskNotFound
from ...runtime import processes
from ..events import Outcome
from ..io.effects import Answer, Call, Clock, Close, Flow, Open, Request, Stream, SystemClock
from ..pending.ids import as_request_id
from ..pending.records import Record, RecordTransition, Sighting, State, blocked, unblocked
from ..pending.registry import PendingRegistry
from .ladder import Timing
from .provenance import wants_login

log = logging.getLogger("flask_bgtasks.client")

MAX_AT_ONCE = 50
"""Ids in one request: with them an address stays under the 4094 bytes of gunicorn's ``limit_request_line``."""

Headers = Mapping[str, str]


class Mirror(Protocol):
    """Reads tasks where they are mirrored, without the backend: :class:`.FirestoreReader`. Both calls may block."""

    def task(self, request_id: str) -> dict[str, Any] | None:
        """The ``background_tasks`` document, None while there is none to read."""
        ...

    def progress(self, request_id: str) -> dict[str, Any] | None:
        """The ``request_progress`` document, None while there is none to read."""
        ...

    def result(self, request_id: str) -> Any:
        """What a completed task answered."""
        ...


@dataclass(eq=False, kw_only=True)
class Session:
    """One server, asked by one owner.

    :param prefix: where the blueprint stands. :param headers: for every request, or a function that gives fresh ones.
    :param on_outcome: told each outcome once.
    """

    registry: PendingRegistry
    prefix: str = "/tasks"
    headers: Headers | Callable[[], Any] = field(default_factory=dict)
    user_token: str | None = None
    mirror: Mirror | None = None
    on_outcome: Callable[[Outcome], Any] | None = None
    timing: Timing = field(default_factory=Timing)
    clock: Clock = field(default_factory=SystemClock)
    random: random.Random = rng
    refused: tuple[Headers, float] | None = None  # what was answered 401, and when

    @property
    def holder(self) -> str:
        """Who claims: this process."""
        return processes.me()

    # -- the registry --------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Flow[Record]:
        """The record of a key. :raises TaskNotFound: it was over, and was pruned."""
        found: Record | None = yield Call(self.registry.get, (key,))
        if found is None:
            raise TaskNotFound(key)
        return found

    def all_in(self, states: Collection[State]) -> Flow[list[Record]]:
        """The records in these states."""
        found: list[Record] = yield Call(self.registry.all_in, (states,))
        return found

    def change(self, key: str, transition: RecordTransition) -> Flow[tuple[Record, Record]]:
        """Change a record for good; how it was, and how it is."""
        changed: tuple[Record, Record] = yield Call(self.registry.change, (key, transition))
        return changed

    def note(self, key: str, transition: RecordTransition) -> Flow[tuple[Record, Record]]:
        """Change what may be lost by a power cut."""
        changed: tuple[Record, Record] = yield Call(self.registry.note, (key, transition))
        return changed

    # -- addresses -----------------------------------------------------------------------------------------------------

    def path(self, request_id: str | None, what: str) -> str:
        """The path of one task's result, say."""
        return f"{self.prefix}/{_quoted(request_id)}/{what}"

    def path_of_all(self, followed: Iterable[Record], *, what: str = "") -> str:
        """The path of what is asked about several tasks."""
        return f"{self.prefix}{what}?ids={','.join(_quoted(record.request_id) for record in followed)}"

    # -- asking --------------------------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Headers | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
    ) -> Flow[Answer]:
        """Ask the server.

        :raises Unreachable: no answer. :raises CredentialsRefused: it wants other credentials, and there are none.
        """

        def request(credentials: Headers) -> Request:
            return Request(
                method=method,
                path=path,
                headers={"accept": "application/json, */*;q=0.5", **(headers or {}), **credentials},
                body=body,
                timeout=timeout or self.timing.poll_timeout,
            )

        answer: Answer = yield from self._with_credentials(request)
        return answer

    def open(self, path: str, *, headers: Headers, lifetime: float | None) -> Flow[Stream]:
        """Ask for an answer that goes on, a stream of events. Raises what :meth:`ask` does."""

        def request(credentials: Headers) -> Open:
            return Open(
                path=path,
                headers={"accept": "text/event-stream", "accept-encoding": "identity", **headers, **credentials},
                silence=self.timing.silence,
                lifetime=lifetime,
            )

        stream: Stream = yield from self._with_credentials(request)
        return stream

    def current_headers(self) -> Flow[Headers]:
        """The headers of the moment."""
        if not callable(self.headers):
            return self.headers
        found: Headers = yield Call(self.headers)
        return dict(found)

    def _with_credentials(self, request: Callable[[Headers], Request | Open]) -> Flow[Any]:
        headers = yield from self.current_headers()
        if self._was_refused(headers):
            raise CredentialsRefused
        answer = yield request(headers)
        if _is_refused(answer) and callable(self.headers):  # they may have been too old: a function has fresh ones
            yield from _end(answer)
            headers = yield from self.current_headers()
            answer = yield request(headers)
        if _is_refused(answer):
            yield from _end(answer)
            self.refused = (headers, self.clock.monotonic())
            log.warning("the server answered %d: pending tasks wait for other credentials", answer.status)
            raise CredentialsRefused
        return answer

    def _was_refused(self, headers: Headers) -> bool:
        if self.refused is None:
            return False
        what, when = self.refused
        return headers == what and self.clock.monotonic() - when < self.timing.refused_again

    # -- credentials ---------------------------------------------------------------------------------------------------

    def block(self, records: Collection[Record]) -> Flow[None]:
        """The server wants other credentials for these."""
        for record in records:
            yield from self.change(record.key, blocked)

    def unblock(self) -> Flow[None]:
        """Go on with what waits for other credentials, if there are any."""
        waiting = yield from self.all_in({State.BLOCKED})
        if waiting and not self._was_refused((yield from self.current_headers())):
            for record in waiting:
                yield from self.change(record.key, unblocked)


def sighting_of(document: Mapping[str, Any], *, via: str, progress: Mapping[str, Any] | None = None) -> Sighting:
    """What a task's document says: a status document of the backend, or one of the mirror.

    :param progress: the document of its progress, where that is another one.
    """
    seq = document.get("seq")
    return Sighting(
        status=str(document.get("status")),
        seq=seq if isinstance(seq, int) else None,
        attempt=int(document.get("attempt") or 0),
        via=via,
        progress=progress if progress is not None else document.get("progress"),
        error_message=document.get("error_message"),
    )


def _quoted(request_id: str | None) -> str:
    return urllib.parse.quote(as_request_id(request_id or ""), safe="")


def _is_refused(answer: Answer | Stream) -> bool:
    return wants_login(answer) if isinstance(answer, Answer) else answer.status == 401


def _end(answer: Answer | Stream) -> Flow[None]:
    if not isinstance(answer, Answer):
        yield Close(answer)
