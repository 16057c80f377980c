"""The work that all survivors do: eight steps of two and a half seconds, each written down when it begins and ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

STEPS = 8
STEP_SECONDS = 2.5


def run_step(number: int) -> int:
    """Do a step of the work."""
    _note("begin", number)
    time.sleep(STEP_SECONDS)
    _note("end", number)
    return number


def run_all() -> int:
    """The whole work, for those that know no steps."""
    return sum(run_step(number) for number in range(1, STEPS + 1))


def log(folder: Path) -> list[tuple[str, int, float]]:
    """What was written down: begin or end, the step, and when by the system's monotonic clock."""
    try:
        lines = (folder / "steps.log").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(what, int(number), float(at)) for what, number, at in (line.split() for line in lines)]


def _note(what: str, number: int) -> None:
    line = f"{what} {number} {time.monotonic():.3f}\n"  # CLOCK_MONOTONIC: the same for all processes
    out = os.open(Path(os.environ["BENCH_FOLDER"]) / "steps.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line.encode())
    os.close(out)
