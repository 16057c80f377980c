"""The section "scale": the grid of cells, streams, and writes; printed, and as JSON for :mod:`.plots`."""

from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from flask_bgtasks.core.model import Task, TaskKind
from flask_bgtasks.stores.conversions import EPOCH
from flask_bgtasks.stores.sql import SqlStore

from .. import filled, servers, streams
from ..harness import RowFailed
from ..table import figure, say
from . import writes
from .cell import Figures, Place, measure
from .setups import APP_ID, SETUPS, Setup

OWNERS = 400
WEEK = datetime.timedelta(days=7)
METRICS = (("submissions", "submissions/s"), ("completions", "completions/s"), ("polls", "polls/s"))


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    processes: tuple[int, ...] = (1, 2, 4)
    ended: tuple[int, ...] = (0, 10_000, 100_000)
    setups: tuple[int, ...] = tuple(range(len(SETUPS)))
    streams: tuple[int, ...] = (100, 1_000)
    seconds: int = 2
    full: int = 0
    """1 for every number of processes beside every number of ended tasks."""

    writes: int = 1
    """0 to count no writes."""

    HELP: ClassVar[str] = (
        "for 'scale': processes=1+2+4, ended=0+10000+100000, setups=0+1+2+3+4, streams=100+1000, seconds=2, writes=1, "
        "full=0 (1: every number of processes beside every number of ended tasks)"
    )

    @classmethod
    def parse(cls, text: str) -> Size:
        """:param text: ``key=value,…``; several numbers are joined by ``+``, an empty value is none."""
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        given: dict[str, Any] = {}
        for pair in text.split(","):
            key, _, value = pair.partition("=")
            numbers = tuple(int(number) for number in value.split("+") if number)
            given[key] = numbers if isinstance(known[key], tuple) else numbers[0]
        return cls(**given)

    def cells(self) -> Iterator[tuple[int, int]]:
        """Ended tasks and processes: all of both, or all of each beside the usual one of the other."""
        usual = self.processes[len(self.processes) // 2]
        for ended in self.ended:
            for processes in self.processes:
                if self.full or ended == self.ended[0] or processes == usual:
                    yield ended, processes


def show(folder: Path, size: Size) -> dict[str, Any]:
    """Measure, and print."""
    title = f"10 what a second does, by processes and ended tasks in the store ({size.seconds} s each; one machine)"
    say(f"\n{title}")
    section: dict[str, Any] = {"key": "scale", "title": title, "unit": "", "rows": [], "notes": _notes(), **_when()}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.postgresql(folder / "postgresql"))
            redis = stack.enter_context(servers.redis(folder / "redis"))
        except servers.ServerFailed as failure:
            say(f"   not measured: {failure}")
            return section
        try:
            _measure(section, folder, size, server, redis)
        except KeyboardInterrupt:
            say("   interrupted; what was measured until now is kept")
    return section


def _measure(section: dict[str, Any], folder: Path, size: Size, server: servers.Postgresql, redis: str) -> None:
    found: list[Figures] = []
    for figures in _grid(folder, size, server, redis):
        found.append(figures)
        section["rows"].append(dataclasses.asdict(figures))
    _print_grid(found)
    section["streams"] = _streams(folder / "streams", size, server)
    if size.writes:
        section["writes"] = _counted(lambda: writes.counted(server, folder / "writes"))
        section["documents"] = _counted(lambda: writes.mirrored(folder / "firestore"))
        _print_writes(section)


def _when() -> dict[str, Any]:
    described = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "commit": described.stdout.strip(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def _notes() -> dict[str, str]:
    return {setup.name: setup.note for setup in SETUPS}


# -- the grid --------------------------------------------------------------------------------------------------------


def _grid(folder: Path, size: Size, server: servers.Postgresql, redis: str) -> Iterator[Figures]:
    made: set[int] = set()
    for ended, processes in size.cells():
        if ended not in made:
            _make_full(folder, server, ended)
            made.add(ended)
        for number in size.setups:
            setup = SETUPS[number]
            name = f"cell_{ended}_{processes}_{number}"
            place = _place(folder / name, setup, server, redis, name, ended)
            figures = measure(setup, processes, ended, place, seconds=size.seconds)
            say(f"   {_line(figures)}")
            yield figures
            server.drop(name)
            shutil.rmtree(folder / name)


def _make_full(folder: Path, server: servers.Postgresql, ended: int) -> None:
    """A store of each kind with so many ended tasks, to be copied for each cell."""
    server.create(f"full_{ended}")
    for url in (_sqlite(folder, ended), server.store(f"full_{ended}")):
        store = SqlStore(url, app_id=APP_ID)
        try:
            store.check()
            if ended:
                filled.end(store, url, _task(), count=ended, owners=OWNERS)
        finally:
            store.close()
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as db:
            db.exec_driver_sql("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE")
            if engine.dialect.name == "sqlite":
                db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()


def _sqlite(folder: Path, ended: int) -> str:
    return f"sqlite:///{folder}/full_{ended}.sqlite3"


def _place(folder: Path, setup: Setup, server: servers.Postgresql, redis: str, name: str, ended: int) -> Place:
    folder.mkdir(parents=True)
    if setup.store == "postgresql":
        server.create(name, f"full_{ended}")
        return Place(folder, server.store(name), redis, name, server.pid)
    shutil.copy(folder.parent / f"full_{ended}.sqlite3", folder / "tasks.sqlite3")
    return Place(folder, f"sqlite:///{folder}/tasks.sqlite3", redis, name, None)


def _task() -> Task:
    return Task(
        request_id="00000000-1000-4000-8000-000000000000",
        name="ended",
        kind=TaskKind.FUNCTION,
        created_at=EPOCH,  # the store sets its own
        updated_at=EPOCH,
        expires_after=WEEK,
        owner="owner-0",
    )


def _line(figures: Figures) -> str:
    what = f"{figures.setup:<22}{figures.processes} × process, {figures.ended:>7,} ended"
    if figures.failed:
        return f"{what}   not measured: {figures.failed}"
    told = "   ".join(f"{getattr(figures, key):>6,.0f} {text}" for key, text in METRICS)
    return f"{what}   {told}   ({figures.others:.1f} cores used by others)"


def _print_grid(found: Sequence[Figures]) -> None:
    say("   processor time for each, app + database, ms, median of the cells:")
    for setup in dict.fromkeys(figures.setup for figures in found):
        cells = [figures for figures in found if figures.setup == setup and not figures.failed]
        if cells:
            shares = [
                f"{key[:-1]} {figure(_median(cells, key))} + {figure(_median(cells, f'{key} database'))}"
                for key, _ in METRICS
            ]
            say(f"   {setup:<22}{'   '.join(shares)}")


def _median(cells: Sequence[Figures], key: str) -> float:
    values = sorted(figures.cpu[key] for figures in cells)
    return values[len(values) // 2]


# -- streams and writes ----------------------------------------------------------------------------------------------


def _streams(folder: Path, size: Size, server: servers.Postgresql) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for store in ("SQLite", "PostgreSQL") if size.streams else ():
        for count in size.streams:
            name = f"streams_{count}"
            server.create(name)
            connections: list[int] = []
            try:
                found = streams.measure(
                    folder / f"{store}_{count}",
                    "gevent",
                    streams=count,
                    seconds=2.0 * size.seconds,
                    store=server.store(name) if store == "PostgreSQL" else "",
                    meanwhile=lambda name=name, seen=connections: seen.append(_connections(server, name)),
                )
            except (servers.ServerFailed, RowFailed, OSError) as failure:
                say(f"   {count:,} streams, {store}: not measured: {failure}")
                continue
            finally:
                server.drop(name)
            row = {
                "store": store, "streams": count, "kib": found.kib, "cpu": found.cpu,
                "p50": streams.quantile(found.late, 0.5), "p99": streams.quantile(found.late, 0.99),
                "database connections": connections[0] if store == "PostgreSQL" else 0,
            }  # fmt: skip
            rows.append(row)
            say(f"   {count:,} streams of one process (gevent), {store}: an event arrives after {row['p50']:.0f} ms "
                f"(p50), {row['p99']:.0f} ms (p99); {row['kib']:.0f} KiB each, {row['cpu']:.0f} % of a core; "
                f"{row['database connections']} connections to the database")  # fmt: skip
    return rows


def _connections(server: servers.Postgresql, name: str) -> int:
    import psycopg

    with psycopg.connect(server.url("postgres"), autocommit=True) as db:
        row = db.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone()
    assert row is not None
    return int(row[0])


def _counted(count: Callable[[], Any]) -> Any:
    try:
        return count()
    except (servers.ServerFailed, subprocess.SubprocessError, OSError) as failure:
        say(f"   writes: not counted: {failure}")
        return {}


def _print_writes(section: dict[str, Any]) -> None:
    for name, row in section["writes"].items():
        told = f"{row['commits']:.2f} commits, {row['rows']:.1f} rows, {row['wal'] / 1024:.1f} KiB of WAL"
        if "announcements" in row:
            told += f", {row['announcements']:.2f} announcements"
        say(f"   a task ({name}): {told}")
    for name, documents in section["documents"].items():
        say(f"   a task ({name}): {documents:.1f} documents written by the Firestore mirror")
