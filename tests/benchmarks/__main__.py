"""`make bench`: the library beside its peers, in one run on one machine, as a table with the aims.

python -m tests.benchmarks [--only update,submit,throughput,…] [--peers celery,…|none] [--against REV] \
    [--rounds N] [--json FILE]

`--against REV` measures the library of another commit in turn with this one, where a section has its own process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from . import (
    aims,
    engine_app,
    harness,
    idle,
    load,
    mirrored,
    polls,
    pushed,
    servers,
    stored,
    streams,
    survival,
    wrapped,
)
from .driver import Driver, DriverFailed
from .harness import RowFailed, Series

PEERS = {"celery": "Celery", "rq": "RQ", "dramatiq": "Dramatiq", "huey": "Huey", "dbos": "DBOS"}
ON_ENGINES = {f"on-{engine}": engine for engine in engine_app.ENGINES}
NEED_REDIS = ("celery", "rq", "dramatiq", *ON_ENGINES)


@dataclass(frozen=True)
class Row:
    """A row of a section: whom to ask, with what, and what is done there."""

    name: str
    subject: str
    arguments: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One of the questions."""

    key: str
    title: str
    command: str
    unit: str
    rounds: int
    seconds: float
    rows: tuple[Row, ...]

    def is_in(self, only: Sequence[str]) -> bool:
        """Whether it is asked for: by its command or its key, or with others whose keys begin alike."""
        group = self.key.partition("-")[0]
        return "engines" in only if group == "engines" else self.command in only or group in only


@dataclass
class Measured:
    """A section with its figures."""

    key: str
    title: str
    unit: str
    notes: dict[str, str]
    series: dict[str, Series]
    beside: dict[str, dict[str, Series]] = dataclasses.field(default_factory=dict)
    """More figures of the rows, by what they are."""


def _submit(count: int) -> dict[str, Any]:
    return {"count": count, "seconds": 0.8}


def _many(count: int) -> dict[str, Any]:
    return {"count": count, "seconds": 2.5}


def _sixteen(count: int) -> dict[str, Any]:
    return {"threads": 16, **_many(count)}


ALONE = {"count": 40, "seconds": 1.5}  # with a pause of 20 ms before each

SECTIONS = (
    Section(
        "update", "1  one progress report, from inside a running task", "update", "µs", 9, 30,
        (
            Row("ours", "ours", {"calls": 20_000}, "current_task.update(details=…, fraction=…)"),
            Row("RQ", "rq", {"calls": 300}, "job.meta[…] = …; job.save_meta()"),
            Row("Celery", "celery", {"calls": 200}, "self.update_state(state=…, meta=…)"),
            Row("DBOS", "dbos", {"calls": 40}, "DBOS.set_event(…)"),
        ),
    ),
    Section(
        "steps", "1b a task of 20,000 steps: the last thousand as a multiple of the first", "steps", "×", 5, 60,
        (Row("ours", "ours", {"steps": 20_000}, "with step(…), each with a name of its own; processor time"),),
    ),
    Section(
        "submit-full", "2a one submit that survives a power cut", "submit", "µs", 11, 40,
        (
            Row("ours", "ours", _submit(200), "BGTASKS_SQLITE_SYNCHRONOUS=FULL, the default"),
            Row("bare insert", "bare", _submit(200), "sqlite3, one INSERT and COMMIT, WAL, synchronous=FULL"),
            Row("DBOS", "dbos", _submit(100), "enqueue, SQLite as it opens it (FULL)"),
        ),
    ),
    Section(
        "submit-normal", "2b one submit that survives a killed process", "submit", "µs", 11, 40,
        (
            Row("ours", "ours-normal", _submit(300), "BGTASKS_SQLITE_SYNCHRONOUS=NORMAL"),
            Row("bare insert", "bare-normal", _submit(300), "the same with synchronous=NORMAL"),
            Row("Dramatiq", "dramatiq", _submit(300), "to Redis, which keeps nothing on disk here"),
            Row("RQ", "rq", _submit(300), "to the same Redis"),
            Row("Celery", "celery", _submit(300), "to the same Redis"),
            Row("Huey", "huey", _submit(200), "SqliteHuey as it comes"),
        ),
    ),
    Section(
        "throughput", "3  no-op tasks, from the first submit to the last result", "throughput", "tasks/s", 5, 75,
        (
            Row("ours", "ours", _many(2000), "SQLite (FULL), 4 threads of the submitting process"),
            Row("Dramatiq", "dramatiq", _many(1000), "Redis, its own default: a process per core, 8 threads each"),
            Row("Huey", "huey", _many(400), "SQLite, consumer of 4 threads"),
            Row("Celery", "celery", _many(400), "Redis, prefork worker of 4"),
            Row("DBOS", "dbos", _many(150), "SQLite, 4 threads of the submitting process"),
            Row("RQ", "rq", _many(40), "Redis, one worker that forks per job"),
            Row("ours, NORMAL", "ours-normal", _many(2000), "as the first row, synchronous=NORMAL"),
        ),
    ),
    Section(
        "submitters", "3b no-op tasks of 16 threads that submit at once", "submitters", "tasks/s", 5, 60,
        (
            Row("ours", "ours", _sixteen(2000), "SQLite (FULL), 4 threads of the submitting process"),
            Row("Dramatiq", "dramatiq", _sixteen(1000), "as above"),
            Row("Huey", "huey", _sixteen(400), "as above"),
            Row("Celery", "celery", _sixteen(400), "as above"),
            Row("ours, NORMAL", "ours-normal", _sixteen(2000), "synchronous=NORMAL"),
        ),
    ),
    Section(
        "latency", "4  one task on an idle process, from submit to visible result (p50)", "latency", "ms", 5, 75,
        (
            Row("ours", "ours", ALONE, "SQLite (FULL)"),
            Row("Celery", "celery", ALONE, "Redis"),
            Row("Huey", "huey", ALONE, "SQLite; result looked for every ms"),
            Row("Dramatiq", "dramatiq", ALONE, "Redis"),
            Row("DBOS", "dbos", ALONE, "SQLite"),
            Row("RQ", "rq", ALONE, "Redis, forks"),
            Row("ours, NORMAL", "ours-normal", ALONE, "SQLite, synchronous=NORMAL"),
            Row("ours, no pause", "ours", {**ALONE, "pause": 0.0}, "as the first row, one task right after the other"),
        ),
    ),
    Section(
        "engines-submit", "3c one submit, on the workers of another queue", "submit", "µs", 9, 60,
        (
            Row("ours on Celery", "on-celery", _submit(200), "SQLite (FULL), then a message to Redis"),
            Row("Celery", "celery", _submit(300), "to the same Redis, and nothing else"),
            *(Row(f"ours on {PEERS[engine]}", f"on-{engine}", _submit(200), "as the first row")
              for engine in ("dramatiq", "huey", "rq")),
        ),
    ),
    Section(
        "engines-throughput", "3d no-op tasks, on the workers of another queue", "throughput", "tasks/s", 5, 90,
        (
            Row("ours on Celery", "on-celery", _many(400), "as bare Celery; results in the SQLite store (FULL)"),
            Row("Celery", "celery", _many(400), "Redis, prefork worker of 4; results in Redis"),
            *(Row(f"ours on {PEERS[engine]}", f"on-{engine}", _many(400), "workers as in 3")
              for engine in ("dramatiq", "huey")),
            Row("ours on RQ", "on-rq", _many(40), "one worker that forks per job"),
        ),
    ),
    Section(
        "engines-update", "3e one progress report, from a task in a worker of another queue", "update", "µs", 7, 30,
        (
            Row("ours on Celery", "on-celery", {"calls": 20_000}, "current_task.update(details=…, fraction=…)"),
            Row("Celery", "celery", {"calls": 200}, "self.update_state(state=…, meta=…)"),
        ),
    ),
    Section(
        "wrapped", "4b a request that its view answers: the processor time that wrapping adds", "added", "µs", 7, 40,
        tuple(Row(name, "wrapped", {"path": path, "seconds": 1.0}, wrapped.NOTES[name])
              for name, path in wrapped.VIEWS.items()),
    ),
)  # fmt: skip

STORED_ROUNDS = 9
SERVED_ROUNDS = 6
POLL_ROUNDS = 8
POLL_SECONDS = 125.0

SUBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours", {"synchronous": "FULL"}),
    "ours-normal": ("ours", {"synchronous": "NORMAL"}),
    "wrapped": ("wrapped", {}),
    **{name: ("engine_app", {"engine": engine}) for name, engine in ON_ENGINES.items()},
    "bare": ("bare", {"synchronous": "FULL"}),
    "bare-normal": ("bare", {"synchronous": "NORMAL"}),
    **{peer: (f"peers.{peer}_peer", {}) for peer in PEERS},
}

ONLY = (
    "update", "steps", "submit", "throughput", "submitters", "engines", "latency", "wrapped", "idle", "polls",
    "streams", "stored", "survival", "mirror", "push",
)  # fmt: skip

STREAM_SERVERS = (("ours", "gthread", "a thread for each"), ("gevent", "gevent", "a greenlet for each (gevent)"))

OURS = ("ours", "ours-normal", "wrapped")
"""The subjects that can be measured at two commits."""


# -- measuring -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _subjects(
    names: Sequence[str], folder: Path, redis: str | None, before: harness.Revision | None
) -> Iterator[dict[str, Driver | str]]:
    """The started subjects; of one that does not start the reason."""
    found: dict[str, Driver | str] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name in NEED_REDIS and redis is None:
                found[name] = "no Redis"
                continue
            module, options = SUBJECTS[name.partition("@")[0]]
            root = before.root if before is not None and "@" in name else None
            environ = {"BENCH_REDIS": redis or ""}
            driver = Driver(f"{__package__}.{module}", folder / name, environ=environ, root=root, **options)
            stack.callback(driver.close)
            found[name] = driver
        for name, driver in found.items():
            if isinstance(driver, Driver):
                try:
                    _say(f"  {driver.ready()}")
                except DriverFailed as failure:
                    found[name] = str(failure)
                    _say(f"  {name}: {failure}")
        yield found


def _measure(section: Section, subjects: dict[str, Driver | str], rounds: int | None) -> Measured:
    def take(row: Row) -> Callable[[], float]:
        def one() -> float:
            driver = subjects[row.subject]
            if isinstance(driver, str):
                raise RowFailed(driver)
            try:
                return driver.ask(section.command, row.arguments)
            except DriverFailed as failure:
                raise RowFailed(str(failure)) from None

        return one

    rows = {row.name: row for row in section.rows if row.subject in subjects}
    series = harness.in_turn(
        {name: take(row) for name, row in rows.items()}, rounds=rounds or section.rounds, seconds=section.seconds
    )
    notes = {name: row.note for name, row in rows.items()}
    return Measured(section.key, section.title, section.unit, notes, series)


def _with(section: Section, before: harness.Revision) -> Section:
    """The section, and after each row of ours the same of another commit."""
    rows: list[Row] = []
    for row in section.rows:
        rows.append(row)
        if row.subject in OURS:
            rows.append(dataclasses.replace(row, name=f"{row.name} @", subject=f"{row.subject}@", note=before.text))
    return dataclasses.replace(section, rows=tuple(rows))


def _measure_served(folder: Path, rounds: int | None) -> Measured:
    with wrapped.served(folder) as polled:
        series = harness.in_turn(polled.rows(), rounds=rounds or SERVED_ROUNDS, seconds=POLL_SECONDS)
    title = f"4c the same under gunicorn (1 × 8 threads, {wrapped.CONNECTIONS} connections; {load.tool()})"
    return Measured("served", title, "% of the plain view's rate", wrapped.NOTES, series, _beside(polled, "request"))


def _measure_idle(folder: Path) -> Measured:
    shares, writes = idle.measure(folder)
    title = f"4d a process with nothing to do, for {idle.SECONDS:g} s"
    return Measured("idle", title, "% of a core", idle.NOTES, shares, {"calls that write, per second": writes})


def _measure_polls(folder: Path, redis: str | None, peers: Sequence[str], rounds: int | None) -> Measured:
    with polls.running(folder, redis=redis, peers=peers) as polled:
        series = harness.in_turn(polled.rows(), rounds=rounds or POLL_ROUNDS, seconds=POLL_SECONDS)
    title = f"5  status polls, as a share of a constant from the same app (gunicorn, 1 × 8 threads; {load.tool()})"
    return Measured("polls", title, "%", polls.NOTES, series, _beside(polled, "poll"))


def _beside(polled: polls.Polls, what: str) -> dict[str, dict[str, Series]]:
    return {
        f"{what}s per second": polled.rates,
        f"the worker's CPU per {what}, µs": polled.cpu,
        "share of the constant by that CPU, %": polled.cpu_share,
    }


def _show_streams(folder: Path) -> dict[str, Any]:
    """Open many streams on one process, and print what they cost."""
    title = f"5b {streams.STREAMS:,} event streams of one task (gunicorn, 1 process)"
    _say(f"\n{title}")
    rows: dict[str, Any] = {}
    for row, worker, meaning in STREAM_SERVERS:
        try:
            found = streams.measure(folder / worker, worker)
        except (servers.ServerFailed, RowFailed, OSError) as failure:
            _say(f"   {meaning}: not measured: {failure}")
            continue
        late = {share: streams.quantile(found.late, share) for share in (0.5, 0.99)}
        asked = {share: streams.quantile(found.answers, share) for share in (0.5, 0.99)}
        aim = aims.of("streams", row)
        wanted = "" if aim is None else f"; aim {aim}: {'met' if aim.met(late[0.99]) else 'missed'}"
        _say(f"   {meaning}: {found.kib:.0f} KiB of memory for each; {found.cpu:.0f} % of a core for "
             f"{len(found.late):,} events in {streams.SECONDS:g} s")  # fmt: skip
        _say(f"      an event arrives {late[0.5]:.0f} ms after its commit (p50), {late[0.99]:.0f} ms (p99){wanted}")
        _say(f"      other clients' polls take {asked[0.5]:.0f} ms meanwhile (p50), {asked[0.99]:.0f} ms (p99)")
        rows[row] = {
            "kib": found.kib, "cpu": found.cpu, "events": len(found.late), "p50": late[0.5], "p99": late[0.99],
            "poll p50": asked[0.5], "poll p99": asked[0.99],
        }  # fmt: skip
    return {"key": "streams", "title": title, "unit": "", "rows": rows}


def _show_stored(folder: Path, rounds: int | None) -> Measured:
    """Measure beside many stored tasks, and print it."""
    stores = stored.Stored(folder)
    try:
        series = stores.measure(rounds or STORED_ROUNDS)
    finally:
        stores.close()
    title = f"6  beside {stored.FINISHED:,} finished and {stored.WAITING:,} waiting tasks"
    aim = aims.of("stored", "full / empty")
    assert aim is not None
    _say(f"\n{title}, µs")
    _say(f"   {'':<15}{'empty':>10}{'full':>10}   {'full / empty':<21}the aim asks {aim}")
    for what in ("submit", "next task"):
        empty, full = series[f"{what}, empty"], series[f"{what}, full"]
        ratio = full.over(empty) or 0.0
        figures = f"{_figure(empty.median):>10}{_figure(full.median):>10}   {_figure(ratio) + ' ×':<21}"
        _say(f"   {what:<15}{figures}{_verdict(aim.met(ratio))}")
    return Measured("stored", title, "µs", {}, series)


def _show_survival(folder: Path, redis: str | None, peers: Sequence[str]) -> dict[str, Any]:
    """Have them killed, and print what became of their tasks."""
    title = "7  a task of 8 steps and 20 s, its worker killed in step 5 and started again after 2 s"
    names = [
        name
        for name, kind in survival.KINDS.items()
        if (kind.peer is None or kind.peer in peers) and (redis is not None or name not in survival.NEED_REDIS)
    ]
    fates = survival.measure(folder, names, redis=redis)
    aim = aims.of("survival", "ours")
    assert aim is not None
    _say(f"\n{title}")
    for name, fate in fates.items():
        met = fate.completed and fate.seconds is not None and aim.met(fate.seconds) and "resumed" in fate.outcome
        verdict = f"   aim: resumed, {aim} after the restart: {_verdict(met)}" if name == "ours" else ""
        _say(f"   {name:<15}{fate!s:<100} {survival.KINDS[name].note}{verdict}".rstrip())
    rows = {name: {**dataclasses.asdict(fate), "note": survival.KINDS[name].note} for name, fate in fates.items()}
    return {"key": "survival", "title": title, "unit": "s", "rows": rows}


def _show_mirror(folder: Path) -> dict[str, Any]:
    """Run many tasks with the Firestore mirror and without, one run after the other, and print it."""
    title = f"8  {mirrored.TASKS} tasks at once, {mirrored.UPDATES} reports a second each, for {mirrored.SECONDS:g} s"
    aim = aims.of("mirror", "with / without")
    assert aim is not None
    _say(f"\n{title}: Firestore mirror")
    rows: dict[str, Any] = {}
    try:
        for name in ("without", "with"):
            with contextlib.ExitStack() as stack:
                place = folder / name
                place.mkdir(parents=True)
                host = stack.enter_context(servers.firestore(place)) if name == "with" else ""
                command = [sys.executable, "-m", f"{__package__}.mirrored", str(place)]
                environ = {**os.environ, "FIRESTORE_EMULATOR_HOST": host}
                done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=200, check=True)
                rows[name] = json.loads(done.stdout.strip().splitlines()[-1])
    except (servers.ServerFailed, subprocess.SubprocessError, OSError) as failure:
        _say(f"   not measured: {failure}")
        return {"key": "mirror", "title": title, "unit": "s", "rows": rows}
    ratio = rows["with"]["task_seconds"] / rows["without"]["task_seconds"]
    seconds = ", ".join(f"{name} {rows[name]['task_seconds']:.3f} s" for name in ("without", "with"))
    _say(f"   a task takes: {seconds}: {ratio:.4f} ×   aim: {aim}: {_verdict(aim.met(ratio))}")
    found = rows["with"]
    _say(f"   writes of a progress document: {found['writes']:.1f}, at least {found['least_gap']:.2f} s apart")
    _say(f"   final states right: {found['right']} of {mirrored.TASKS}")
    return {"key": "mirror", "title": title, "unit": "s", "rows": rows}


def _show_push(folder: Path, size: pushed.Size) -> dict[str, Any]:
    """Tell many tasks to several devices each, by a stand-in of FCM that once refuses everything, and print it."""
    quota = (size.messages // 3, 2)
    title = f"9  {size}, told by FCM (a stand-in that takes 10 ms)"
    _say(f"\n{title}")
    rows: dict[str, Any] = {}
    for name in ("ours", "send", "send_each"):
        place = folder / name
        place.mkdir(parents=True)
        try:
            with servers.fcm(place, quota if name == "ours" else None) as url:
                command = [sys.executable, "-m", f"{__package__}.pushed", str(place), url, name]
                command += map(str, (size.tasks, size.devices, size.owners))
                limit = 300 + size.messages // 50
                done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True)
                rows[name] = json.loads(done.stdout.strip().splitlines()[-1])
                with urllib.request.urlopen(url, timeout=5) as answer:
                    rows[name]["counted"] = json.load(answer)
        except (servers.ServerFailed, subprocess.SubprocessError, OSError) as failure:
            _say(f"   {name}: not measured: {failure}")
            continue
        row = rows[name]
        rate, at_once = row["messages"] / row["seconds"], row["counted"]["most_at_once"]
        _say(f"   {name:<10} {rate:>8,.0f} messages/s   {row['mib']:>6.0f} MiB   at most {at_once} at once")
    if "ours" in rows:
        row, counted = rows["ours"], rows["ours"]["counted"]
        _say(f"   ours: {counted['told_apart']:,} of {row['messages']:,} told, {row['letters']} letters; "
             f"a quota of {quota[0]:,} used up for {quota[1]} s: {counted.get('refused', 0)} messages met it; "
             f"{row['mib_before']:.0f} MiB before the first push")  # fmt: skip
    return {"key": "push", "title": title, "unit": "messages/s", "rows": rows}


# -- the table -------------------------------------------------------------------------------------------------------


def _show(measured: Measured) -> None:
    _say()
    _say(f"{measured.title}, {measured.unit}")
    _say(f"   {'':<15}{'median':>10}   {'min – max':<21}{'ours / it':>10}   the aim asks")
    main = aims.rows_of(measured.key)[0]
    ours, aim = measured.series.get(main), aims.of(measured.key, main)
    assert aim is not None
    for name, series in measured.series.items():
        if not series.values:
            _say(f"   {name:<15}not measured: {series.failed}")
            continue
        low, high = series.spread
        text = f"   {name:<15}{_figure(series.median):>10}   {_figure(low) + ' – ' + _figure(high):<21}"
        own = aims.of(measured.key, name)
        if own is not None:
            text += f"{'':>10}   {own!s:<32}{_verdict(own.met(series.median))}"
        else:
            ratio = ours.over(series) if ours else None
            text += f"{_figure(ratio) + ' ×' if ratio is not None else '':>10}   "
            asked = aim.ratio(name)
            if ratio is not None and asked is not None:
                sign = "<" if aim.better == "lower" else ">"
                text += f"{f'{sign} {_figure(asked)} ×':<32}{_verdict(aim.ratio_met(name, ratio))}"
        _say(f"{text:<102} {measured.notes.get(name, '')}".rstrip())
        if series.failed:
            _say(f"   {'':<15}after {len(series.values)} rounds: {series.failed}")
    for what, all_series in measured.beside.items():
        shown = [f"{name} {_figure(series.median)}" for name, series in all_series.items()]
        _say(f"   {what}: {'; '.join(shown)}")


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "MISSED", None: ""}[met]


def _figure(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def _as_json(machine: str, measured: Sequence[Measured], more: Sequence[dict[str, Any]]) -> str:
    document: dict[str, Any] = {"machine": machine, "sections": []}
    for one in measured:
        rows: dict[str, Any] = {}
        for name, series in one.series.items():
            rows[name] = {"rounds": list(series.values.values()), "failed": series.failed, "note": one.notes.get(name)}
            aim = aims.of(one.key, name)
            if series.values:
                rows[name]["median"] = series.median
                if aim is not None:
                    rows[name] |= {"aim": str(aim), "met": aim.met(series.median)}
        for what, all_series in one.beside.items():
            for name, series in all_series.items():
                rows.setdefault(name, {})[what] = list(series.values.values())
        document["sections"].append({"key": one.key, "title": one.title, "unit": one.unit, "rows": rows})
    document["sections"] += more
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _say(text: str = "") -> None:
    print(text, flush=True)


# -- the command -----------------------------------------------------------------------------------------------------


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [] if text == "none" else text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _registered(words: str) -> pushed.Size:
    return pushed.Size.with_devices(int(words))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="The library beside its peers.")
    parser.add_argument("--only", type=_names(ONLY), default=list(ONLY), help=f"of {','.join(ONLY)}")
    parser.add_argument("--peers", type=_names(list(PEERS)), default=list(PEERS), help=f"of {','.join(PEERS)}, or none")
    parser.add_argument("--against", metavar="REV", help="a commit whose library is measured beside this one")
    parser.add_argument("--rounds", type=int, help="of each section, instead of its own number")
    parser.add_argument("--devices", type=_registered, default=pushed.Size(), metavar="N",
                        help="for 'push': so many in all, ten to an owner")  # fmt: skip
    parser.add_argument("--json", type=Path, help="a file for every figure")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for, and print it section by section."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    begun = time.monotonic()
    folder = harness.folder_on_disk()
    done: list[Measured] = []
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        machine = harness.machine(folder)
        _say(machine)
        redis: str | None = None
        if any(peer in NEED_REDIS for peer in asked.peers):
            try:
                redis = stack.enter_context(servers.redis(folder / "redis"))
            except servers.ServerFailed as failure:
                _say(f"  {failure}")
        sections = [section for section in SECTIONS if section.is_in(asked.only)]
        before = harness.revision(asked.against, folder / "before") if asked.against else None
        if before is not None:
            sections = [_with(section, before) for section in sections]
        wanted = {row.subject for s in sections for row in s.rows}
        names = [name for name in SUBJECTS if name in wanted and (name not in PEERS or name in asked.peers)]
        names += sorted(name for name in wanted if "@" in name)
        with _subjects(names, folder, redis, before) as subjects:
            for section in sections:
                done.append(_measure(section, subjects, asked.rounds))
                _show(done[-1])
        if "wrapped" in asked.only:
            try:
                done.append(_measure_served(folder / "served", asked.rounds))
            except (servers.ServerFailed, load.LoadFailed, RowFailed, OSError) as failure:
                _say(f"\n4c requests under gunicorn: not measured: {failure}")
            else:
                _show(done[-1])
        if "idle" in asked.only:
            done.append(_measure_idle(folder / "idle"))
            _show(done[-1])
        if "polls" in asked.only:
            try:
                done.append(_measure_polls(folder / "polls", redis, asked.peers, asked.rounds))
            except (servers.ServerFailed, load.LoadFailed, OSError) as failure:
                _say(f"\n5  status polls: not measured: {failure}")
            else:
                _show(done[-1])
        more: list[dict[str, Any]] = []
        if "streams" in asked.only:
            more.append(_show_streams(folder / "streams"))
        if "stored" in asked.only:
            done.append(_show_stored(folder / "stored", asked.rounds))
        if "survival" in asked.only:
            more.append(_show_survival(folder / "survival", redis, asked.peers))
        if "mirror" in asked.only:
            more.append(_show_mirror(folder / "mirror"))
        if "push" in asked.only:
            more.append(_show_push(folder / "push", asked.devices))
        _say(f"\n{time.monotonic() - begun:.0f} s; median and min – max of the rounds, which were taken in turn. "
             "ours / it: the median of the rounds' own ratios.")  # fmt: skip
        if asked.json is not None:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(_as_json(machine, done, more))


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
