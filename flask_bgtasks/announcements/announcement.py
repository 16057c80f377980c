"""What one process tells the others, as a value, and as messages that a channel can carry."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MAX_MESSAGE_BYTES = 7900
"""PostgreSQL takes payloads of less than 8000 bytes (postgresql.org/docs, "NOTIFY")."""

MAX_PENDING = 1000
"""Tasks that are remembered until they are announced. Beyond that it is only said that anything may have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What another process did.

    :ivar tasks: ids of tasks that changed, and the number of each one's newest event.
    :ivar everything: anything may have changed: what was announced meanwhile was not heard.
    :ivar work: something waits that may begin now.
    :ivar due_in: in so many seconds something that waits may begin.
    :ivar deliveries: sinks have deliveries that the process leaves to others.
    :ivar process: its name (:func:`flask_bgtasks.runtime.processes.me`).
    """

    tasks: Mapping[str, int] = field(default_factory=dict)
    everything: bool = False
    work: bool = False
    due_in: float | None = None
    deliveries: bool = False
    process: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """An announcement on its way.

    :ivar sender: who sent it; a process with two apps has two senders.
    :ivar proof: not None in a message by which the sender tries whether it hears itself.
    """

    sender: str
    announcement: Announcement
    proof: str | None = None

    def encode(self) -> str:
        """As text, in ASCII."""
        said = self.announcement
        parts: dict[str, Any] = {"from": self.sender, "process": said.process}
        if said.tasks:
            parts["tasks"] = dict(said.tasks)
        if said.everything:
            parts["everything"] = True
        if said.work:
            parts["work"] = True
        if said.due_in is not None:
            parts["due_in"] = round(said.due_in, 3)
        if said.deliveries:
            parts["deliveries"] = True
        if self.proof is not None:
            parts["proof"] = self.proof
        return json.dumps(parts, separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Message | None:
        """What :meth:`encode` made; None for anything else, such as a later version's or a stranger's."""
        try:
            parts = json.loads(text)
            tasks = {str(request_id): int(seq) for request_id, seq in parts.get("tasks", {}).items()}
            due_in = None if parts.get("due_in") is None else float(parts["due_in"])
            said = Announcement(
                tasks=tasks,
                everything=parts.get("everything") is True,
                work=parts.get("work") is True,
                due_in=due_in if due_in is None or math.isfinite(due_in) else None,
                deliveries=parts.get("deliveries") is True,
                process=None if parts.get("process") is None else str(parts["process"]),
            )
            proof = parts.get("proof")
            return cls(str(parts["from"]), said, None if proof is None else str(proof))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


class Pending:
    """What was committed here and is not announced yet: of each task the newest, however often it changed.

    Used under the lock of its owner.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._tasks: dict[str, int] = {}
        self._waiting: set[str] = set()  # those of them that wait to be begun
        self._everything = False
        self._work = False
        self._deliveries = False
        self._due_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self._tasks) or self._everything or self._work or self._deliveries or self._due_at is not None

    def add(self, request_id: str, seq: int, *, waits: bool = False) -> None:
        """A task has changed.

        :param seq: the number of its newest event.
        :param waits: whether it waits now for a process to begin it. It may be begun with its acceptance, which is the
            next change.
        """
        if len(self._tasks) >= MAX_PENDING and request_id not in self._tasks:
            self._tasks.clear()
            self._waiting.clear()
            self._everything = True
        if self._everything or seq < self._tasks.get(request_id, 0):
            return
        self._tasks[request_id] = seq
        if waits:
            self._waiting.add(request_id)
        else:
            self._waiting.discard(request_id)

    def add_work(self, due_at: float | None = None) -> None:
        """Something may begin now, or at a later time by ``time.monotonic``."""
        if due_at is None:
            self._work = True
        elif self._due_at is None or due_at < self._due_at:
            self._due_at = due_at

    def add_deliveries(self) -> None:
        """Sinks have deliveries that this process leaves to others."""
        self._deliveries = True

    def take(self, *, sender: str, process: str, now: float) -> list[str]:
        """All of it, as messages; nothing is pending then.

        :param now: by ``time.monotonic``.
        """
        whole = Announcement(
            everything=self._everything,
            work=self._work or bool(self._waiting),
            due_in=None if self._due_at is None else max(0.0, self._due_at - now),
            deliveries=self._deliveries,
            process=process,
        )
        empty = len(Message(sender, whole).encode()) + len(',"tasks":{}')
        shares: list[dict[str, int]] = [{}]
        size = empty
        for request_id, seq in self._tasks.items():
            length = len(json.dumps(request_id)) + len(f":{seq},")
            if size + length > MAX_MESSAGE_BYTES:
                shares.append({})
                size = empty
            shares[-1][request_id] = seq
            size += length
        said = [replace(whole, tasks=shares[0]), *(Announcement(tasks=share, process=process) for share in shares[1:])]
        self._clear()
        return [Message(sender, one).encode() for one in said]
