"""The other end of a subject's pipe: starts its process, asks it for one round at a time, and ends all of it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

START_SECONDS = 45.0
ROUND_SECONDS = 60.0
GRACE_SECONDS = 6.0


class DriverFailed(Exception):
    """A subject cannot be measured; the text says why."""


class Driver:
    """One subject's process, with whatever workers it has, as one process group."""

    def __init__(
        self, module: str, folder: Path, *, environ: Mapping[str, str], root: Path | None = None, **options: Any
    ) -> None:
        """:param root: the source tree whose library is measured; None for this one."""
        folder.mkdir(parents=True)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.subject", module, str(folder), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environ, "BENCH_FOLDER": str(folder)},
                cwd=root,
                start_new_session=True,  # Ctrl-C is ours; and the group can be ended as one
                text=True,
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the subject's process; its workers are below it."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def ready(self) -> str:
        """Wait until it has started; what it is, with its version. :raises DriverFailed: it has not."""
        return str(self._answer(START_SECONDS)["ready"])

    def ask(self, command: str, arguments: Mapping[str, Any]) -> float:
        """One round. :raises DriverFailed: it could not."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, "arguments": dict(arguments)}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise DriverFailed("its process has ended") from None
        return float(self._answer(ROUND_SECONDS)["value"])

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise DriverFailed(f"no answer in {seconds:g} s") from None
        if line is None:
            raise DriverFailed(f"its process has ended. {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DriverFailed(answer["error"])
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def close(self) -> None:
        """End it and its workers. Can be called twice."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()  # asks it to end its workers and itself
            self._process.wait(GRACE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            pass
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
