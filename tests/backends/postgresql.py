"""A PostgreSQL server for the tests: a temporary cluster of this session (of each xdist worker), gone afterwards.

It listens on a Unix socket in a folder of its own and on no port, so nothing can collide with it or reach it. It never
syncs to disk: these tests kill clients, not the server's power.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends import missing, postgresql_programs, unprivileged

START_SECONDS = 60


@pytest.fixture(scope="session")
def postgresql_url(new_postgresql_database: Callable[[], str]) -> str:
    """The SQLAlchemy URL of one database, shared by the tests of this process. It starts empty."""
    return new_postgresql_database()


@pytest.fixture(scope="session")
def new_postgresql_database(postgresql_folder: Path) -> Callable[[], str]:
    """Call it for the URL of an empty database of one's own (about 30 ms)."""
    psycopg = pytest.importorskip("psycopg")
    numbers = itertools.count(1)

    def create() -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(
            host=str(postgresql_folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={postgresql_folder}"

    return create


@pytest.fixture(scope="session")
def postgresql_folder() -> Iterator[Path]:
    """The folder of a running cluster; its socket lies there."""
    folder = Path(tempfile.mkdtemp(prefix="bgtasks-pg-"))  # pytest's own folders are closed to other users
    try:
        cluster = Cluster(folder)
        cluster.start()
        try:
            yield folder
        finally:
            cluster.stop()
    finally:
        # By a process of its own: the files of some hundred databases take a busy machine minutes.
        subprocess.run(["sh", "-c", 'rm -rf "$0" &', folder], check=True)


class Cluster:
    """A PostgreSQL server in a folder of its own, that tests may also kill, freeze and start again.

    Start it from a thread that lives as long as it should: the kernel ends the server with the thread that started it.

    :param folder: readable for others; made the server's own user's.
    :param port: of the loopback, besides the Unix socket in `folder`; None for none.
    :param settings: of the server, besides those that every server of the tests has.
    """

    def __init__(self, folder: Path, *, port: int | None = None, **settings: str) -> None:
        programs = postgresql_programs()
        if programs is None:
            missing("PostgreSQL", "tests/backends/install.sh postgresql")
        if shutil.which("setpriv") is None:
            missing("setpriv", "it is part of Debian's util-linux")
        self._programs, self.folder, self._port = programs, folder, port
        network = {"listen_addresses": "127.0.0.1", "port": str(port)} if port else {"listen_addresses": ""}
        self._settings = {
            **network,
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
            **settings,
        }
        self._prefix = ["setpriv", "--pdeathsig", "INT"]  # however this process ends, the server ends with it
        self._prefix += unprivileged(folder)  # PostgreSQL refuses to run as root
        folder.chmod(0o755)
        self._frozen: list[int] = []
        self._initialise()

    def _initialise(self) -> None:
        command = [*self._prefix, self._programs / "initdb", "-D", self.folder / "data", "-U", "postgres"]
        made = subprocess.run(
            [*command, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.fail(f"initdb failed:\n{made.stdout}", pytrace=False)

    @property
    def log(self) -> str:
        """What the server has logged, over all its starts."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server; return when it takes connections."""
        options = [f"--{name}={value}" for name, value in self._settings.items()]
        command = [*self._prefix, self._programs / "postgres", "-D", self.folder / "data", *options]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        ready = [self._programs / "pg_isready", "-q", "-h", self.folder, "-U", "postgres"]
        ready += ["-p", str(self._port)] if self._port else []
        while subprocess.run(ready, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start:\n{self.log}", pytrace=False)
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server: "fast", it disconnects clients and does not wait for them."""
        self.thaw()
        self._server.send_signal(signal.SIGINT)
        try:
            self._server.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """``kill -9`` of the server and everything that it started; what was not given to the system is gone."""
        processes = self._processes()
        self._frozen = []
        for pid in processes:
            _signal(pid, signal.SIGKILL)
        self._server.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in processes):  # they hold its shared memory
            time.sleep(0.01)

    def freeze(self) -> None:
        """Stop the server as it stands, with its connections open: nothing is answered, nothing fails."""
        self._frozen = self._processes()
        for pid in self._frozen:
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        self._frozen = []

    def _processes(self) -> list[int]:
        """The server first, which would start others."""
        found = subprocess.run(["pgrep", "-P", str(self._server.pid)], capture_output=True, text=True, check=False)
        return [self._server.pid, *map(int, found.stdout.split())]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
