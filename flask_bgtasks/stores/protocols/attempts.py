"""The part of the store protocol about the attempt that runs a task: its claim, and what it writes under its lease."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta

from ...core.model import Checkpoint, Entry, Progress, Task
from ...core.transitions.attempt import Renew, Report
from ..types import Attempt, NewDeliveries
from .tasks import Tasks


class Attempts(Tasks):
    """The attempts at tasks. Everything that an attempt writes is a transition, fenced by the attempt's number."""

    @abstractmethod
    def claim(
        self,
        request_id: str,
        *,
        worker: str,
        lease: timedelta,
        deliveries: NewDeliveries = (),
        most_running: Mapping[str, int] = {},
    ) -> Attempt:
        """Claim the right to run a task.

        :param request_id: the task, as ``submit`` returned it.
        :param worker: the name of the calling process, from :func:`flask_bgtasks.runtime.processes.me`.
        :param lease: how long the claim holds without :meth:`renew`, at least one second.
        :param most_running: how many tasks may run at once, by name; other names have no limit.
        :returns: the attempt, its number one higher than the last, with its input and checkpoints: either the claim is
            stored and they are here, or nothing was changed. Its task is ``done`` if the claim found that the last
            process died with it, and that it must not be run again
            (:class:`~flask_bgtasks.core.transitions.attempt.Claim`).
        :raises TaskNotFound: no such task.
        :raises AlreadyClaimed: another process holds it; ``until`` says how long.
        :raises AtCapacity: as many tasks of this name are running as allowed.
        :raises TaskFinished: it is in a terminal state.
        """

    def renew(self, request_id: str, *, attempt: int, lease: timedelta) -> Task:
        """Prolong a claim by ``lease`` from now. :raises LeaseLost: it is no longer held."""
        return self.transition(request_id, Renew(attempt, lease)).task

    def save_progress(
        self,
        request_id: str,
        *,
        attempt: int,
        progress: Progress | None,
        entries: Sequence[Entry] = (),
        known: Task | None = None,
    ) -> Task:
        """Store the newest progress, and the steps and output since the last call, in order, in one transaction.

        Survives a killed process; a power cut may lose the last few. :raises LeaseLost: the attempt is over.
        """
        return self.transition(request_id, Report(attempt, tuple(entries), progress), known=known).task

    def save_checkpoint(
        self,
        request_id: str,
        *,
        attempt: int,
        checkpoint: Checkpoint,
        progress: Progress | None,
        entries: Sequence[Entry] = (),
        known: Task | None = None,
    ) -> Task:
        """Store a finished step's value, with the reports until then, in one transaction.

        Once it returns, the value survives a power cut. :raises LeaseLost: the attempt is over; nothing was stored.
        """
        return self.transition(request_id, Report(attempt, tuple(entries), progress, checkpoint), known=known).task

    @abstractmethod
    def load_checkpoints(self, request_id: str) -> dict[str, Checkpoint]:
        """The values that attempts have stored, by key; none where there is no such task.

        A look from outside, in any state of the task: an attempt gets them with its :meth:`claim`.
        """
