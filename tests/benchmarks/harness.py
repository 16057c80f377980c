"""Takes rounds in turn (A B C A B C …), so that what drifts in the machine drifts for all, and sums them up.

Knows rows as callables that give one figure; not what is measured, nor how it is shown.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MIN_ROUNDS = 3
IN_MEMORY = frozenset({"tmpfs", "ramfs", "overlay"})  # where a sync costs nothing, or something else


@dataclass
class Series:
    """One row's figures, round by round; or why there are none."""

    values: dict[int, float] = field(default_factory=dict)
    failed: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values.values())

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.values.values()), max(self.values.values())

    def over(self, other: Series) -> float | None:
        """The median of this row's figures over the other's of the same rounds."""
        pairs = [self.values[i] / other.values[i] for i in self.values if other.values.get(i)]
        return statistics.median(pairs) if pairs else None


class RowFailed(Exception):
    """A row cannot be measured; the text says why."""


def in_turn(rows: Mapping[str, Callable[[], float]], *, rounds: int, seconds: float) -> dict[str, Series]:
    """Measure all rows once per round. A row that fails is left out from then on, and says why.

    :param seconds: after which no new round is begun, once there are three.
    """
    series = {name: Series() for name in rows}
    stop = time.monotonic() + seconds
    for number in range(rounds):
        if number >= MIN_ROUNDS and time.monotonic() > stop:
            break
        for name, take in rows.items():
            if series[name].failed is None:
                try:
                    series[name].values[number] = take()
                except RowFailed as failure:
                    series[name].failed = str(failure)
    return series


def folder_on_disk() -> Path:
    """A new temporary folder on a real disk where there is one: in memory a sync costs nothing."""
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    writable = [place for place in places if os.access(place, os.W_OK)]
    best = next((place for place in writable if file_system(place) not in IN_MEMORY), writable[0])
    folder = Path(tempfile.mkdtemp(prefix="bgtasks-bench-", dir=best))
    folder.chmod(0o711)  # PostgreSQL's is below, and it runs as another user than root
    return folder


def file_system(path: Path) -> str:
    """The kind of file system that a path lies on, "?" where that is not told."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return "?"
    kinds = {fields[1]: fields[2] for fields in (line.split() for line in lines)}
    resolved = path.resolve()
    return next((kinds[str(p)] for p in (resolved, *resolved.parents) if str(p) in kinds), "?")


@dataclass(frozen=True)
class Revision:
    """Another commit's source tree, with the benchmarks of this one."""

    root: Path
    text: str


def revision(name: str, folder: Path) -> Revision:
    """Unpack a commit. :raises subprocess.CalledProcessError: git knows none of that name."""
    folder.mkdir(parents=True)
    described = subprocess.run(
        ["git", "log", "-1", "--format=%h %s", name, "--"], check=True, capture_output=True, text=True
    )
    archive = subprocess.run(["git", "archive", name], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    shutil.rmtree(folder / "tests", ignore_errors=True)
    shutil.copytree("tests", folder / "tests")
    return Revision(folder, f"at {described.stdout.strip()[:70]}")


def machine(folder: Path) -> str:
    """One line about where this was measured."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores{load}; {platform.system()} {platform.release()}, "
        f"{file_system(folder)}; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_redis()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _redis() -> str:
    program = shutil.which("redis-server")
    if program is None:
        return "no Redis"
    words = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10).stdout.split()
    return "Redis " + next((word[2:] for word in words if word.startswith("v=")), "?")
