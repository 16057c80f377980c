"""Processor time of processes with all that they started, and of everybody else on the machine. Linux only."""

from __future__ import annotations

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def seconds(*pids: int) -> float:
    """Processor time of these processes and their descendants, those that have ended and were waited for included."""
    total, queue = 0, list(pids)
    while queue:
        pid = queue.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            for task in Path(f"/proc/{pid}/task").iterdir():
                queue += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):  # it has just ended
            continue
        total += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime (proc(5))
    return total / TICKS


def machine_seconds() -> float:
    """Processor time that the whole machine has used since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS  # not: idle, iowait (proc(5))
