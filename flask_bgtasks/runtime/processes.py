"""Names this process so that another one on the same host can tell whether it is still alive.

A dead process's lease expires only after its time. On the same host, the kernel can be asked at once: this names a
process by its id and its start time, a pair that never recurs while a system runs. Knows nothing of tasks.
"""

from __future__ import annotations

import os
import platform
import threading
from pathlib import Path

from .fork import after_fork_in_child

_PROC = Path("/proc")


def me() -> str:
    """This process: host, process id, and what tells it from any other process that had, or has, the same two."""
    return _this.name()


def is_here(worker: str) -> bool:
    """Whether :func:`alive` can tell whether the process of that name lives."""
    try:
        node, _, mark, _ = worker.rsplit(":", 3)
        return node == platform.node() and bool(mark) and mark == _mark()
    except (ValueError, OSError):
        return False


def alive(worker: str) -> bool | None:
    """Whether the process of that name lives; None where that cannot be known from here.

    Another host's process cannot be seen, nor can one in another container. One that was stopped (``SIGSTOP``) counts
    as unknown: it lives, and does nothing.
    """
    if not is_here(worker):
        return None
    try:
        _, pid, _, start = worker.rsplit(":", 3)
        state, started = _stat(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False
    except (ValueError, OSError):  # a name of another kind; a system without /proc
        return None
    if started != start or state in "ZX":
        return False
    return None if state in "Tt" else True


class _This:
    """This process's name, made once, and once more in a child of fork."""

    def __init__(self) -> None:
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects nothing but the work: two threads would find the same name
        self._name: str | None = None

    def name(self) -> str:
        if self._name is None:
            with self._lock:
                self._name = self._name or _name()
        return self._name


def _name() -> str:
    pid = os.getpid()
    try:
        mark, start = _mark(), _stat(pid)[1]
    except (OSError, ValueError, IndexError):  # no /proc: macOS, Windows
        mark, start = "", os.urandom(4).hex()
    return f"{platform.node()}:{pid}:{mark}:{start}"


def _mark() -> str:
    """The running system and the process namespace: within both a process id means one process at a time."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()[:8]
    return f"{boot}.{(_PROC / 'self/ns/pid').stat().st_ino}"


def _stat(pid: int) -> tuple[str, str]:
    """A process's state and its start, in clock ticks since the system's (proc_pid_stat(5), fields 3 and 22)."""
    text = (_PROC / str(pid) / "stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return fields[0], fields[19]


_this = _This()
