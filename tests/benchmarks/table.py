"""How figures are shown: a table beside the peers and the aims, and every figure as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import aims
from .harness import Series


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


def show(measured: Measured) -> None:
    say()
    say(f"{measured.title}, {measured.unit}")
    main = (aims.rows_of(measured.key) or ["ours"])[0]
    ours, aim = measured.series.get(main), aims.of(measured.key, main)
    say(f"   {'':<15}{'median':>10}   {'min – max':<21}{'ours / it':>10}{'   the aim asks' if aim else ''}")
    for name, series in measured.series.items():
        if not series.values:
            say(f"   {name:<15}not measured: {series.failed}")
            continue
        low, high = series.spread
        text = f"   {name:<15}{figure(series.median):>10}   {figure(low) + ' – ' + figure(high):<21}"
        own = aims.of(measured.key, name)
        if own is not None:
            text += f"{'':>10}   {own!s:<32}{verdict(own.met(series.median))}"
        else:
            ratio = ours.over(series) if ours and name != main else None
            text += f"{figure(ratio) + ' ×' if ratio is not None else '':>10}   "
            asked = aim.ratio(name) if aim is not None else None
            if aim is not None and ratio is not None and asked is not None:
                sign = "<" if aim.better == "lower" else ">"
                text += f"{f'{sign} {figure(asked)} ×':<32}{verdict(aim.ratio_met(name, ratio))}"
        say(f"{text:<102} {measured.notes.get(name, '')}".rstrip())
        if series.failed:
            say(f"   {'':<15}after {len(series.values)} rounds: {series.failed}")
    for what, all_series in measured.beside.items():
        shown = [f"{name} {figure(series.median)}" for name, series in all_series.items()]
        say(f"   {what}: {'; '.join(shown)}")


def verdict(met: bool | None) -> str:
    return {True: "met", False: "MISSED", None: ""}[met]


def figure(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def as_json(machine: str, measured: Sequence[Measured], more: Sequence[dict[str, Any]]) -> str:
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


def say(text: str = "") -> None:
    print(text, flush=True)
