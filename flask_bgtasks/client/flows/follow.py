"""Follows tasks for one consumer, from wherever they stand until each of them is over.

Turn by turn: send what is still to be sent, look at what the registry says (another thread or process may have settled
a task), then ask by the rung of the ladder on which the network leaves us (:mod:`.channels`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from ...errors import CredentialsRefused, Unreachable, WaitTimeout
from ...wording import counted
from ..events import KINDS, Kind, Outcome, TaskEvent
from ..io.effects import Call, Effect, Flow, Sleep, within
from ..pending import records
from ..pending.records import OVER, PENDING, Record, Sighting, State
from . import channels
from .announce import Listener, tell
from .ladder import Channel, Rung
from .outbox import flush, send_seen
from .session import MAX_AT_ONCE, Session

log = logging.getLogger("flask_bgtasks.client")

Give = Callable[[TaskEvent], Effect | None]

LOOK_SECONDS = 0.25  # between two looks at what another thread or process does
PAGES = 20  # of events that are read to give what polling passed over


class Following:
    """One consumer and the tasks that it follows.

    :param keys: the records to follow; None for all that are pending, those that come meanwhile included.
    :param give: makes the effect by which the consumer gets an event; None for one that wants the outcomes only.
    :param timeout: seconds; None for no limit.
    :param listener: told each outcome that nobody was told of; whoever asks for a task gets its outcome in any case.
    :param untold_only: this consumer asks for no task, only for what nobody was told.
    """

    def __init__(
        self,
        session: Session,
        keys: Collection[str] | None,
        *,
        give: Give | None = None,
        timeout: float | None = None,
        listener: Listener | None = None,
        untold_only: bool = False,
    ) -> None:
        self.session = session
        self.outcomes: dict[str, Outcome] = {}
        self.channel = Channel(session.timing, mirrored=session.mirror is not None, random=session.random)
        self.answers: dict[str, tuple[str, float | None]] = {}  # of polls: version and wish, by address
        self._rung: Rung | None = None  # of the last turn
        self._keys = None if keys is None else dict.fromkeys(keys)
        self._known: dict[str, None] = dict(self._keys or {})
        self._give = give
        self._listener = listener or session.on_outcome
        self._untold_only = untold_only
        self._timeout = timeout
        self._deadline = None if timeout is None else session.clock.monotonic() + timeout
        self._shown: dict[str, int] = {}  # the newest progress that the consumer has, by key
        self._places: dict[str, int] = {}  # the last event of a stream that it has, by key
        self._unread = 0  # how often in a row a result could not be read

    @property
    def now(self) -> float:
        """The monotonic time."""
        return self.session.clock.monotonic()

    def run(self) -> Flow[None]:
        """Follow until all is over.

        :raises WaitTimeout: they did not end in time. :raises CredentialsRefused: the server answered 401.
        """
        return within(self._run(), self.left)

    def _run(self) -> Flow[None]:
        yield from self.session.unblock()
        while True:
            yield from flush(self.session, only=self._keys)
            waiting = yield from self._look()
            if not waiting:
                return
            if self.left() == 0:
                raise WaitTimeout(waiting[0].request_id or waiting[0].key, self._timeout or 0.0)
            try:
                yield from self._turn(waiting)
            except CredentialsRefused:
                yield from self.session.block(waiting)
                raise

    def left(self) -> float | None:
        """The seconds that are left; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - self.now)

    def _look(self) -> Flow[list[Record]]:
        """The records that are not over; what is over is given to the consumer, once."""
        if self._keys is None:
            for record in (yield from self.session.all_in(PENDING)):
                self._known[record.key] = None
        waiting = []
        found: list[Record] = yield Call(
            self.session.registry.these, ([key for key in self._known if key not in self.outcomes],)
        )
        for record in found:
            if record.state is State.BLOCKED:
                raise CredentialsRefused
            if record.state not in OVER or not (yield from self.finish(record)):
                waiting.append(record)
        return waiting

    def _turn(self, waiting: list[Record]) -> Flow[None]:
        following = [record for record in waiting if record.state is State.FOLLOWING]
        if not following:
            yield from self.sleep(self._pause(waiting))
            return
        rung = self.channel.choose(self.now)
        if rung is not self._rung:
            log.info("following %s by %s", counted(len(following), "task"), rung.value)
            self._rung = rung
        if rung is Rung.MONITOR:
            yield from channels.monitor(self, following)
        elif rung is Rung.STREAM and len(following) == len(waiting) <= MAX_AT_ONCE:
            yield from channels.stream(self, following)
        else:  # a stream would keep us from what is still to be sent, and from what it does not tell of
            yield from channels.poll(self, following)

    def _pause(self, waiting: list[Record]) -> float:
        """How long there is nothing to do but to wait: to send again, for somebody else, or to ask for a result."""
        now, timing = self.session.clock.time(), self.session.timing
        pauses = []
        for record in waiting:
            if record.state is State.QUEUED:
                pauses.append(max(record.next_try_at, record.not_before) - now)
            elif record.state in OVER:
                pauses.append(self.session.random.uniform(0, timing.probe.ceiling(self._unread)))
            else:
                pauses.append(LOOK_SECONDS)
        return max(0.0, min(pauses))

    def sleep(self, seconds: float) -> Flow[None]:
        """Let time pass, no more than is left. A timer that is very late: the machine slept, the network is new."""
        left = self.left()
        seconds = seconds if left is None else min(seconds, left)
        began = self.now
        yield Sleep(seconds)
        if self.now - began > 2 * seconds + 1:
            self.channel.wake()

    def all_over(self, followed: Iterable[Record]) -> bool:
        """Whether the consumer has the outcome of all of these."""
        return all(record.key in self.outcomes for record in followed)

    def has_changed(self, followed: Iterable[Record]) -> Flow[bool]:
        """Whether there are others to follow by now: the registry has many writers."""
        wanted = {record.key for record in followed if record.key not in self.outcomes}
        if self._keys is None:
            found = yield from self.session.all_in(PENDING)
        else:
            found = yield Call(self.session.registry.these, (wanted,))
        going_on = {r.key for r in found if r.state is State.FOLLOWING and not r.misses}
        return going_on != wanted or len(found) > len(going_on)

    # -- what the rungs have learnt ------------------------------------------------------------------------------------

    def place(self, record: Record) -> int:
        """The last event of its stream that the consumer has."""
        return max(record.cursor, self._places.get(record.key, 0))

    def sight(self, record: Record, sighting: Sighting, event: Mapping[str, Any] | None = None) -> Flow[Record]:
        """Take in what a channel says of a task, and give it to the consumer if it is new to that.

        :param event: the data of an event of a stream; None where this is only how the task stands.
        """
        keep = self.session.change if sighting.terminal else self.session.note
        before, after = yield from keep(record.key, partial(records.sighted, sighting=sighting))
        if after.state in OVER:
            yield from self.finish(after)
            return after
        if event is not None:
            yield from self._show(after, str(event.get("type")), int(event.get("seq") or 0), event, sighting.via)
        elif after.seq > before.seq or after.percentage > before.percentage:
            yield from self._show(after, "status", after.seq, sighting.progress or {}, sighting.via)
        return after

    def finish(self, record: Record) -> Flow[bool]:
        """Give the outcome to the consumer, and tell it if nobody did; whether that is done."""
        if record.key in self.outcomes:
            return True
        if self._give is not None and self.channel.rung is not Rung.MONITOR:
            yield from self._catch_up(record)
        show = None if self._untold_only else partial(self._conclude, record)
        outcome = yield from tell(self.session, record, listener=self._listener, show=show)
        if outcome is None:
            self._unread += 1
            return False
        self._unread = 0
        self.outcomes[record.key] = outcome
        if self.channel.rung is not Rung.MONITOR:
            yield from send_seen(self.session, only={record.key})
        return True

    def _conclude(self, record: Record, outcome: Outcome) -> Flow[None]:
        self.outcomes[record.key] = outcome
        data = {"error_message": outcome.error_message, "result": outcome.result}
        yield from self._emit(record, Kind.TERMINAL, outcome.status, record.settled_seq, data, outcome.via)

    def moved(self, record: Record, place: int) -> Flow[None]:
        """The consumer has the events of this stream up to here. Kept, so that the next process goes on there."""
        if place <= self._places.get(record.key, 0):
            return
        self._places[record.key] = place
        if self._give is not None:
            yield from self.session.note(record.key, partial(records.moved, cursor=place))

    def _catch_up(self, record: Record) -> Flow[None]:
        """Give the steps and the output that came while only the status was asked for."""
        for _ in range(PAGES):
            place = self.place(record)
            if record.request_id is None or place >= record.settled_seq - 1:
                return
            address = self.session.path(record.request_id, f"events?starting_after={place}")
            try:
                answer = yield from self.session.ask("GET", address, headers={"accept": "application/json"})
            except (Unreachable, CredentialsRefused):
                return  # it is for watching; the result has everything
            found = answer.document()
            for event in found.get("events") or []:
                if KINDS.get(event["type"]) in (Kind.STEP, Kind.OUTPUT):
                    yield from self._show(record, event["type"], event["seq"], event, "poll")
            if not answer.ok or not found.get("events"):
                return
            yield from self.moved(record, int(found["next"]))

    # -- the consumer --------------------------------------------------------------------------------------------------

    def _show(self, record: Record, type: str, seq: int, data: Mapping[str, Any], via: str) -> Flow[None]:
        kind = KINDS.get(type, Kind.PROGRESS)
        if kind is Kind.TERMINAL:
            return  # an end that is none: the task was run again since
        if kind is Kind.PROGRESS:
            if seq <= self._shown.get(record.key, 0):
                return
            self._shown[record.key] = seq
        yield from self._emit(record, kind, type, seq, data, via)

    def _emit(self, record: Record, kind: Kind, type: str, seq: int, data: Mapping[str, Any], via: str) -> Flow[None]:
        if self._give is None:
            return
        effect = self._give(
            TaskEvent(
                kind=kind,
                type=type,
                key=record.key,
                request_id=record.request_id,
                seq=seq,
                attempt=int(data.get("attempt") or record.attempt),
                status=type if kind is Kind.TERMINAL else record.status,
                percentage=record.percentage,
                data=data,
                via=via,
            )
        )
        if effect is not None:
            yield effect
