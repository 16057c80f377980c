"""Which tasks run alone in their process for a while: those whose process died, so that another death proves a cause.

If a process dies while it runs several tasks, the death is charged to none of them. If they ran together again, the
cause would never be proven, and each death would make suspects of all tasks in the process. So each suspect first runs
alone: for a second after one death, and eight times as long after each further one. That is short after an accident,
and becomes long enough for any task that ends its process. Knows no locks and no threads; a runner has its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.model import OnInterrupt, Task, TaskKind

FIRST_SECONDS = 1.0
FACTOR = 8.0
MAX_SECONDS = 86_400.0
"""How long a suspect is alone: our choice. 1, 8, 64, 512 seconds, 1 hour, 9 hours, a day."""


def seconds_alone(task: Task) -> float:
    """How long nothing else is to begin beside a task, 0 if it is no suspect.

    Since its last checkpoint its process died, or is dead now. What is not to be run again after that is no suspect.
    """
    if task.done or task.kind is TaskKind.TRACKED or task.on_interrupt is OnInterrupt.FAIL:
        return 0.0
    deaths = task.crashes + task.suspicions + task.held
    return min(MAX_SECONDS, FIRST_SECONDS * FACTOR ** (deaths - 1)) if deaths else 0.0


class Isolation:
    """What one runner keeps of it, under the lock of that runner. All times are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}  # the suspects that were fetched, and how long each is to be alone
        self._since: dict[str, float] = {}  # since when each of them waits for the others to end
        self._alone: tuple[str, float] | None = None  # which runs alone, and until when
        self.wanted = False  # whether there are suspects in the store that are to be fetched before anything begins

    def fetched(self, suspects: Mapping[str, float]) -> None:
        """The store was asked: these are to run alone, for so many seconds each."""
        self.wanted = False
        self._seconds = dict(suspects)
        self._since = {request_id: since for request_id, since in self._since.items() if request_id in suspects}

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._seconds

    def left(self, request_id: str, now: float, *, busy: int) -> float:
        """How long a suspect waits yet for what runs: as long as it is to be alone, then it begins all the same."""
        if not busy:
            return 0.0
        return max(0.0, self._since.setdefault(request_id, now) + self._seconds[request_id] - now)

    def begin(self, request_id: str, now: float) -> None:
        """A suspect begins: until it ends nothing else does, for as long as it is to be alone."""
        self._alone = request_id, now + self._seconds.pop(request_id)
        self._since.pop(request_id, None)

    def end(self, request_id: str) -> None:
        """A run ended, or was given up."""
        if self._alone is not None and self._alone[0] == request_id:
            self._alone = None

    def closed(self, now: float) -> float:
        """For how many seconds nothing may begin, because a suspect runs."""
        return 0.0 if self._alone is None else max(0.0, self._alone[1] - now)
