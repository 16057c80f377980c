"""Where a run keeps its tasks: what the app is told of it, what is left in it, and how it can be hurt."""

import contextlib
import functools
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from pathlib import Path

from tests.backends import free_port
from tests.backends.network import Network
from tests.chaos import remains
from tests.chaos.clock import CLOCKS, write

DISK_MIB = 256

POSTGRESQL = {
    # Commits that may be lost when the server dies are then lost more often than not: by default it is a fifth of it.
    "wal_writer_delay": "1000ms",
    "max_connections": "100",
}


class Sql:
    """What the two have in common."""

    def remains(self):
        with self._read() as db:
            return remains.of_sql(db)

    def unsettled(self):
        with self._read() as db:
            return remains.unsettled_of_sql(db)


class Sqlite(Sql):
    """A file, on a small disk of its own where this may mount one (Linux, as root); a clock that can be moved."""

    name = "sqlite"
    outages = (sqlite3.OperationalError,)  # of reading what is left
    pauses = (0.3, 1.5)  # seconds between two faults

    def __init__(self, folder):
        self._folder = folder
        self._disk = folder / "disk"
        self._path = self._disk / "bgtasks.sqlite3"
        self._clocks, self._furthest = [0.0] * CLOCKS, 0.0
        self._lock = threading.Lock()  # protects the two above and the file

    @contextlib.contextmanager
    def running(self):
        self._set_clock(0, 0.0)
        self._disk.mkdir()
        mounted = shutil.which("mount") is not None and os.geteuid() == 0
        if mounted:
            command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(self._disk)]
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        self._can_fill = mounted
        try:
            yield
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(self._disk)], check=False)

    def env(self):
        return {"CHAOS_STORE": str(self._disk)}

    def _read(self):
        return remains.sqlite(self._path)

    def keep(self, folder):
        shutil.copytree(self._disk, folder)

    def complaints(self):
        return []

    def faults(self, luck, later):
        """Kinds by name: how often of a hundred, and what does it.

        :param later: called with seconds and what to do then.
        """
        full = {"disk full": (4, functools.partial(self._fill, luck, later))} if self._can_fill else {}
        return {
            "lock": (5, functools.partial(self._lock_file, luck, later)),
            "clock": (4, lambda: self._set_clock(0, luck.uniform(-3600, 3600))),
            "skew": (5, functools.partial(self._skew, luck, later)),
            "fsync fails": (4, functools.partial(self._fail_fsync, luck, later)),
            **full,
        }

    def heal(self):
        """Nothing is wrong any more; the clock is where one was furthest, so that what waits for a time gets there."""
        (self._folder / "fsync-fails").unlink(missing_ok=True)
        (self._disk / "ballast").unlink(missing_ok=True)
        for place in range(1, CLOCKS):
            self._set_clock(place, 0.0)
        self._set_clock(0, self._furthest)

    def _lock_file(self, luck, later):
        with contextlib.suppress(sqlite3.OperationalError):
            db = sqlite3.connect(self._path, timeout=2, isolation_level=None, check_same_thread=False)
            db.execute("BEGIN IMMEDIATE")
            later(luck.uniform(0.5, 4), db.close)

    def _skew(self, luck, later):
        """One process's clock is an hour off for a while."""
        place = luck.randrange(1, 4)
        self._set_clock(place, luck.choice([-3600.0, 3600.0]))
        later(luck.uniform(2, 6), functools.partial(self._set_clock, place, 0.0))

    def _set_clock(self, place, seconds):
        with self._lock:
            self._clocks[place] = seconds
            self._furthest = max(self._furthest, self._clocks[0] + max(0.0, *self._clocks[1:]))
            write(self._folder / "clock", self._clocks)

    def _fail_fsync(self, luck, later):
        (self._folder / "fsync-fails").touch()
        later(luck.uniform(0.5, 2), functools.partial((self._folder / "fsync-fails").unlink, missing_ok=True))

    def _fill(self, luck, later):
        ballast = self._disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 2**20)
        later(luck.uniform(0.5, 3), functools.partial(ballast.unlink, missing_ok=True))


class Postgresql(Sql):
    """A server of this run's own, behind a network that can be cut."""

    name = "postgresql"
    pauses = (1.0, 4.0)  # it is away for seconds each time: something has to be done between

    @property
    def outages(self):
        import psycopg

        return (psycopg.OperationalError,)

    def __init__(self, folder):
        self._folder = folder
        self._port = free_port()
        self._dead = False

    @contextlib.contextmanager
    def running(self):
        from tests.backends.postgresql import Cluster

        (self._folder / "disk").mkdir()
        place = Path(tempfile.mkdtemp(prefix="bgtasks-pg-"))  # short, for its socket, and open to its own user
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            self.cluster = Cluster(place, port=self._port, **POSTGRESQL)
            self.cluster.start()
            stack.callback(self.cluster.stop)
            self._network = stack.enter_context(Network(self._port))
            yield

    def env(self):
        url = f"postgresql+psycopg://postgres@127.0.0.1:{self._network.port}/postgres"
        return {"CHAOS_STORE": str(self._folder / "disk"), "CHAOS_URL": url}

    def _read(self):
        return remains.postgresql(self.cluster.folder, self._port)

    def keep(self, folder):
        folder.mkdir()
        (folder / "postgresql.log").write_text(self.cluster.log)

    def complaints(self):
        """What the server itself noticed."""
        deadlocks = self.cluster.log.count("deadlock detected")
        return [f"the database had to end {deadlocks} deadlocks"] if deadlocks else []

    def faults(self, luck, later):
        return {
            "kill database": (8, functools.partial(self._kill, luck)),
            "restart database": (3, functools.partial(self._restart, luck)),
            "freeze database": (6, functools.partial(self._freeze, luck, later)),
            "cut": (5, lambda: self._network.cut()),
            "stall": (5, functools.partial(self._dark, luck, later, "stall")),
            "swallow": (6, functools.partial(self._dark, luck, later, "swallow")),
            "no connections left": (4, functools.partial(self._take_connections, luck, later)),
            "lock": (4, functools.partial(self._lock_table, luck, later)),
        }

    def heal(self):
        self.cluster.thaw()
        self._network.heal()

    def _kill(self, luck):
        """What was told before is told again afterwards, as far as it was not on disk that it was: the log says so."""
        self.cluster.kill()
        for name in ("sink.log", "hostile.log"):
            with (self._folder / name).open("a") as log:
                log.write("the store was killed\n")
        threading.Event().wait(luck.uniform(0, 2))
        self.cluster.start()

    def _restart(self, luck):
        self.cluster.stop()
        threading.Event().wait(luck.uniform(0, 1))
        self.cluster.start()

    def _freeze(self, luck, later):
        self.cluster.freeze()
        later(luck.uniform(1, 4), self.cluster.thaw)

    def _dark(self, luck, later, how):
        getattr(self._network, how)()
        later(luck.uniform(1, 5), self._network.heal)

    def _connect(self):
        import psycopg

        return psycopg.connect(
            host=str(self.cluster.folder), port=self._port, user="postgres", dbname="postgres", connect_timeout=5
        )

    def _take_connections(self, luck, later):
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(int(POSTGRESQL["max_connections"])):
                later(luck.uniform(3, 5), self._connect().close)

    def _lock_table(self, luck, later):
        import psycopg

        with contextlib.suppress(psycopg.Error):
            connection = self._connect()
            connection.execute("SET lock_timeout = '2s'")
            connection.execute("LOCK TABLE bgtasks_tasks IN ACCESS EXCLUSIVE MODE")
            later(luck.uniform(0.5, 4), connection.close)


class Firestore:
    """The emulator's."""

    name = "firestore"
    pauses = (0.5, 2.0)

    @property
    def outages(self):
        from google.api_core.exceptions import ServerError

        return (ServerError,)

    def __init__(self, folder, client):
        self._folder, self._client = folder, client

    @contextlib.contextmanager
    def running(self):
        (self._folder / "disk").mkdir()
        yield

    def env(self):
        store = f"firestore://{self._client.project}"
        return {"CHAOS_STORE": str(self._folder / "disk"), "CHAOS_URL": store}

    def remains(self):
        return remains.of_firestore(self._client)

    def unsettled(self):
        return remains.unsettled_of_firestore(self._client)

    def keep(self, folder):
        """Nothing: the emulator's is gone with the test."""

    def complaints(self):
        return []

    def faults(self, luck, later):
        return {}

    def heal(self):
        """Nothing was hurt."""
