"""flask-bgtasks in this process, whose tasks run in workers of their own: what those set-ups have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from . import ours
from .subject import worker


@ours.bgtasks.task(queue="nobodys")
def idle() -> None:
    """Does nothing, and is never run."""


class Measured(ours.Measured):
    """Its subclass makes the app, and calls :meth:`_work`."""

    def _work(self, *command: str, **environ: str) -> None:
        """Start a worker, which ends with the subject. :param command: after the name of the Python."""
        self._workers = contextlib.ExitStack()
        self._workers.enter_context(worker(*command, **environ))

    def close(self) -> None:
        self._workers.close()
        super().close()

    def submit_idle(self) -> Any:
        idle.submit()

    @contextlib.contextmanager
    def nobody_works(self) -> Iterator[None]:
        yield
