"""`make bench`: the library beside its peers, in one run on one machine, as a table with the aims.

python -m tests.benchmarks [--only update,submit,throughput,…] [--peers celery,…|none] [--against REV] \
    [--rounds N] [--scale KEY=VALUE,…] [--json FILE]

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import (
    aims,
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
from .scale import section as scale
from .scale import usage
from .sections import NEED_POSTGRESQL, NEED_REDIS, ONLY, PEERS, SECTIONS, SUBJECTS, Row, Section, with_revision
from .table import Measured, as_json, figure, say, show, verdict

STORED_ROUNDS = 9
SERVED_ROUNDS = 6
POLL_ROUNDS = 8
POLL_SECONDS = 125.0

STREAM_SERVERS = (
    ("ours", "gthread", "streams", "a thread for each"),
    ("gevent", "gevent", "streams", "a greenlet for each (gevent)"),
    ("bare gevent", "gevent", "bare_streams", "the same by hand, without a store (gevent)"),
)


NEEDS = (
    (NEED_REDIS, "BENCH_REDIS", "no Redis"),
    (NEED_POSTGRESQL, "BENCH_POSTGRESQL", "no PostgreSQL"),
)
"""Subjects, the variable by which they are told where their server is, and what is said where there is none."""


# -- measuring -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _subjects(
    names: Sequence[str], folder: Path, needed: Mapping[str, str], before: harness.Revision | None
) -> Iterator[dict[str, Driver | str]]:
    """The started subjects; of one that does not start the reason."""
    found: dict[str, Driver | str] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            missing = [text for names, variable, text in NEEDS if name in names and variable not in needed]
            if missing:
                found[name] = missing[0]
                continue
            module, options = SUBJECTS[name.partition("@")[0]]
            root = before.root if before is not None and "@" in name else None
            driver = Driver(f"{__package__}.{module}", folder / name, environ=needed, root=root, **options)
            stack.callback(driver.close)
            found[name] = driver
        for name, driver in found.items():
            if isinstance(driver, Driver):
                try:
                    say(f"  {driver.ready()}")
                except DriverFailed as failure:
                    found[name] = str(failure)
                    say(f"  {name}: {failure}")
        yield found


def _measure(section: Section, subjects: dict[str, Driver | str], rounds: int | None, database: int | None) -> Measured:
    """:param database: the process of the server that the subjects use alone; its processor time is told too."""
    spent: dict[str, Series] = {}

    def take(row: Row) -> Callable[[], float]:
        def one() -> float:
            driver = subjects[row.subject]
            if isinstance(driver, str):
                raise RowFailed(driver)
            begun, used = time.monotonic(), usage.seconds(driver.pid, *filter(None, [database]))
            try:
                rate = driver.ask(section.command, row.arguments)
            except DriverFailed as failure:
                raise RowFailed(str(failure)) from None
            if section.key == "postgresql-throughput":
                count = rate * (time.monotonic() - begun)
                values = spent.setdefault(row.name, Series()).values
                values[len(values)] = 1000 * (usage.seconds(driver.pid, *filter(None, [database])) - used) / count
            return rate

        return one

    rows = {row.name: row for row in section.rows if row.subject in subjects}
    series = harness.in_turn(
        {name: take(row) for name, row in rows.items()}, rounds=rounds or section.rounds, seconds=section.seconds
    )
    notes = {name: row.note for name, row in rows.items()}
    beside = {"processor time of all processes and the server for a task, ms": spent} if spent else {}
    return Measured(section.key, section.title, section.unit, notes, series, beside)


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
    say(f"\n{title}")
    rows: dict[str, Any] = {}
    for row, worker, app, meaning in STREAM_SERVERS:
        try:
            found = streams.measure(folder / row, worker, app=app)
        except (servers.ServerFailed, RowFailed, OSError) as failure:
            say(f"   {meaning}: not measured: {failure}")
            continue
        late = {share: streams.quantile(found.late, share) for share in (0.5, 0.99)}
        asked = {share: streams.quantile(found.answers, share) for share in (0.5, 0.99)}
        aim = aims.of("streams", row)
        wanted = "" if aim is None else f"; aim {aim}: {'met' if aim.met(late[0.99]) else 'missed'}"
        say(f"   {meaning}: {found.kib:.0f} KiB of memory for each; {found.cpu:.0f} % of a core for "
             f"{len(found.late):,} events in {streams.SECONDS:g} s")  # fmt: skip
        say(f"      an event arrives {late[0.5]:.0f} ms after its commit (p50), {late[0.99]:.0f} ms (p99){wanted}")
        say(f"      other clients' polls take {asked[0.5]:.0f} ms meanwhile (p50), {asked[0.99]:.0f} ms (p99)")
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
    say(f"\n{title}, µs")
    say(f"   {'':<15}{'empty':>10}{'full':>10}   {'full / empty':<21}the aim asks {aim}")
    for what in ("submit", "next task"):
        empty, full = series[f"{what}, empty"], series[f"{what}, full"]
        ratio = full.over(empty) or 0.0
        figures = f"{figure(empty.median):>10}{figure(full.median):>10}   {figure(ratio) + ' ×':<21}"
        say(f"   {what:<15}{figures}{verdict(aim.met(ratio))}")
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
    say(f"\n{title}")
    for name, fate in fates.items():
        met = fate.completed and fate.seconds is not None and aim.met(fate.seconds) and "resumed" in fate.outcome
        told = f"   aim: resumed, {aim} after the restart: {verdict(met)}" if name == "ours" else ""
        say(f"   {name:<15}{fate!s:<100} {survival.KINDS[name].note}{told}".rstrip())
    rows = {name: {**dataclasses.asdict(fate), "note": survival.KINDS[name].note} for name, fate in fates.items()}
    return {"key": "survival", "title": title, "unit": "s", "rows": rows}


def _show_mirror(folder: Path) -> dict[str, Any]:
    """Run many tasks with the Firestore mirror and without, one run after the other, and print it."""
    title = f"8  {mirrored.TASKS} tasks at once, {mirrored.UPDATES} reports a second each, for {mirrored.SECONDS:g} s"
    aim = aims.of("mirror", "with / without")
    assert aim is not None
    say(f"\n{title}: Firestore mirror")
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
        say(f"   not measured: {failure}")
        return {"key": "mirror", "title": title, "unit": "s", "rows": rows}
    ratio = rows["with"]["task_seconds"] / rows["without"]["task_seconds"]
    seconds = ", ".join(f"{name} {rows[name]['task_seconds']:.3f} s" for name in ("without", "with"))
    say(f"   a task takes: {seconds}: {ratio:.4f} ×   aim: {aim}: {verdict(aim.met(ratio))}")
    found = rows["with"]
    say(f"   writes of a progress document: {found['writes']:.1f}, at least {found['least_gap']:.2f} s apart")
    say(f"   final states right: {found['right']} of {mirrored.TASKS}")
    return {"key": "mirror", "title": title, "unit": "s", "rows": rows}


def _show_push(folder: Path, size: pushed.Size) -> dict[str, Any]:
    """Tell many tasks to several devices each, by a stand-in of FCM that once refuses everything, and print it."""
    quota = (size.messages // 3, 2)
    title = f"9  {size}, told by FCM (a stand-in that takes 10 ms)"
    say(f"\n{title}")
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
            say(f"   {name}: not measured: {failure}")
            continue
        row = rows[name]
        rate, at_once = row["messages"] / row["seconds"], row["counted"]["most_at_once"]
        say(f"   {name:<10} {rate:>8,.0f} messages/s   {row['mib']:>6.0f} MiB   at most {at_once} at once")
    if "ours" in rows:
        row, counted = rows["ours"], rows["ours"]["counted"]
        say(f"   ours: {counted['told_apart']:,} of {row['messages']:,} told, {row['letters']} letters; "
             f"a quota of {quota[0]:,} used up for {quota[1]} s: {counted.get('refused', 0)} messages met it; "
             f"{row['mib_before']:.0f} MiB before the first push")  # fmt: skip
    return {"key": "push", "title": title, "unit": "messages/s", "rows": rows}


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
    parser.add_argument("--scale", type=scale.Size.parse, default=scale.Size(), metavar="KEY=VALUE,…",
                        help=scale.Size.HELP)  # fmt: skip
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
        say(machine)
        sections = [one for one in SECTIONS if one.is_in(asked.only)]
        before = harness.revision(asked.against, folder / "before") if asked.against else None
        if before is not None:
            sections = [with_revision(one, before) for one in sections]
        wanted = {row.subject for s in sections for row in s.rows}
        names = [name for name in SUBJECTS if name in wanted and (name not in PEERS or name in asked.peers)]
        names += sorted(name for name in wanted if "@" in name)
        needed: dict[str, str] = {}
        server: servers.Postgresql | None = None
        try:
            if any(peer in NEED_REDIS for peer in asked.peers):
                needed["BENCH_REDIS"] = stack.enter_context(servers.redis(folder / "redis"))
            if any(name in NEED_POSTGRESQL for name in names):
                server = stack.enter_context(servers.postgresql(folder / "postgresql"))
                needed["BENCH_POSTGRESQL"] = server.url("").rstrip("/")
        except servers.ServerFailed as failure:
            say(f"  {failure}")
        redis = needed.get("BENCH_REDIS")
        with _subjects(names, folder, needed, before) as subjects:
            for one in sections:
                done.append(_measure(one, subjects, asked.rounds, server.pid if server else None))
                show(done[-1])
        if "wrapped" in asked.only:
            try:
                done.append(_measure_served(folder / "served", asked.rounds))
            except (servers.ServerFailed, load.LoadFailed, RowFailed, OSError) as failure:
                say(f"\n4c requests under gunicorn: not measured: {failure}")
            else:
                show(done[-1])
        if "idle" in asked.only:
            done.append(_measure_idle(folder / "idle"))
            show(done[-1])
        if "polls" in asked.only:
            try:
                done.append(_measure_polls(folder / "polls", redis, asked.peers, asked.rounds))
            except (servers.ServerFailed, load.LoadFailed, OSError) as failure:
                say(f"\n5  status polls: not measured: {failure}")
            else:
                show(done[-1])
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
        if "scale" in asked.only:
            more.append(scale.show(folder / "scale", asked.scale))
        say(f"\n{time.monotonic() - begun:.0f} s; median and min – max of the rounds, which were taken in turn. "
             "ours / it: the median of the rounds' own ratios.")  # fmt: skip
        if asked.json is not None:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(as_json(machine, done, more))


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
