"""The servers that a run needs: Redis for the peers, gunicorn for the polls. Loopback only, ended with the block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.backends import free_port, postgresql_programs, unprivileged

HOST = "127.0.0.1"
START_SECONDS = 20.0
GRACE_SECONDS = 10.0


class ServerFailed(Exception):
    """A server cannot be had; the text says why."""


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing on disk, which is the fastest that it can be; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise ServerFailed("redis-server is not installed (Debian's package of that name)")
    folder.mkdir(parents=True)
    port = free_port()
    command = [program, "--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with _running(command, folder / "log", port=port):
        yield f"redis://{HOST}:{port}"


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Postgresql]:
    """A PostgreSQL with its own defaults: every commit is synced before it is answered."""
    programs = postgresql_programs()
    if programs is None or shutil.which("setpriv") is None:
        raise ServerFailed("PostgreSQL is not installed (tests/backends/install.sh postgresql)")
    folder.mkdir(parents=True)
    port = free_port()
    prefix = ["setpriv", *unprivileged(folder)] if os.geteuid() == 0 else []
    command = [*prefix, str(programs / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust"]
    command += ["--locale=C", "-E", "UTF8"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise ServerFailed(f"initdb failed: {made.stderr.strip()[-200:]}")
    command = [*prefix, str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    command += ["-c", f"listen_addresses={HOST}", "-c", "max_connections=300"]
    with _running(command, folder / "log", port=port, stop=signal.SIGINT) as process:
        yield Postgresql(f"postgres@{HOST}:{port}", process.pid)


@dataclass(frozen=True)
class Postgresql:
    """A running PostgreSQL; its superuser needs no password."""

    address: str
    pid: int

    def url(self, database: str) -> str:
        """What psycopg takes."""
        return f"postgresql://{self.address}/{database}"

    def store(self, database: str) -> str:
        """What ``BGTASKS_STORE`` takes."""
        return f"postgresql+psycopg://{self.address}/{database}"

    def create(self, database: str, template: str = "template1") -> None:
        """Make a database, as a copy of another one that nobody has open."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database} TEMPLATE {template}")

    def drop(self, database: str) -> None:
        """Erase a database, whoever has it open."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


@contextlib.contextmanager
def firestore(folder: Path) -> Iterator[str]:
    """The official Firestore emulator; its host and port."""
    jar = Path("/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
    java = shutil.which("java")
    if java is None or not jar.is_file():
        raise ServerFailed("the Firestore emulator is not installed (tests/backends/install.sh firestore)")
    port = free_port()
    command = [
        java,
        "-XX:+UseSerialGC",
        "-cp",
        str(jar),
        "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
    ]
    with _running([*command, "start", f"--host={HOST}", f"--port={port}"], folder / "emulator.log", port=port):
        yield f"{HOST}:{port}"


@contextlib.contextmanager
def fcm(folder: Path, quota: tuple[int, int] | None) -> Iterator[str]:
    """A stand-in of FCM that only counts, and takes 10 ms for each message; its address.

    :param quota: after so many messages, everything is refused for so many seconds.
    """
    port = free_port()
    command = [sys.executable, "-m", "tests.backends.fcm", "--port", str(port), "--lean", "--latency", "0.01"]
    if quota is not None:
        command += ["--quota", *map(str, quota)]
    with _running(command, folder / "fcm.log", port=port):
        yield f"http://{HOST}:{port}"


@dataclass(frozen=True)
class Gunicorn:
    """A running gunicorn."""

    url: str
    pid: int

    def cpu_seconds(self) -> float | None:
        """Processor time that its worker has used, all threads; None where the system does not tell."""
        try:
            fields = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in self._children()]
        except OSError:
            return None
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")

    def writes(self) -> int:
        """Calls with which its worker has written to anything, sockets and pipes too (proc(5), "syscw")."""
        return self._sum("io", "syscw")

    def resident_bytes(self) -> int:
        """Memory that its worker has in use (proc(5), "VmRSS")."""
        return 1024 * self._sum("status", "VmRSS")

    def _sum(self, file: str, name: str) -> int:
        lines = [line for child in self._children() for line in Path(f"/proc/{child}/{file}").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

    def _children(self) -> list[str]:
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()


@contextlib.contextmanager
def gunicorn(app: str, folder: Path, *, environ: Mapping[str, str], options: Sequence[str] = ()) -> Iterator[Gunicorn]:
    """One worker process with eight threads, as the aim says.

    :param options: more of the command line; what is there already is replaced.
    """
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1", "--threads", "8"]
    command += ["--bind", f"{HOST}:{port}", "--keep-alive", "30", *options, app]
    with _running(
        command, folder / "gunicorn.log", port=port, environ={**environ, "BENCH_FOLDER": str(folder)}
    ) as process:
        yield Gunicorn(f"http://{HOST}:{port}", process.pid)


@contextlib.contextmanager
def _running(
    command: list[str],
    log: Path,
    *,
    port: int,
    environ: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(environ or {})},
            start_new_session=True,  # Ctrl-C is the harness's
        )
    try:
        _wait_for(port, process, log)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    stop = time.monotonic() + START_SECONDS
    while time.monotonic() < stop:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
            raise ServerFailed(f"{Path(str(process.args[0])).name} ended at once: {lines[-1]}")  # type: ignore[index]
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.05)
    raise ServerFailed(f"nothing listens on port {port} after {START_SECONDS:g} s")


def kill_group(leader: int) -> None:
    """End a process group, if there is still anybody in it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
