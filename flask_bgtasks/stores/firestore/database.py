"""What the parts of the Firestore store share: the client, the collections, time, and how a change is written.

A change reads the task, lets the model say what becomes of it, and commits that under the condition that the document
is still the version which was read; refused, it reads again. No transactions: they lock, and slow each other down.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from ...core.model import Event, Task
from ...core.transitions.transition import Change, Transition
from ...errors import NotStorable, StoreUnavailable, TaskNotFound
from ...firebase.firestore.client import ONCE, Firestore, bulk_batch, field, is_error, refused, told
from .. import conversions
from ..base import PRIVATE, Store
from ..conversions import CHECKPOINT
from ..keys import can_exist
from ..types import Clock, NewDeliveries, NewDelivery, deliveries_of
from . import rows

TASKS, DELIVERIES, SCOPES, NAMES = "bgtasks_tasks", "bgtasks_deliveries", "bgtasks_scopes", "bgtasks_names"
DEVICES, PREFERENCES, MARKS = "bgtasks_devices", "bgtasks_preferences", "bgtasks_marks"
APPS = "bgtasks_apps"

DURATIONS = "-durations"
"""What the names of documents end in that keep a task name's averages, among those of :data:`NAMES`."""

PIECE_BYTES = 900_000  # of a body; a document holds 1 MiB
PIECES_PER_COMMIT = 4
HEAD_BYTES = 100_000  # of what is kept beside a body, in the document that names its pieces

HISTORY_BYTES = 2 * 2**20
"""Of the events in one commit: a request holds 10 MiB, and the emulator takes 4. What is over stands in pieces."""

EVENT_BYTES = 300  # of an event's document, about, besides its data

TRIES = 40
"""Of a change that others get in the way of; each waits a little longer than the one before."""

TRIM_EVERY = 256
"""Events between two trims of a history that is over its bound."""

NO_OUTAGE = frozenset({"InvalidArgument", "OutOfRange"})
"""Errors by which Firestore says that a document or a value is none that it takes. What else it may answer can be
mended outside, by a right that is granted say, and then the same call succeeds."""

MAX_WRITES = 400  # in one commit; 500 are allowed

rng = random.SystemRandom()


class FirestorePart(Store):
    """Holds the client; the parts are put together in :class:`~flask_bgtasks.stores.firestore.FirestoreStore`."""

    def __init__(self, firestore: Firestore, *, app_id: str = "", clock: Clock | None, max_events: int) -> None:
        super().__init__()
        self.app_id = app_id
        self._opening = threading.Lock()  # held while this process introduces its app
        self._opened = False
        self._firestore = firestore
        self._clock = clock
        self._max_events = max_events
        self._time_lock = threading.Lock()  # protects the two below, which are one fact
        self._known_at: datetime | None = None
        self._known_by = 0.0
        self._last_id = 0

    # -- time ----------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Firestore's time: as it was last told, and what has passed since by a clock that does not jump."""
        if self._clock is not None:
            return self._clock()
        with self._time_lock:
            known, by = self._known_at, self._known_by
        if known is None:
            with self._calls():
                self._tell_time(self._collection(NAMES).document("time").get(**ONCE))
            return self.now()
        return known + timedelta(seconds=time.monotonic() - by)

    def _tell_time(self, snapshot: Any) -> None:
        """Every answer carries Firestore's time."""
        at = rows.moment(snapshot.read_time)
        with self._time_lock:
            self._known_at, self._known_by = at, time.monotonic()

    # -- reading -------------------------------------------------------------------------------------------------------

    def _collection(self, name: str) -> Any:
        return self._firestore.client.collection(name)

    def _reference(self, request_id: str) -> Any:
        """A task's document. :raises TaskNotFound: this is the id of none."""
        if not can_exist(request_id):
            raise TaskNotFound(request_id)
        return self._collection(TASKS).document(request_id)

    def _own(self, name: str) -> Any:
        """This app's documents of a collection."""
        return self._collection(name).where(filter=field("app", "==", self.app_id))

    def _keyed(self, name: str, key: str) -> Any:
        """The document that this app has once for a key."""
        return self._collection(name).document(rows.key_of(self.app_id, key))

    @abstractmethod
    def _move_in(self) -> None:
        """This app's process uses the database for the first time."""

    def _open(self) -> None:
        if self._opened or not self.app_id:
            return
        with self._opening:
            if not self._opened:
                self._move_in()
                self._opened = True

    @contextmanager
    def _calls(self) -> Iterator[None]:
        """Around calls: what they raise becomes :class:`StoreUnavailable`; what is no outage :class:`NotStorable`."""
        try:
            self._open()
            yield
        except Exception as error:
            if not is_error(error):
                raise
            if type(error).__name__ in NO_OUTAGE:
                raise NotStorable(f"the task store does not take this: {told(error)}") from error
            raise StoreUnavailable(f"the task store cannot be used right now: {told(error)}") from error

    def _read(self, request_id: str) -> tuple[Any, Task]:
        """The task's snapshot and the task. :raises TaskNotFound: there is none."""
        snapshot = self._reference(request_id).get(**ONCE)
        self._tell_time(snapshot)
        task = rows.task(snapshot.to_dict()) if snapshot.exists else None
        if task is None or task.app != self.app_id:
            raise TaskNotFound(request_id)
        return snapshot, task

    # -- writing -------------------------------------------------------------------------------------------------------

    def _attempted(self, attempt: Callable[[], Any]) -> Any:
        """Try a change until nobody gets in its way. :raises StoreUnavailable: somebody always does."""
        for number in range(TRIES):
            with self._calls():
                try:
                    return attempt()
                except Exception as error:
                    if not refused(error):
                        raise
            time.sleep(rng.uniform(0, min(0.2, 0.002 * 2.0 ** min(number, 8))))
        raise StoreUnavailable("the task store cannot be used right now: too many write the same task at once")

    def _changed(
        self,
        request_id: str,
        change: Change,
        deliveries: NewDeliveries,
        before_commit: Callable[[Any, Task], Change | None] | None = None,
    ) -> Transition:
        """Apply a change. ``before_commit`` may add to the batch, refuse, or give another change in its place."""

        def attempt() -> Transition:
            snapshot, before = self._read(request_id)
            batch = self._firestore.client.batch()
            wanted = None if before_commit is None else before_commit(batch, before)
            outcome = (wanted or change).apply(before, self.now())
            if outcome.task is before and not outcome.events and outcome.checkpoint is None:
                return outcome
            self._write(batch, snapshot, before, outcome, deliveries)
            batch.commit(**ONCE)
            self._trim(before, outcome.task)
            return outcome

        outcome: Transition = self._attempted(attempt)
        self._committed(outcome)
        return outcome

    def _write(self, batch: Any, snapshot: Any, before: Task, outcome: Transition, deliveries: NewDeliveries) -> None:
        task, reference = outcome.task, self._reference(before.request_id)
        old, new = rows.task_values(before), rows.task_values(task)
        changed = {name: value for name, value in new.items() if value != old[name]}
        if outcome.drop_private and (snapshot.to_dict() or {}).get(PRIVATE):
            batch.delete(reference.collection("parts").document(PRIVATE))
            changed[PRIVATE] = False
        if outcome.private is not None:
            self._add_private(batch, reference, outcome.private)
            batch.update(reference.collection("parts").document("input"), {"head": PRIVATE})
            changed[PRIVATE] = True
        option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
        batch.update(reference, changed or {"seq": task.seq}, option=option)
        if outcome.drop_result:
            batch.delete(reference.collection("parts").document("result"))
        if outcome.result is not None:
            self._add_part(batch, reference, "result", conversions.result_head(outcome.result), outcome.result.body)
        if outcome.checkpoint is not None:
            made = outcome.checkpoint
            self._add_part(batch, reference, CHECKPOINT + made.key, json.dumps(made.head), made.body)
        if outcome.drop_checkpoints:
            for part in self._parts(reference):
                if part.id.startswith(CHECKPOINT):
                    batch.delete(part.reference)
        self._add_history(batch, outcome, deliveries)

    def _add_history(self, batch: Any, outcome: Transition, deliveries: NewDeliveries) -> None:
        reference = self._reference(outcome.task.request_id)
        room = HISTORY_BYTES
        for event in outcome.events:
            values, data = {**rows.event_values(event), "app": self.app_id}, conversions.event_data(event)
            room -= len(data) + EVENT_BYTES
            if len(data) <= PIECE_BYTES and room >= 0:
                values["data"] = data
            else:  # it does not fit into its document or into the commit, and is there before it
                room += len(data)
                values["name"], values["pieces"] = self._write_pieces(reference, data.encode("ascii"))
            batch.set(reference.collection("events").document(rows.event_id(event.seq)), values)
        if outcome.sink_event is not None:
            for new in deliveries_of(outcome, deliveries):
                self._add_delivery(batch, new, outcome.task.request_id, outcome.sink_event.seq)

    def _add_delivery(self, batch: Any, new: NewDelivery, request_id: str | None, seq: int) -> None:
        now, number = self.now(), self._next_id()
        batch.set(
            self._collection(DELIVERIES).document(str(number)),
            {
                "id": number,
                "app": self.app_id,
                "sink": new.sink,
                "kind": new.kind,
                "request_id": request_id,
                "seq": seq,
                "payload": None if new.payload is None else json.dumps(new.payload),
                "tries": 0,
                "created_at": now,
                "due_at": now + new.delay,
                "dead": False,
                "error": None,
                "worker": None,
                "leased_until": None,
                "channel": new.channel,
            },
        )

    def _next_id(self) -> int:
        """A number that rises with time, and that two processes hardly take at once: microseconds, and random bits."""
        with self._time_lock:
            self._last_id = max(self._last_id + 1, time.time_ns() // 1000 * 1024 + rng.randrange(1024))
            return self._last_id

    # -- bodies --------------------------------------------------------------------------------------------------------

    def _add_private(self, batch: Any, reference: Any, private: Any) -> None:
        """The private part of an input. It is small: in one document, so that erasing it is one write."""
        self._add_part(batch, reference, PRIVATE, None, json.dumps(private).encode("ascii"))

    def _add_part(self, batch: Any, reference: Any, part: str, head: str | None, body: bytes) -> None:
        """A body beside its task: in the commit itself where it is small, else in pieces that are there before it."""
        document = reference.collection("parts").document(part)
        heading = b"" if head is None else head.encode("utf-8", "replace")
        if len(heading) + len(body) <= PIECE_BYTES:
            batch.set(document, {"head": head, "body": body, "pieces": 0, "app": self.app_id})
            return
        if len(heading) <= HEAD_BYTES:
            name, count = self._write_pieces(reference, body)
            batch.set(document, {"head": head, "body": None, "pieces": count, "name": name, "app": self.app_id})
            return
        name, count = self._write_pieces(reference, heading + body)
        values = {"head": None, "head_bytes": len(heading), "body": None, "pieces": count, "name": name}
        batch.set(document, {**values, "app": self.app_id})

    def _write_pieces(self, reference: Any, body: bytes) -> tuple[str, int]:
        """Store what is too large for a document, in several: their name, and how many there are."""
        name = uuid.uuid4().hex  # of this try: another one's pieces are not mixed with them
        pieces = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
        for begin in range(0, len(pieces), PIECES_PER_COMMIT):
            chunk = self._firestore.client.batch()
            for number in range(begin, min(begin + PIECES_PER_COMMIT, len(pieces))):
                chunk.set(_piece(reference, name, number), {"body": pieces[number]})
            chunk.commit(retry=None, timeout=ONCE["timeout"] * 5)
        return name, len(pieces)

    def _read_pieces(self, reference: Any, found: Mapping[str, Any]) -> bytes:
        """What stands in the pieces that a document names."""
        return b"".join(
            _piece(reference, found["name"], number).get(**ONCE).to_dict()["body"] for number in range(found["pieces"])
        )

    def _parts(self, reference: Any) -> list[Any]:
        """The snapshots of a task's parts, without their bodies."""
        return list(reference.collection("parts").select(["head"]).stream(**ONCE))

    def _load_part(self, request_id: str, part: str) -> tuple[str, bytes] | None:
        """The head and the body of a part. :raises TaskNotFound: of another app's task."""
        reference = self._reference(request_id)
        snapshot = reference.collection("parts").document(part).get(**ONCE)
        if not snapshot.exists:
            return None
        found = snapshot.to_dict()
        self._check_app(request_id, found)
        if not found["pieces"]:
            return found["head"], found["body"]
        whole = self._read_pieces(reference, found)
        size = found.get("head_bytes")
        return (found["head"], whole) if size is None else (whole[:size].decode("utf-8"), whole[size:])

    def _check_app(self, request_id: str, found: Mapping[str, Any]) -> None:
        """Of what lies below a task: it is this app's, or it was another's when it was written, and the task tells.

        :raises TaskNotFound: it is another app's.
        """
        if found.get("app") != self.app_id:
            self._read(request_id)

    def _event(self, reference: Any, found: Mapping[str, Any]) -> Event:
        """An event's document, with what stands beside it."""
        return rows.event(found, self._read_pieces(reference, found) if found.get("pieces") else found["data"])

    # -- erasing -------------------------------------------------------------------------------------------------------

    def _trim(self, before: Task, task: Task) -> None:
        over, trimmed = task.seq - self._max_events, list[Any]()
        if over <= 0 or over // TRIM_EVERY == (before.seq - self._max_events) // TRIM_EVERY:
            return
        reference = self._reference(task.request_id)
        events = reference.collection("events").where(filter=field("seq", "<=", over))
        for snapshot in events.select(["name", "pieces"]).stream(**ONCE):
            found = snapshot.to_dict()
            pieces = [_piece(reference, found["name"], number) for number in range(found.get("pieces") or 0)]
            trimmed += [snapshot.reference, *pieces]
        self._erase(trimmed)

    def _erase(self, references: Sequence[Any]) -> None:
        for begin in range(0, len(references), MAX_WRITES):
            batch = bulk_batch(self._firestore.client)
            for reference in references[begin : begin + MAX_WRITES]:
                batch.delete(reference)
            batch.commit(**ONCE)

    def _erase_task(self, request_id: str) -> None:
        """The task's document goes first: without it the rest is nobody's."""
        reference = self._reference(request_id)
        self._erase([reference])
        others = [
            self._collection(name).where(filter=field("request_id", "==", request_id)).select([])
            for name in (DELIVERIES, DEVICES)
        ]
        rest = [reference.collection(name).select([]) for name in ("events", "parts", "pieces")]
        for query in (*rest, *others):
            self._erase([snapshot.reference for snapshot in query.stream(**ONCE)])


def count(query: Any) -> int:
    """How many documents a query has."""
    return int(query.count().get(**ONCE)[0][0].value)


def _piece(reference: Any, name: str, number: int) -> Any:
    return reference.collection("pieces").document(f"{name}-{number:05d}")
