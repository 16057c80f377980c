"""What is measured, and how: the same loops around ours and every peer's `submit_one` and `wait_for`.

A subject is served in a process of its own (:func:`serve`), which answers commands as JSON lines, so that the rounds of
several can be taken in turn without a restart between them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

PAUSE_SECONDS = 0.02
"""Between two tasks of the latency rows: whoever was busy with the last one rests again, and so does the processor."""

MAX_WAIT_SECONDS = 30.0
"""For one result; what takes longer is broken."""

STEPS_COMPARED = 1_000

REPORTS = [(f"section {i} of 100", i / 100) for i in range(100)]
"""A pipeline's reports, made beforehand: only the reporting is measured."""


class Subject:
    """One of those measured. A subclass says how it submits, waits and reports; it need not be able to report."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options = options

    def versions(self) -> str:
        """What it is, with its version."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop what was started."""

    def submit_one(self) -> Any:
        """Submit a task that does nothing, to the workers; what :meth:`wait_for` needs."""
        raise NotImplementedError

    def wait_for(self, handle: Any) -> None:
        """Return when the result can be seen here."""
        raise NotImplementedError

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[None]:
        """Around what another thread submits."""
        yield

    def submit_idle(self) -> Any:
        """Submit a task that nobody takes while the submitting is measured."""
        raise NotImplementedError

    @contextlib.contextmanager
    def nobody_works(self) -> Iterator[None]:
        """Around the submits that are measured: before it no worker is free, after it nothing is left."""
        yield

    def report(self, calls: int) -> float:
        """Report progress that often from a running task; the seconds that all of it took, measured in the task."""
        raise NotImplementedError

    def step(self, steps: int) -> Sequence[float]:
        """Begin and end so many steps in a running task; the seconds of processor time that each took."""
        raise NotImplementedError

    # -- the commands, each one round -----------------------------------------------------------------------------

    def update(self, *, calls: int) -> float:
        """Microseconds for one report."""
        return self.report(calls) / calls * 1e6

    def steps(self, *, steps: int) -> float:
        """What the last thousand steps took, as a multiple of what the first did."""
        times = self.step(steps)
        return sum(times[-STEPS_COMPARED:]) / sum(times[:STEPS_COMPARED])

    def submit(self, *, count: int, seconds: float) -> float:
        """Microseconds for one submit, the median."""
        times: list[float] = []
        with self.nobody_works():
            stop = time.perf_counter() + seconds
            while len(times) < count and (len(times) < 3 or time.perf_counter() < stop):
                begun = time.perf_counter()
                self.submit_idle()
                times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e6

    def throughput(self, *, count: int, seconds: float) -> float:
        """Tasks per second, from the first submit to the last result, each of which is waited for."""
        handles: list[Any] = []
        begun = time.perf_counter()
        while len(handles) < count and time.perf_counter() < begun + seconds:
            handles.append(self.submit_one())
        for handle in handles:
            self.wait_for(handle)
        return len(handles) / (time.perf_counter() - begun)

    def submitters(self, *, threads: int, count: int, seconds: float) -> float:
        """Tasks per second from the first submit to the last result, by threads that submit at once as web servers do.

        :param count: of all of them together.
        """
        handles: list[list[Any]] = [[] for _ in range(threads)]
        together = threading.Barrier(threads + 1)

        def submit(mine: list[Any]) -> None:
            with self.in_thread():
                together.wait()
                stop = time.perf_counter() + seconds
                while len(mine) < count // threads and time.perf_counter() < stop:
                    mine.append(self.submit_one())
                for handle in mine:
                    self.wait_for(handle)

        running = [threading.Thread(target=submit, args=(mine,)) for mine in handles]
        for thread in running:
            thread.start()
        together.wait()
        begun = time.perf_counter()
        for thread in running:
            thread.join()
        return sum(map(len, handles)) / (time.perf_counter() - begun)

    def latency(self, *, count: int, seconds: float, pause: float = PAUSE_SECONDS) -> float:
        """Milliseconds from a submit to its visible result while nothing else runs, the median."""
        times: list[float] = []
        stop = time.perf_counter() + seconds
        while len(times) < count and (len(times) < 3 or time.perf_counter() < stop):
            time.sleep(pause)
            begun = time.perf_counter()
            self.wait_for(self.submit_one())
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e3


@contextlib.contextmanager
def worker(*command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a peer's worker, in this process's group, for as long as the block lasts."""
    process = subprocess.Popen([sys.executable, *command], stdin=subprocess.DEVNULL, env={**os.environ, **environ})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def serve(module: str, folder: str, options: str) -> None:
    """Open the module's ``Measured`` and answer commands until the standard input ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints goes to the log

    def say(**line: Any) -> None:
        out.write(json.dumps(line) + "\n")

    signal.signal(signal.SIGTERM, _leave)
    try:
        subject: Subject = importlib.import_module(module).Measured(Path(folder), **json.loads(options))
    except Exception as error:
        say(error=_reason(error))
        raise
    with contextlib.closing(subject):
        try:
            subject.latency(count=5, seconds=5)
        except Exception as error:
            say(error=f"its first tasks: {_reason(error)}")
            raise
        say(ready=subject.versions())
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                say(value=getattr(subject, asked["command"])(**asked["arguments"]))
            except Exception as error:
                say(error=_reason(error))


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"not installed ({error})"
    return f"{type(error).__name__}: {error}"[:200]


def main(arguments: Sequence[str]) -> None:
    serve(*arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
