"""The runner protocol. Only the id travels through a runner; the store holds the rest, the queue too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

from ..core.model import Task

Run = Callable[[str], Any]
"""Runs a task by its id. Returns whether it did: not if somebody else has it, or it has ended."""

Wake = Callable[[str, str], bool]
"""Runs what stands first in a queue: takes the id of a task that waits there, or did, and the name of the queue.

Returns whether the call has done what it was for. If not it should come again, where the queue can have it do so: its
own task has not ended, and whoever runs it may have died.
"""

Fetch = Callable[[int], Sequence[Task]]
"""Returns at most this many tasks from the store that may begin here now, in the order of the queue."""


Stopping = Callable[[], bool]
"""Tells whether the process was told to end. Asked several times a second, on a thread of its own."""


class Life(Protocol):
    """The life of an app's parts in one process."""

    def start(self, *, stopping: Stopping | None = None) -> None: ...

    def stop(self) -> None: ...

    def close(self, grace: float | None = None) -> None: ...


class WorkerProcess:
    """A process that runs tasks and is no web server, as its runner tells the library of it.

    :param life: of the app in this process; made after its runner.
    :param queues: the queues of the app's tasks.
    """

    def __init__(self, life: Callable[[], Life], queues: Callable[[], Collection[str]]) -> None:
        self._life = life
        self._queues = queues

    @property
    def queues(self) -> Collection[str]:
        """The queues that the app's tasks name, and ``default``; complete once all its modules are imported."""
        return self._queues()

    def begin(self, stopping: Stopping | None = None) -> None:
        """It runs tasks from now on, and looks after the store. After the last fork; called again it does nothing.

        :param stopping: asked whether the process was told to end, where nobody calls :meth:`stop`.
        """
        self._life().start(stopping=stopping)

    def stop(self) -> None:
        """It was told to end: no task begins here any more; what runs gets ``BGTASKS_SHUTDOWN_GRACE`` seconds.

        Then it is given back for other processes. Returns at once; safe in a signal handler.
        """
        self._life().stop()

    def end(self, grace: float | None = None) -> None:
        """It ends: what still runs is given back, and sinks take what is due.

        :param grace: seconds for what runs; None for ``BGTASKS_SHUTDOWN_GRACE``.
        """
        self._life().close(grace)


class Runner(ABC):
    """Makes ``run(request_id)`` happen somewhere, at least once. Called from any thread.

    A submitted task is in the store already. A runner that has no place for it may forget it: it is fetched from the
    store later.
    """

    served_by = "start `flask bgtasks worker`"
    """What to do where tasks wait and no process runs any, as ``flask bgtasks doctor`` says it."""

    def examine(self) -> Iterable[tuple[str, str | None]]:
        """What this runner needs, and what is wrong with it, for ``flask bgtasks doctor``: as ``bgtasks_check``."""
        return ()

    def check(self) -> None:  # noqa: B027 - most runners need nothing that may be missing
        """Called before a task is stored. :raises ConfigurationError: none can be run, since something is missing."""

    @abstractmethod
    def submit(self, request_id: str, *, delay: float = 0.0, priority: int = 0, queue: str = "default") -> None:
        """Run the task, now or later.

        :param delay: seconds to wait first.
        :param priority: higher ones run first.
        :param queue: for runners that serve several queues; others ignore it.
        :raises ShuttingDown: this process accepts no more work.
        """

    def submit_again(self, request_id: str, *, priority: int = 0, queue: str = "default") -> None:
        """Run a task that was submitted before, and that nobody has begun. Called by the look-out, where it may wait.

        :raises ShuttingDown: this process accepts no more work.
        """
        self.submit(request_id, priority=priority, queue=queue)

    def isolate(self, request_id: str, *, seconds: float, priority: int = 0, queue: str = "default") -> None:
        """Run a task whose process died, while no other task begins in this process.

        A runner that cannot do that runs it like any other task.

        :param seconds: how long it runs alone, and how long it waits at most for running tasks (:mod:`.isolation`).
        :raises ShuttingDown: this process accepts no more work.
        """
        self.submit(request_id, priority=priority, queue=queue)

    def reserve(self) -> bool:
        """Keep a free place for a task that is being stored; whether there is one.

        Such a task is claimed when it is stored, and no other process can begin it: it must begin here at once. Who
        reserved a place calls :meth:`begin` or :meth:`give_back`. A runner without places of its own has none to keep.
        """
        return False

    def begin(self, request_id: str) -> None:
        """Run a task in the place that was reserved for it.

        :raises ShuttingDown: this process has stopped meanwhile. The place is free again.
        """
        self.submit(request_id)

    def give_back(self) -> None:  # noqa: B027 - there is none to give back where none is reserved
        """A reserved place is not used."""

    @abstractmethod
    def cancel(self, request_id: str) -> bool:
        """Forget a task that has not begun; return whether it was here. A running task is left alone."""

    @abstractmethod
    def stop(self, grace: float) -> bool:
        """Accept no more work, and give running tasks ``grace`` seconds to finish; return whether all of them did."""

    @property
    @abstractmethod
    def draining(self) -> bool:
        """Whether it was stopped and refuses work."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many tasks wait in this process."""

    @property
    def fetches(self) -> bool:
        """Whether this process looks for work in the store: waiting tasks, and those that dead processes left."""
        return False

    @property
    def publishes(self) -> bool:
        """Whether tasks run in the processes of a queue beside the store, which :meth:`submit` only tells of them.

        Such a queue may lose what it was told, or be away: what nobody begins is submitted again, by every process of
        the app.
        """
        return False

    @property
    def repeats(self) -> bool:
        """Whether that queue has a wake-up call come again, after a while, that has not done what it was for."""
        return False

    @property
    def looks_out(self) -> bool:
        """Whether this process looks after the store: for processes that died, for what is due, what has expired."""
        return True

    @property
    def free(self) -> int:
        """How many more tasks this process could begin right now; at most this many are fetched from the store."""
        return 0

    def look(self) -> None:  # noqa: B027 - most runners have a queue of their own
        """There may be work in the store: fetch some as soon as a place is free."""

    def give_up(self, request_id: str) -> None:  # noqa: B027 - nothing to do where a run is a process of its own
        """A task was ended but its run does not return: free its place. Its thread may return later, or never."""

    @property
    def missing(self) -> Sequence[str]:
        """The names of its threads that have died."""
        return ()

    def mend(self) -> None:  # noqa: B027 - most runners have no threads here
        """Start the missing threads again."""

    @property
    def can_wait(self) -> bool:
        """Whether :meth:`submit` respects ``delay``. If not, failed tasks are retried at once."""
        return True


class QueuelessRunner(Runner):
    """Keeps nothing that waits in this process: what it is given it has run, or leaves to others, at once."""

    def __init__(self) -> None:
        self._stopped = False

    def cancel(self, request_id: str) -> bool:
        return False

    def stop(self, grace: float) -> bool:
        self._stopped = True
        return True

    @property
    def draining(self) -> bool:
        return self._stopped

    @property
    def waiting(self) -> int:
        return 0
