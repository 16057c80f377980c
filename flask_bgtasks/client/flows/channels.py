"""The three ways to follow tasks: a stream of events, polling, and Firestore plus probes of the backend.

Each is one turn of :class:`.follow.Following`: it asks, hands over what it learns, and waits as :mod:`.ladder` says.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...errors import CredentialsRefused, Unreachable
from ..io.effects import Answer, Call, Close, Flow, Left, Read, Stream
from ..io.sse import EventStreamParser, NotAnEventStream, ServerSentEvent
from ..pending.records import Record, Sighting, missed
from .ladder import Channel, Rung
from .provenance import is_refusal, unlike
from .session import MAX_AT_ONCE, Mirror, Session, sighting_of

log = logging.getLogger("flask_bgtasks.client")

MAX_ANSWERS = 40  # versions that are remembered, one for each list of ids
LOOK_AGAIN = 15.0  # seconds of a stream after which the registry is looked at: others write to it too


class Follow(Protocol):
    """What a channel needs of a consumer's follow; :class:`.follow.Following` is one."""

    session: Session
    channel: Channel
    answers: dict[str, tuple[str, float | None]]

    @property
    def now(self) -> float:
        """The monotonic time."""

    def left(self) -> float | None:
        """The seconds that are left; None without a limit."""

    def sleep(self, seconds: float) -> Flow[None]:
        """Let time pass, no more than is left."""

    def all_over(self, followed: Iterable[Record]) -> bool:
        """Whether the consumer has the outcome of all of these."""

    def has_changed(self, followed: Iterable[Record]) -> Flow[bool]:
        """Whether there are others to follow by now."""

    def place(self, record: Record) -> int:
        """The last event of its stream that the consumer has."""

    def sight(self, record: Record, sighting: Sighting, event: Mapping[str, Any] | None = None) -> Flow[Record]:
        """Take in what a channel says of a task, and give it to the consumer if it is new to that."""

    def moved(self, record: Record, place: int) -> Flow[None]:
        """The consumer has the events of this stream up to here."""


# -- the stream ------------------------------------------------------------------------------------------------------


def stream(follow: Follow, followed: list[Record]) -> Flow[None]:
    """Read one stream of these tasks, until it ends or there is something else to do."""
    by_id = {str(record.request_id): record for record in followed}
    places = ",".join(f"{i}:{place}" for i, record in by_id.items() if (place := follow.place(record)))
    address = follow.session.path_of_all(followed, what="/events")
    headers = {"last-event-id": places} if places else {}
    try:
        opened = yield from follow.session.open(address, headers=headers, lifetime=follow.left())
    except Unreachable:
        yield from follow.sleep(follow.channel.stream_broke(follow.now))
        return
    parser = EventStreamParser()
    try:
        is_stream = opened.status == 200 and opened.headers.get("content-type", "").startswith("text/event-stream")
        ended = is_stream and (yield from _read(follow, opened, parser, by_id))
    finally:
        yield Close(opened)
    if ended:
        yield from follow.sleep(follow.channel.stream_broke(follow.now, retry=parser.retry))
    elif opened.status == 404:  # it knows none of them
        with contextlib.suppress(Unreachable):
            yield from ask_status(follow, followed, via="stream")
        yield from follow.sleep(follow.session.timing.poll)
    elif not is_stream:  # 503: all places are taken. 204: there is nothing left to tell
        demand = Answer(opened.status, opened.headers).retry_after
        follow.channel.stream_refused(follow.now, retry_after=demand)


def _read(follow: Follow, opened: Stream, parser: EventStreamParser, by_id: dict[str, Record]) -> Flow[bool]:
    """Take in what comes; whether it ended, or broke, before we left it."""
    look_at = follow.now + LOOK_AGAIN
    try:
        while chunk := (yield Read(opened)):
            for event in parser.feed(chunk):
                follow.channel.stream_told()
                yield from _take(follow, by_id, event)
            if follow.all_over(by_id.values()):
                return False
            if follow.now >= look_at:
                if (yield from follow.has_changed(by_id.values())):
                    return False
                look_at = follow.now + LOOK_AGAIN
    except (Unreachable, NotAnEventStream) as error:
        log.debug("the stream broke: %s", error)
    return True


def _take(follow: Follow, by_id: dict[str, Record], event: ServerSentEvent) -> Flow[None]:
    if event.type == "ping":
        return
    data = _document(event.data)
    if event.type == "missing":
        yield from ask_status(follow, [by_id[i] for i in data.get("missing") or () if i in by_id], via="stream")
        return
    record, place = by_id.get(str(data.get("request_id"))), _place(event.id)
    if record is None or place <= follow.place(record):
        return
    try:
        if event.type == "snapshot":
            yield from follow.sight(record, sighting_of(data, via="stream"))
        elif event.type in ("failed", "cancelled"):  # an explicit retry may have followed, which the stream tells later
            yield from ask_status(follow, [record], via="stream")
        else:
            yield from follow.sight(record, _sighting(event.type, data), event={**data, "type": event.type})
    except Left:  # it has this one
        yield from follow.moved(record, place)
        raise
    yield from follow.moved(record, place)


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotAnEventStream(f"an event whose data is not JSON: {text[:80]!r}") from error
    return found if isinstance(found, dict) else {}


def _place(event_id: str) -> int:
    """The number in ``<request_id>:17;<check>.17.4``."""
    number = event_id.partition(";")[0].rpartition(":")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _sighting(type: str, data: dict[str, Any]) -> Sighting:
    running = "started" if type in ("accepted", "reopened") else "processing"
    return Sighting(
        status=type if type == "completed" else running,
        seq=int(data.get("seq") or 0),
        attempt=int(data.get("attempt") or 0),
        via="stream",
        progress=data if "progress_percentage" in data else None,
    )


# -- polling ---------------------------------------------------------------------------------------------------------


def poll(follow: Follow, followed: list[Record]) -> Flow[None]:
    """Ask once for all of them, and wait until the next time."""
    channel, monitored = follow.channel, follow.channel.rung is Rung.MONITOR
    changed, wish, demand = False, None, None
    try:
        for begin in range(0, len(followed), MAX_AT_ONCE):
            some = yield from ask_status(follow, followed[begin : begin + MAX_AT_ONCE], via="poll")
            changed = changed or some.changed
            wish = min(filter(None, (wish, some.wish)), default=None)
            demand = some.demand or demand
    except Unreachable as error:
        channel.poll_failed(follow.now, demand=error.retry_after)
        return
    channel.backend_answered()
    pause = channel.polled(follow.now, changed=changed, wish=wish, demand=demand)
    if not monitored and not follow.all_over(followed):
        yield from follow.sleep(pause)


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll brought.

    :param changed: whether anything is new. :param wish: when the backend would be asked again.
    :param demand: when it has to be, since it refused this one.
    """

    changed: bool = False
    wish: float | None = None
    demand: float | None = None


def ask_status(follow: Follow, followed: list[Record], *, via: str) -> Flow[Polled]:
    """Ask the backend how these tasks stand, at most :data:`.MAX_AT_ONCE`, and take that in.

    :raises Unreachable: it did not say.
    """
    by_id = {str(record.request_id): record for record in followed}
    address = follow.session.path_of_all(followed)
    version, wish = follow.answers.pop(address, ("", None))
    answer = yield from follow.session.ask("GET", address, headers={"if-none-match": version} if version else None)
    if answer.status == 304:
        follow.answers[address] = (version, wish)
        return Polled(wish=wish)
    if answer.status == 429:
        return Polled(demand=answer.retry_after or follow.session.timing.slowest_poll)
    found = answer.document()
    if found.get("anonymous") and found.get("missing"):  # the login has expired, and the tasks may be there
        raise CredentialsRefused
    if not answer.ok or not isinstance(found.get("tasks"), list):
        why = answer.complaint() if is_refusal(answer) else unlike(answer)
        log.info("asked how tasks stand: %s", why)
        raise Unreachable(why, retry_after=answer.retry_after)
    changed, wishes = False, []
    for document in found["tasks"]:
        record = by_id.get(str(document.get("request_id")))
        if record is None:
            continue
        after = yield from follow.sight(record, sighting_of(document, via=via))
        changed = changed or after.seq > record.seq
        if document.get("poll_after_ms"):
            wishes.append(document["poll_after_ms"] / 1000)
    yield from _missed(follow, by_id, found)
    wish = min(wishes, default=None)
    if "etag" in answer.headers and not found.get("missing"):
        if len(follow.answers) >= MAX_ANSWERS:
            follow.answers.clear()
        follow.answers[address] = (answer.headers["etag"], wish)
    return Polled(changed, wish)


def _missed(follow: Follow, by_id: dict[str, Record], document: dict[str, Any]) -> Flow[None]:
    for request_id in document.get("missing") or []:
        if request_id in by_id:
            yield from follow.session.change(by_id[request_id].key, missed)


# -- the monitor -----------------------------------------------------------------------------------------------------


def monitor(follow: Follow, followed: list[Record]) -> Flow[None]:
    """The backend cannot be reached: look for it now and then, and read the mirror meanwhile."""
    mirror = follow.session.mirror
    if mirror is not None and follow.channel.mirror_due(follow.now):
        yield from read_mirror(follow, mirror, followed)
    if follow.all_over(followed):
        return
    if follow.channel.probe_due(follow.now):
        yield from poll(follow, followed)
    else:
        yield from follow.sleep(follow.channel.until_next(follow.now))


def read_mirror(follow: Follow, mirror: Mirror, followed: list[Record]) -> Flow[None]:
    """Read how these tasks stand where they are mirrored."""
    for record in followed[:MAX_AT_ONCE]:
        try:
            document = yield Call(mirror.task, (record.request_id,))
            progress = (yield Call(mirror.progress, (record.request_id,))) if document is not None else None
        except Exception as error:  # of whichever mirror it is
            log.debug("the mirror cannot be read: %s", error)
            follow.channel.mirror_failed(follow.now)
            return
        if document is not None:  # none: not yet, or not for this user; never that it is gone
            yield from follow.sight(record, sighting_of(document, via="firestore", progress=progress))
    follow.channel.mirror_read(follow.now)
