"""Leases on Firestore: the tasks that may begin, the processes that hold leases, and what a dead process leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ...core.model import Status, Task, TaskKind
from ...firebase.firestore.client import ONCE, field
from ..base import DEATH_KEPT, death_of, lost_holder
from . import rows
from .database import DELIVERIES, MARKS, TASKS
from .outbox import NOT_LEASED, FirestoreOutbox

SCANNED = 500
"""Tasks that are looked at for those that may begin, where names or queues are asked for."""


class FirestoreLeases(FirestoreOutbox):
    """The tasks as workers see them."""

    def runnable(
        self,
        *,
        limit: int,
        names: Collection[str] | None = None,
        queues: Collection[str] | None = None,
        most_running: Mapping[str, int] = {},
    ) -> list[Task]:
        tasks = self._own(TASKS)
        with self._calls():
            full = {name for name, most in most_running.items() if len(self._running(name)) >= most}
            begun = tasks.where(filter=field("status", "==", Status.PROCESSING.value))
            now = self.now()
            begun = begun.where(filter=field("lease_until", "<=", now)).order_by("lease_until")
            waiting = (
                tasks.where(filter=field("status", "==", Status.STARTED.value)).order_by("place").order_by("order")
            )
            found: list[Task] = []
            for query, has_begun in ((begun, True), (waiting, False)):
                for task in rows.tasks(snapshot.to_dict() for snapshot in query.limit(SCANNED).stream(**ONCE)):
                    if len(found) == limit:
                        return found
                    tracked = task.kind is TaskKind.TRACKED
                    named = names is None or task.name in names or (tracked and has_begun)
                    if named and (has_begun or not tracked) and (queues is None or task.queue in queues):
                        found += [task] if task.name not in full else []
            return found

    def next_due(self) -> float | None:
        with self._calls():
            now = self.now()
            held = self._own(TASKS).where(filter=field("status", "==", Status.PROCESSING.value))
            later = held.where(filter=field("lease_until", ">", now)).order_by("lease_until").limit(1)
            for snapshot in later.select(["lease_until"]).stream(**ONCE):
                return float((snapshot.get("lease_until") - now).total_seconds())
        return None

    def workers(self) -> list[str]:
        with self._calls():
            now, names = self.now(), set()
            held = self._own(TASKS).where(filter=field("status", "==", Status.PROCESSING.value))
            for snapshot in held.where(filter=field("lease_until", ">", now)).stream(**ONCE):
                names.add(snapshot.get("worker"))
            leased = self._own(DELIVERIES).where(filter=field("worker", ">", ""))
            for snapshot in leased.select(["worker"]).stream(**ONCE):
                names.add(snapshot.get("worker"))
        return sorted(name for name in names if name is not None)

    def expire_leases(self, worker: str) -> int:
        expired = 0
        with self._calls():
            now = self.now()
            held = self._own(TASKS).where(filter=field("worker", "==", worker))
            for snapshot in held.stream(**ONCE):
                task = rows.task(snapshot.to_dict())
                if task.leased(now):
                    option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                    snapshot.reference.update({"lease_until": now}, option=option, **ONCE)
                    expired += 1
            leased = self._own(DELIVERIES).where(filter=field("worker", "==", worker)).select(["id"]).stream(**ONCE)
            self._write_unchanged({one.get("id"): one.update_time for one in leased}, NOT_LEASED)
        return expired

    def _died_in_company(self, batch: Any, task: Task) -> bool:
        """Whether the process that held a task, and is lost, held others too. The batch remembers it for them.

        The others are looked for first, the mark is read after: whoever claims one of them meanwhile is either not
        done, and it is found, or is, and has set the mark in the same batch.
        """
        now = self.now()
        lost = lost_holder(task, now)
        if lost is None:
            return False
        held = self._own(TASKS).where(filter=field("worker", "==", lost)).limit(2)
        company = any(one.id != task.request_id for one in held.stream(**ONCE))
        key = death_of(lost)
        mark = self._keyed(MARKS, key)
        if company:
            batch.set(mark, {"app": self.app_id, "key": key, "until": now + DEATH_KEPT})
            return True
        snapshot = mark.get(**ONCE)
        return bool(snapshot.exists) and snapshot.get("until") > now

    def _running(self, name: str) -> list[Task]:
        now = self.now()
        query = self._own(TASKS).where(filter=field("status", "==", Status.PROCESSING.value))
        found = query.where(filter=field("name", "==", name)).stream(**ONCE)
        return [task for task in rows.tasks(one.to_dict() for one in found) if task.leased(now)]
