"""From steps to a percentage and a remaining time: pure arithmetic over the tree of a run's steps.

What a step weighs, in this order: a weight that was given; how long it took in earlier runs; the same as its siblings.
Times are seconds on one monotonic clock, which the caller reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import StepHistory

LEARNT_AFTER_RUNS = 3
"""Fewer earlier runs than this say too little: one slow first run would bend the bar."""

NEARLY_DONE = 0.95
"""Where a step that is judged by time stays until it really ends."""

KEY_SEPARATOR = " > "

Durations = Mapping[str, StepHistory]


@dataclass(frozen=True, slots=True)
class Expected:
    """A step that is known to come: its name (None if only their number is known) and its weight, if one was given."""

    name: str | None
    weight: float | None = None


class Node:
    """One step of this run. The root stands for the task; its children are the top-level steps."""

    __slots__ = (
        "children",
        "details",
        "finished",
        "fraction",
        "kept",
        "name",
        "number",
        "parent",
        "restored",
        "started",
        "unit",
        "weight",
    )

    def __init__(self, name: str, parent: Node | None, *, started: float, weight: float | None = None) -> None:
        self.name = name
        self.parent = parent
        self.weight = weight
        self.details: str | None = None
        self.fraction: float | None = None  # how much of it is done, where it says so itself
        self.unit = 0.0  # the share of one turn of its `track` loop
        self.started = started
        self.finished: float | None = None
        self.number = 0
        self.children: list[Node] = []
        self.kept: list[Any] | None = None  # the output given inside it, of a checkpoint
        self.restored = False  # whether an earlier attempt's value took the place of its work

    @property
    def path(self) -> list[str]:
        """The names from the top-level step down to this one."""
        names: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return names[::-1]

    @property
    def key(self) -> str:
        """The step's name in the history of durations."""
        return KEY_SEPARATOR.join(self.path)


class _Slot:
    """A place in the row of top-level steps, and the step of this run that took it."""

    __slots__ = ("node", "step")

    def __init__(self, step: Expected, node: Node | None = None) -> None:
        self.step = step
        self.node = node


class Plan:
    """The steps that are expected and those that came. Not thread-safe: the caller holds its lock.

    :param expected: the declared steps in order.
    :param total_steps: how many there are, where only that is known.
    :param durations: what earlier runs took, by step key, in the order in which the steps came.
    """

    def __init__(
        self, *, started: float, expected: Sequence[Expected] = (), total_steps: int | None = None, durations: Durations
    ) -> None:
        self.root = Node("", None, started=started)
        self._durations = {k: h for k, h in durations.items() if h.runs >= LEARNT_AFTER_RUNS}
        if not expected and total_steps:
            expected = [Expected(None)] * total_steps
        elif not expected:
            expected = self._learnt_steps()
        self._slots = [_Slot(step) for step in expected]
        self.known = bool(self._slots)
        """Whether the steps to come are known; else the percentage is an estimate that slows down."""
        self._furthest = -1  # index of the furthest slot that was taken

    def _learnt_steps(self) -> list[Expected]:
        top = {key: h for key, h in self._durations.items() if KEY_SEPARATOR not in key}
        usual = max((h.runs for h in top.values()), default=0) / 2
        return [Expected(key) for key, h in top.items() if h.runs >= usual]

    @property
    def total_steps(self) -> int | None:
        """How many top-level steps there are, None while nobody knows."""
        return len(self._slots) if self.known else None

    def open(self, name: str, parent: Node, *, at: float, weight: float | None = None) -> Node:
        """A step begins."""
        node = Node(name, parent, started=at, weight=weight)
        parent.children.append(node)
        if parent is self.root:
            node.number = self._take_slot(node) + 1
        return node

    def close(self, node: Node, *, at: float) -> None:
        """A step ends."""
        node.finished = at

    def _take_slot(self, node: Node) -> int:
        free = (i for i, slot in enumerate(self._slots) if slot.node is None and slot.step.name in (node.name, None))
        index = next(free, len(self._slots))
        if index == len(self._slots):
            self._slots.append(_Slot(Expected(node.name)))
        self._slots[index].node = node
        self._furthest = max(self._furthest, index)
        return index

    # -- how much is done --------------------------------------------------------------------------------------------

    def percentage(self, now: float) -> float:
        """How much of the task is done at ``now``, 0 to 100, with two decimals."""
        root = self.root
        if root.fraction is not None and not root.children:
            return round(100 * root.fraction, 2)
        slots = self._slots
        if not slots:
            return 0.0
        weights = self._weights([(s.step.name, s.node, s.step.weight) for s in slots])
        done = sum(w * self._slot_fraction(i, s, now) for i, (w, s) in enumerate(zip(weights, slots, strict=True)))
        whole = sum(weights)
        if not self.known:
            whole += whole / len(weights)  # at least one more may come
        return round(100 * done / whole, 2)

    def _slot_fraction(self, index: int, slot: _Slot, now: float) -> float:
        if slot.node is None:
            return 1.0 if index < self._furthest else 0.0  # a later one has begun: this one was left out
        return self._fraction(slot.node, now)

    def _fraction(self, node: Node, now: float) -> float:
        if node.finished is not None:
            return 1.0
        if node.fraction is not None:
            running = max((self._fraction(c, now) for c in node.children if c.finished is None), default=0.0)
            return min(1.0, node.fraction + node.unit * running)
        by_time = self._fraction_by_time(node, now)
        if not node.children:
            return by_time
        weights = self._weights([(c.name, c, None) for c in node.children])
        done = sum(w * self._fraction(c, now) for w, c in zip(weights, node.children, strict=True))
        return max(by_time, done / (sum(weights) + sum(weights) / len(weights)))

    def _fraction_by_time(self, node: Node, now: float) -> float:
        learnt = self._durations.get(node.key)
        if learnt is None or learnt.seconds <= 0:
            return 0.0
        return min(NEARLY_DONE, max(0.0, now - node.started) / learnt.seconds)

    def _weights(self, rows: list[tuple[str | None, Node | None, float | None]]) -> list[float]:
        given = [w if w is not None else (n.weight if n is not None else None) for _, n, w in rows]
        if any(w is not None for w in given):
            return [1.0 if w is None else w for w in given]
        prefix = ""
        first = next((n for _, n, _ in rows if n is not None and n.parent is not None), None)
        if first is not None and first.parent is not None and first.parent.parent is not None:
            prefix = first.parent.key + KEY_SEPARATOR
        learnt = [self._durations.get(prefix + name) if name else None for name, _, _ in rows]
        seconds = [h.seconds for h in learnt if h is not None]
        if not seconds or sum(seconds) <= 0:
            return [1.0] * len(rows)
        mean = sum(seconds) / len(seconds)
        # A step that takes no time still weighs something, so that no weight is zero.
        return [max(h.seconds if h is not None else mean, mean / 100) for h in learnt]

    # -- how long it still takes -------------------------------------------------------------------------------------

    def eta_seconds(self, now: float) -> float | None:
        """How long the rest takes by what earlier runs took; None until those say enough."""
        if not self.known:
            return None
        left = 0.0
        for index, slot in enumerate(self._slots):
            node = slot.node
            if (node is None and index < self._furthest) or (node is not None and node.finished is not None):
                continue
            name = node.name if node is not None else slot.step.name
            learnt = self._durations.get(name) if name else None
            if learnt is None:
                return None
            left += learnt.seconds * (1.0 if node is None else 1.0 - self._fraction(node, now))
        return round(left, 1)

    # -- what this run teaches ---------------------------------------------------------------------------------------

    def durations(self, *, most: int = 100) -> dict[str, float]:
        """What this run's finished steps took, in the order in which they began: top-level ones and their children.

        Steps of one name are added up. At most ``most`` names: a pipeline that names its steps after its data would
        fill the store.
        """
        taken: dict[str, float] = {}
        for node in self.root.children:
            for step in (node, *node.children):
                if step.restored or any(child.restored for child in step.children):
                    continue  # its work was done in another attempt, in a time that nobody knows here
                if step.finished is not None and (step.key in taken or len(taken) < most):
                    taken[step.key] = taken.get(step.key, 0.0) + step.finished - step.started
        return taken
