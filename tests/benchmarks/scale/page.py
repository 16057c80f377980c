"""Puts a run into docs/explanation/capacity.md, as plots and tables: python -m tests.benchmarks.scale.page FILE [DOCS].

FILE is what `--json` wrote. The page includes ``capacity-figures.md``, which is written here and by nobody's hand.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..table import figure
from .plots import draw

FIGURES = "explanation/capacity-figures.md"
PICTURES = "_static"

PLOTS = {
    "submissions": "Accepted requests a second: `POST` of a `@background` view that does nothing.",
    "completions": "Completed tasks a second, of tasks that do nothing.",
    "polls": "`GET /tasks/{id}` a second, of 200 tasks in turn.",
}
CASES = {
    "none": "a task that does nothing",
    "steps": "with 10 steps, at once",
    "reports": "that reports all the time, for 3 s",
}
RUNNERS = {"threads": "by the process that accepts it", "external": "by a worker"}


def figures(run: Mapping[str, Any]) -> str:
    """The included part of the page."""
    sections = {section["key"]: section for section in run["sections"]}
    scale = sections["scale"]
    parts = [_origin(run, scale), _rates(scale), _costs(scale["rows"]), _streams(scale.get("streams", ()))]
    parts += [_writes(scale), _peers(sections)]
    return "<!-- Made by `make capacity`. -->\n\n" + "\n".join(part for part in parts if part)


def _origin(run: Mapping[str, Any], scale: Mapping[str, Any]) -> str:
    others = [row["others"] for row in scale["rows"] if not row["failed"]]
    return (
        f"## One machine, measured\n\nMeasured on {scale['date']} at commit `{scale['commit']}`, on {scale['cores']} "
        f"shared cores ({run['machine']}). Everything was on it: processes, database, Redis, and who asks. Other "
        f"programs used {min(others):.1f} to {max(others):.1f} of the cores meanwhile (median "
        f"{statistics.median(others):.1f}); what they use is missing in the rates.\n"
    )


def _rates(scale: Mapping[str, Any]) -> str:
    lines = []
    for what, text in PLOTS.items():
        lines += [f"### {what.capitalize()}\n", f"{text}\n"]
        for name in (f"capacity-{what}.svg", f"capacity-{what}-stored.svg"):
            lines.append(f"![{text}](../{PICTURES}/{name})\n")
    lines += ["### All cells\n", *_table(("", "processes", "ended tasks", *PLOTS), _cells(scale["rows"]))]
    lines += [f"{name}: {note}.\n" for name, note in scale["notes"].items()]
    return "\n".join(lines)


def _cells(rows: Iterable[Mapping[str, Any]]) -> Iterable[Sequence[str]]:
    for row in rows:
        told = ["not measured"] * 3 if row["failed"] else [f"{row[what]:,.0f}" for what in PLOTS]
        yield [row["setup"], str(row["processes"]), f"{row['ended']:,}", *told]


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Processor time: it says the same on a busy machine as on an idle one, nearly."""
    lines = []
    for setup in dict.fromkeys(row["setup"] for row in rows):
        cells = [row["cpu"] for row in rows if row["setup"] == setup and not row["failed"]]
        if cells:
            told = [
                " + ".join(figure(statistics.median(cpu[key] for cpu in cells)) for key in (what, f"{what} database"))
                for what in PLOTS
            ]
            lines.append([setup, *told])
    return "\n".join(
        [
            "### Processor time\n",
            "Milliseconds for each, of the app's processes + of the database's (the median of the cells):\n",
            *_table(("", *PLOTS), lines),
        ]
    )


def _streams(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("store", "streams", "p50, ms", "p99, ms", "KiB for each", "% of a core", "connections to the database")
    lines = [
        (row["store"], f"{row['streams']:,}", f"{row['p50']:.0f}", f"{row['p99']:.0f}", f"{row['kib']:.0f}",
         f"{row['cpu']:.0f}", str(row["database connections"]))
        for row in rows
    ]  # fmt: skip
    return (
        "\n".join(
            [
                "### Streams\n",
                "One gunicorn process with gevent, all streams follow one task, a step every quarter of a second. "
                "From an event's commit until a client has it:\n",
                f"![From an event's commit to its arrival.](../{PICTURES}/capacity-streams.svg)\n",
                *_table(head, lines),
            ]
        )
        if rows
        else ""
    )


def _writes(scale: Mapping[str, Any]) -> str:
    lines = []
    for name, row in scale.get("writes", {}).items():
        runner, _, case = name.partition(", ")
        announced = f"{row['announcements']:.1f}" if "announcements" in row else ""
        cells = (f"{row['commits']:.1f}", announced, f"{row['rows']:.1f}", f"{row['wal'] / 1024:.1f}")
        lines.append((CASES[case], RUNNERS[runner], *cells))
    if not lines:
        return ""
    head = ("a task", "run", "commits", "announcements", "rows", "KiB of WAL")
    text = ["### Writes, counted by PostgreSQL\n", *_table(head, lines)]
    documents = scale.get("documents")
    if documents:
        told = "; ".join(f"{CASES[case]}: {count:.1f}" for case, count in documents.items())
        text.append(f"Documents that the Firestore mirror writes, on the emulator: {told}.\n")
    return "\n".join(text)


def _peers(sections: Mapping[str, Any]) -> str:
    lines = []
    for key, unit in (("postgresql-submit", "µs"), ("postgresql-throughput", "tasks a second")):
        rows = sections.get(key, {"rows": {}})["rows"]
        for name, row in rows.items():
            if "median" in row:
                rounds = zip(rows["ours"]["rounds"], row["rounds"], strict=False)
                ratio = "" if name == "ours" else figure(statistics.median(ours / it for ours, it in rounds)) + " ×"
                spent = next((values for what, values in row.items() if what.startswith("processor time")), None)
                cpu = figure(statistics.median(spent)) if spent else ""
                what = "one submit" if unit == "µs" else "no-op tasks"
                lines.append((what, name, f"{figure(row['median'])} {unit}", ratio, cpu))
    if not lines:
        return ""
    head = ("", "", "median", "ours / it", "processor time of all for a task, ms")
    return "\n".join(
        [
            "### Beside Procrastinate and Absurd, on PostgreSQL alone\n",
            "One worker process each, four tasks at a time, the same server, in turn:\n",
            *_table(head, lines),
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def main(results: str, docs: str = "docs") -> None:
    """Write the plots and the included part."""
    run = json.loads(Path(results).read_text())
    (scale,) = (section for section in run["sections"] if section["key"] == "scale")
    for name, text in draw(scale).items():
        (Path(docs) / PICTURES / name).write_text(text)
    (Path(docs) / FIGURES).write_text(figures(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
