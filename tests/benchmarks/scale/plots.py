"""Draws the plots of docs/explanation/capacity.md.

SVG by hand: nothing has to be installed, and a plot of another run differs where its figures do. A light panel of its
own makes a plot readable on a dark page too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 760, 330
LEFT, RIGHT, TOP, BOTTOM = 70, 525, 50, 280  # of the plot's frame; the legend is to the right of it
COLOURS = ("#3b6fd8", "#2f9e5b", "#cf3f3f", "#9a5bd0", "#c47a12")
INK, LINE, PANEL = "#1d2433", "#c9cfdb", "#f7f8fb"
MARKS = 5  # on the upright axis, at most

Curves = Mapping[str, Sequence[tuple[float, float]]]


def plot(title: str, across: str, curves: Curves) -> str:
    """An SVG of these curves, over the values that they have, which stand at equal distances.

    :param across: what the values mean. :raises ValueError: there is nothing to draw.
    """
    values = sorted({x for points in curves.values() for x, _ in points})
    if not values:
        raise ValueError(f"nothing to draw: {title}")
    step = _step(max(y for points in curves.values() for _, y in points))
    highest = step * MARKS
    place = _places(values)

    def height(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * y / highest

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="14" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{PANEL}"/>',
        f'<text x="{LEFT}" y="28" font-size="16">{escape(title)}</text>',
    ]
    for number in range(MARKS + 1):
        y = height(step * number)
        lines.append(f'<path d="M{LEFT} {y:.0f}H{RIGHT}" stroke="{LINE}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 5:.0f}" text-anchor="end">{step * number:,.6g}</text>')
    lines += [
        f'<text x="{place(value):.0f}" y="{BOTTOM + 20}" text-anchor="middle">{value:,.6g}</text>' for value in values
    ]
    lines.append(f'<text x="{(LEFT + RIGHT) / 2:.0f}" y="{BOTTOM + 40}" text-anchor="middle">{escape(across)}</text>')
    for number, (name, points) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{place(x):.0f},{height(y):.0f}" for x, y in sorted(points))
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        lines += [f'<circle cx="{place(x):.0f}" cy="{height(y):.0f}" r="3.6" fill="{colour}"/>' for x, y in points]
        y = TOP + 14 + 24 * number
        lines.append(f'<path d="M{RIGHT + 22} {y - 5}h18" stroke="{colour}" stroke-width="3"/>')
        lines.append(f'<text x="{RIGHT + 46}" y="{y}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _step(highest: float) -> float:
    """A round number of which five reach the highest value."""
    power = 10.0**-6
    while True:
        for factor in (1, 2, 4, 5, 8):
            if factor * power * MARKS >= highest:
                return factor * power
        power *= 10


def _places(values: Sequence[float]) -> Callable[[float], float]:
    apart = (RIGHT - LEFT) / (len(values) + 1)
    return {value: LEFT + apart * (number + 1) for number, value in enumerate(values)}.__getitem__


def _curves(rows: Sequence[Mapping[str, Any]], over: str, what: str) -> Curves:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if not row["failed"]:
            curves.setdefault(row["setup"], []).append((row[over], row[what]))
    return curves


def draw(section: Mapping[str, Any]) -> dict[str, str]:
    """The plots of a run's section "scale", by file name."""
    rows = section["rows"]
    empty = [row for row in rows if row["ended"] == min(each["ended"] for each in rows)]
    usual = sorted({row["processes"] for row in rows})
    usual = usual[len(usual) // 2]
    grown = [row for row in rows if row["processes"] == usual]
    processes = "processes" if usual > 1 else "process"
    plots = {}
    for what, text in (("submissions", "Submissions"), ("completions", "Completions"), ("polls", "Status polls")):
        plots[f"capacity-{what}.svg"] = plot(f"{text} a second", "processes", _curves(empty, "processes", what))
        title = f"{text} a second, {usual} {processes}"
        plots[f"capacity-{what}-stored.svg"] = plot(title, "ended tasks in the store", _curves(grown, "ended", what))
    late: dict[str, list[tuple[float, float]]] = {}
    for row in section.get("streams", ()):
        for share in ("p50", "p99"):
            late.setdefault(f"{row['store']}, {share}", []).append((row["streams"], row[share]))
    if late:
        title = "From an event's commit to its arrival, ms"
        plots["capacity-streams.svg"] = plot(title, "streams of one process (gevent)", late)
    return plots
