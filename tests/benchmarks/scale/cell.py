"""One cell of the grid: a set-up, a number of processes, a number of stored tasks; and what a second of it does.

Submissions and polls come over HTTP to gunicorn, completions from the set-up's own workers, one after the other: what
is measured has the machine for itself, besides the database. Completions are counted by the store's own times.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from .. import filled, load, servers
from . import usage
from .setups import MODULE, Setup

CONNECTIONS = 16  # of those that submit and poll
WARM_SECONDS = 1.0  # after the first completion: the other processes begin
PATIENCE_SECONDS = 40.0
GRACE_SECONDS = 8.0
LOOK_SECONDS = 0.1
POLLED = 200  # tasks


class CellFailed(Exception):
    """It cannot be measured; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where a cell finds its store, and what it shares with the others."""

    folder: Path
    store: str
    """What ``BGTASKS_STORE`` takes."""

    redis: str
    name: str
    """Of this cell: of its queue, too."""

    database_pid: int | None
    """The database server's, where there is one."""


@dataclass
class Figures:
    """Of one cell."""

    setup: str
    processes: int
    ended: int
    """Tasks that were in the store when it began."""

    submissions: float = 0.0
    """Per second, as the two below."""

    polls: float = 0.0
    completions: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    """Milliseconds of processor time for each: of the app's processes, and of the database's (``… database``)."""

    others: float = 0.0
    """Cores that processes beside this measurement used meanwhile."""

    failed: str | None = None


def measure(setup: Setup, processes: int, ended: int, place: Place, *, seconds: int) -> Figures:
    """:param ended: how many ended tasks there are in the store. :param seconds: of each measurement."""
    figures = Figures(setup.name, processes, ended)
    environ = {
        "BENCH_ENGINE": setup.engine,
        "BENCH_STORE": place.store,
        "BENCH_REDIS": place.redis,
        "BENCH_NAME": place.name,
    }
    begun, mine, all_of = time.monotonic(), usage.seconds(os.getpid()), usage.machine_seconds()
    try:
        _web(figures, place, environ, seconds)
        _workers(figures, setup, place, environ, seconds)
    except (CellFailed, servers.ServerFailed, load.LoadFailed, OSError) as failure:
        figures.failed = str(failure)
    passed = time.monotonic() - begun
    figures.others = max(0.0, usage.machine_seconds() - all_of - usage.seconds(os.getpid()) + mine) / passed
    return figures


def _web(figures: Figures, place: Place, environ: Mapping[str, str], seconds: int) -> None:
    options = ("--workers", str(figures.processes))
    with servers.gunicorn(f"{MODULE}:app", place.folder / "web", environ=environ, options=options) as server:
        with urllib.request.urlopen(f"{server.url}/noop", data=b"", timeout=PATIENCE_SECONDS):
            pass  # a process has started
        load.burst(f"{server.url}/noop", method="POST", connections=CONNECTIONS)  # and all open what they need
        for what, paths, method in (("submissions", ["/noop"], "POST"), ("polls", None, "GET")):
            paths = paths or [f"/tasks/{request_id}" for request_id in _ids(place)]
            web, database = usage.seconds(server.pid), _database(place)
            rate = load.burst(server.url, paths=paths, method=method, connections=CONNECTIONS, seconds=seconds)
            count = rate * seconds / 1000
            setattr(figures, what, rate)
            figures.cpu[what] = (usage.seconds(server.pid) - web) / count
            figures.cpu[f"{what} database"] = (_database(place) - database) / count


def _workers(figures: Figures, setup: Setup, place: Place, environ: Mapping[str, str], seconds: int) -> None:
    with _reading(place.store) as db:
        if setup.engine == "external":  # a message for each where there are messages
            (first,) = db.execute(sa.text("SELECT min(request_id) FROM bgtasks_tasks WHERE status = 'started'")).one()
            filled.copy(place.store, first, count=2_000 * seconds, owners=0, series="ffff")
        with _running(setup, figures.processes, place, environ) as pids:
            _until(lambda: _completed(db, 0), "no task was completed")
            time.sleep(WARM_SECONDS)
            workers, database, since = usage.seconds(*pids), _database(place), time.time()
            stop = since + seconds
            while time.time() < stop and _waiting(db):
                time.sleep(LOOK_SECONDS)
            spent = usage.seconds(*pids) - workers, _database(place) - database
            until = min(time.time(), _newest(db))
        count = _completed(db, since) - _completed(db, until)
    if count <= 0 or until <= since:
        raise CellFailed("all tasks had ended before the measurement began")
    figures.completions = count / (until - since)
    figures.cpu["completions"], figures.cpu["completions database"] = (1000 * each / count for each in spent)


@contextlib.contextmanager
def _running(setup: Setup, processes: int, place: Place, environ: Mapping[str, str]) -> Iterator[list[int]]:
    """The set-up's workers; the processes that were started."""
    folder = place.folder / "workers"
    folder.mkdir(parents=True)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(setup.commands(processes, name=place.name, redis=place.redis)):
            with (folder / f"{number}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={**os.environ, **environ, "BENCH_FOLDER": str(folder)},
                        start_new_session=True,
                    )
                )
        yield [process.pid for process in started]
    finally:
        _end(started)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        process.terminate()
    stop = time.monotonic() + GRACE_SECONDS
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, stop - time.monotonic()))
        servers.kill_group(process.pid)
        process.wait()


def _database(place: Place) -> float:
    return 0.0 if place.database_pid is None else usage.seconds(place.database_pid)


@contextlib.contextmanager
def _reading(store: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(store, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _ids(place: Place) -> list[str]:
    with _reading(place.store) as db:
        found = db.execute(sa.text(f"SELECT request_id FROM bgtasks_tasks WHERE name = 'noop' LIMIT {POLLED}"))
        return list(found.scalars())


def _until(condition: Callable[[], object], says: str) -> None:
    stop = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > stop:
            raise CellFailed(f"{says} in {PATIENCE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


def _completed(db: sa.Connection, since: float) -> int:
    """Tasks of this cell that were completed after that time."""
    text = "SELECT count(*) FROM bgtasks_tasks WHERE name = 'noop' AND completed_at > :since"
    return int(db.execute(sa.text(text), {"since": int(since * 1e6)}).scalar_one())


def _newest(db: sa.Connection) -> float:
    """When the last task was completed."""
    found = db.execute(sa.text("SELECT max(completed_at) FROM bgtasks_tasks WHERE name = 'noop'")).scalar_one()
    return float(found) / 1e6


def _waiting(db: sa.Connection) -> bool:
    return db.execute(sa.text("SELECT 1 FROM bgtasks_tasks WHERE status = 'started' LIMIT 1")).first() is not None
