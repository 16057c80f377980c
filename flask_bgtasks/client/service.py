"""Checks pending tasks on a schedule, in its own thread; uses the names of hand-written solutions.

No code has to wait for a task: a callback reports each task that has ended, also after a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError
from .clients import Client, Task
from .events import Outcome

log = logging.getLogger("flask_bgtasks.client")

INTERVAL_SECONDS = 30.0


class _Shared:
    """The one service of this process, found on the class."""

    def __get__(self, instance: object, owner: type[BackgroundTaskCompletionService]) -> Any:
        if owner._configured is None:
            raise ConfigurationError(
                "BackgroundTaskCompletionService.shared: there is none yet. "
                "Call BackgroundTaskCompletionService.configure(Client(…)) once, where the program begins"
            )
        return owner._configured


class BackgroundTaskCompletionService:
    """Checks pending tasks every 30 seconds, and reports those that have ended.

    :param client: whose pending tasks are checked; the service does not close it.
    :param on_outcome: called once with each :class:`.Outcome`, in the thread that checks; by default the client's own
        ``on_outcome``. If it raises, it is called again at the next check.
    :param interval: seconds between two checks.
    """

    shared = _Shared()
    """The service that was configured for this process. :raises ConfigurationError: none was."""

    _configured: BackgroundTaskCompletionService | None = None

    def __init__(
        self,
        client: Client,
        *,
        on_outcome: Callable[[Outcome], Any] | None = None,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._client = client
        self._on_outcome = on_outcome
        self._interval = interval
        self._checking = threading.Lock()  # one check at a time: a second one would find nothing to do
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def configure(cls, client: Client, **options: Any) -> BackgroundTaskCompletionService:
        """Create the service that :attr:`shared` returns from now on, with the arguments of the class; not started."""
        cls._configured = cls(client, **options)
        return cls._configured

    # -- what is pending -----------------------------------------------------------------------------------------------

    def add_pending_task(self, request_id: str) -> Task:
        """Add a task that was submitted elsewhere. Tasks submitted with the client are checked anyway."""
        return self._client.follow(request_id)

    def remove_pending_task(self, request_id: str) -> None:
        """Stop checking a task, and do not report its end. It is not cancelled."""
        self._client.remove(request_id)

    def check_pending_tasks(self) -> list[Outcome]:
        """Check now, as when the network is back or the program wakes. Return the outcomes that this reported."""
        with self._checking:
            return self._client.check_pending(on_outcome=self._on_outcome)

    # -- the schedule --------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it checks on a schedule."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Check now, and then on schedule, in a daemon thread. Calling it again has no effect."""
        if self.running:
            return
        self._stopped.clear()
        self._thread = threading.Thread(target=self._serve, name="bgtasks-pending", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Make the thread check at once, without waiting for it."""
        self._woken.set()

    def stop(self, *, timeout: float | None = None) -> None:
        """End the schedule, after any check that is in progress. Pending tasks stay pending."""
        self._stopped.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def __enter__(self) -> BackgroundTaskCompletionService:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _serve(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                self.check_pending_tasks()
            except BaseException:  # a full disk, or a callback's SystemExit: the next check may find it better
                log.exception("the pending tasks could not be checked; the next try is in %g s", self._interval)
            if not self._stopped.is_set():
                self._woken.wait(self._interval)
