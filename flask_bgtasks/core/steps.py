"""Computes the percentage and the remaining time: pure arithmetic over the tree of a run's steps.

A step's weight is, in this order: the given weight; its duration in earlier runs; the same as its siblings. Times are
seconds on one monotonic clock, which the caller reads. Finished steps are kept as sums only, so that the ten-thousandth
step costs as much time and memory as the first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import StepHistory
from .text.clean import ELLIPSIS, identity

LEARNT_AFTER_RUNS = 3
"""Fewer earlier runs than this say too little: one slow first run would bend the bar."""

NEARLY_DONE = 0.95
"""Where a step that is judged by time stays until it really ends."""

KEY_SEPARATOR = " > "

MAX_PATH = 20
"""Names in a step's path: of one that is nested deeper the first ten are kept, and the last nine."""

MAX_WEIGHT = 1e12
"""Of a step. More is no share of anything, and sums of it would leave the range of floats."""

MAX_TAUGHT = 100
"""Step names that one run teaches: a pipeline that names its steps after its data would fill the store."""

Durations = Mapping[str, StepHistory]


def as_weight(value: Any) -> float:
    """A weight as it was given. :raises ValueError: it is no number above 0, at most :data:`MAX_WEIGHT`."""
    number = as_float(value)
    if number is None or not 0 < number <= MAX_WEIGHT:
        raise ValueError(f"expected a number above 0 and at most {MAX_WEIGHT:g}")
    return number


def as_float(value: Any) -> float | None:
    """A number of any kind (an int, a Decimal, one of NumPy's) as a float; None if it is none, or not finite."""
    if isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        number = float(value)
    except Exception:  # no number, one beyond the range of floats, or an object whose conversion raises
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Expected:
    """A step that is known to come: its name (None if only their number is known) and its weight, if one was given."""

    name: str | None
    weight: float | None = None


class StepNode:
    """One step of this run. The root stands for the task; the steps inside it are the top-level steps."""

    __slots__ = (
        "_path",
        "details",
        "finished",
        "fraction",
        "has_restored",
        "has_slot",
        "kept",
        "key",
        "last",
        "name",
        "number",
        "open",
        "over",
        "parent",
        "restored",
        "started",
        "unit",
        "weight",
    )

    def __init__(self, name: str, parent: StepNode | None, *, started: float, weight: float | None = None) -> None:
        self.name = name
        self.parent = parent
        self.weight = weight
        self.details: str | None = None
        self.fraction: float | None = None  # how much of it is done, where it says so itself
        self.unit = 0.0  # the share of one turn of its `track` loop
        self.started = started
        self.finished: float | None = None
        self.number = 0
        self.open: dict[StepNode, None] = {}  # the steps inside it that are not over, in the order in which they began
        self.over = _Over()  # those that are
        self.last: StepNode | None = None  # the step inside it that began last
        self.kept: list[Any] | None = None  # the output given inside it, of a checkpoint
        self.restored = False  # whether an earlier attempt's value took the place of its work
        self.has_restored = False  # whether one of the steps inside it was restored
        self.has_slot = False  # whether it took the place of a step that was expected by name
        if parent is None:
            self._path: tuple[str, ...] = ()
            self.key = ""
            return
        path = (*parent._path, name)
        if len(path) > MAX_PATH:
            path = (*path[: MAX_PATH // 2], ELLIPSIS, *path[1 - MAX_PATH // 2 :])
        self._path = path
        self.key = identity(f"{parent.key}{KEY_SEPARATOR}{name}" if parent.key else name)
        """The step's name in the history of durations."""

    @property
    def is_shortened(self) -> bool:
        """Whether names are left out of its path, as it is nested deeper than :data:`MAX_PATH`."""
        return self.parent is not None and len(self.parent._path) >= MAX_PATH

    @property
    def path(self) -> list[str]:
        """The names from the top-level step down to this one."""
        return list(self._path)


class _Over:
    """Steps that are over, as sums: what they weigh can still change with what comes beside them."""

    __slots__ = ("any_given", "count", "given", "given_count", "learnt")

    def __init__(self) -> None:
        self.any_given = False  # whether any of the steps, also of those that are open, was given a weight
        self.count = 0
        self.given = 0.0  # the sum of the weights that were given
        self.given_count = 0
        self.learnt: dict[str, list[float]] = {}  # by key: the seconds that were learnt, and how many steps of it

    def add(self, node: StepNode, learnt: StepHistory | None) -> None:
        """One more is over."""
        self.count += 1
        if node.weight is not None:
            self.given += node.weight
            self.given_count += 1
        if learnt is not None:
            self.learnt.setdefault(node.key, [learnt.seconds, 0])[1] += 1


@dataclass(frozen=True, slots=True)
class _Row:
    """A step that is looked at by itself: what it weighs, and how much of it is done."""

    given: float | None
    learnt: StepHistory | None
    fraction: float


class _Slot:
    """A place in the row of top-level steps, and the step of this run that took it."""

    __slots__ = ("key", "node", "step")

    def __init__(self, step: Expected) -> None:
        self.step = step
        self.key = identity(step.name or "")
        self.node: StepNode | None = None


class StepTree:
    """The steps that are expected and those that came. Not thread-safe: the caller holds its lock.

    :param expected: the declared steps in order.
    :param total_steps: how many there are, where only that is known.
    :param durations: what earlier runs took, by step key, in the order in which the steps came.
    """

    def __init__(
        self, *, started: float, expected: Sequence[Expected] = (), total_steps: int | None = None, durations: Durations
    ) -> None:
        self.root = StepNode("", None, started=started)
        self._durations = {k: h for k, h in durations.items() if h.runs >= LEARNT_AFTER_RUNS}
        self._nameless = total_steps or 0 if not expected else 0  # places that any step may take
        if not expected and not total_steps:
            expected = self._learnt_steps()
        self._slots = [_Slot(step) for step in expected]
        self._free: dict[str, deque[int]] = {}  # the slots that no step has taken yet, by key
        for index, slot in enumerate(self._slots):
            self._free.setdefault(slot.key, deque()).append(index)
        self.known = bool(self._slots or self._nameless)
        """Whether the steps to come are known; else the percentage is an estimate that slows down."""
        self._furthest = -1  # index of the furthest slot that was taken
        self._others = 0  # top-level steps that took none
        self._taught: dict[str, float | None] = {}  # seconds by key, in the order in which the steps began

    def _learnt_steps(self) -> list[Expected]:
        top = {key: h for key, h in self._durations.items() if KEY_SEPARATOR not in key}
        usual = max((h.runs for h in top.values()), default=0) / 2
        return [Expected(key) for key, h in top.items() if h.runs >= usual]

    @property
    def total_steps(self) -> int | None:
        """How many top-level steps there are, None while nobody knows."""
        return len(self._slots) + max(self._nameless, self._others) if self.known else None

    def open(self, name: str, parent: StepNode, *, at: float, weight: float | None = None) -> StepNode:
        """A step begins."""
        node = StepNode(name, parent, started=at, weight=weight)
        parent.open[node] = None
        parent.last = node
        if weight is not None:
            parent.over.any_given = True
        if parent is self.root:
            node.number = self._take_slot(node) + 1
        if self._teaches(node) and len(self._taught) < MAX_TAUGHT:
            self._taught.setdefault(node.key, None)
        return node

    def close(self, node: StepNode, *, at: float) -> None:
        """A step ends."""
        parent = node.parent
        if node.finished is not None or parent is None:
            return
        node.finished = at
        del parent.open[node]
        if node.restored:
            parent.has_restored = True
        if not node.has_slot:
            parent.over.add(node, self._learnt(node))
        if self._teaches(node):
            self._teach(node, at - node.started)

    def _take_slot(self, node: StepNode) -> int:
        free = self._free.get(node.key)
        if free:
            index = free.popleft()
            self._slots[index].node = node
            node.has_slot = True
        else:
            index = len(self._slots) + self._others
            self._others += 1
        self._furthest = max(self._furthest, index)
        return index

    # -- how much is done --------------------------------------------------------------------------------------------

    def percentage(self, now: float) -> float:
        """How much of the task is done at ``now``, 0 to 100, with two decimals."""
        root = self.root
        if root.fraction is not None and root.last is None:
            return round(100 * root.fraction, 2)
        rows = [self._slot_row(index, slot, now) for index, slot in enumerate(self._slots)]
        rows += [self._row(node, now) for node in root.open if not node.has_slot]
        left = max(0, self._nameless - self._others)
        done, whole, count = _shares(root.over, rows, left)
        if not count:
            return 0.0
        if not self.known:
            whole += whole / count  # at least one more may come
        return round(100 * done / whole, 2)

    def _slot_row(self, index: int, slot: _Slot, now: float) -> _Row:
        node, given = slot.node, slot.step.weight
        learnt = self._durations.get(slot.key)
        if node is None:  # a later one has begun: this one was left out
            return _Row(given, learnt, 1.0 if index < self._furthest else 0.0)
        return _Row(given if given is not None else node.weight, learnt, self._fraction(node, now))

    def _row(self, node: StepNode, now: float, depth: int = 0) -> _Row:
        return _Row(node.weight, self._learnt(node), self._fraction(node, now, depth))

    def _learnt(self, node: StepNode) -> StepHistory | None:
        """How long it took in earlier runs. Where only the number of steps is known, they weigh the same."""
        return None if self._nameless and node.parent is self.root else self._durations.get(node.key)

    def _fraction(self, node: StepNode, now: float, depth: int = 0) -> float:
        if node.finished is not None:
            return 1.0
        deeper = node.open if depth < MAX_PATH else ()
        if node.fraction is not None:
            running = max((self._fraction(one, now, depth + 1) for one in deeper), default=0.0)
            return min(1.0, node.fraction + node.unit * running)
        by_time = self._fraction_by_time(node, now)
        done, whole, count = _shares(node.over, [self._row(one, now, depth + 1) for one in deeper])
        return max(by_time, done / (whole + whole / count)) if count else by_time

    def _fraction_by_time(self, node: StepNode, now: float) -> float:
        learnt = self._durations.get(node.key)
        if learnt is None or learnt.seconds <= 0:
            return 0.0
        return min(NEARLY_DONE, max(0.0, now - node.started) / learnt.seconds)

    # -- how long it still takes -------------------------------------------------------------------------------------

    def eta_seconds(self, now: float) -> float | None:
        """How long the rest takes by what earlier runs took; None until those say enough."""
        if not self.known or self._others < self._nameless:
            return None
        left = 0.0
        for key, node in self._unfinished():
            learnt = self._durations.get(key)
            if learnt is None:
                return None
            left += learnt.seconds * (1.0 if node is None else 1.0 - self._fraction(node, now))
        return round(left, 1)

    def _unfinished(self) -> Iterable[tuple[str, StepNode | None]]:
        """The top-level steps that are open or to come, by key."""
        for index, slot in enumerate(self._slots):
            if slot.node is None:
                if index >= self._furthest:
                    yield slot.key, None
            elif slot.node.finished is None:
                yield slot.key, slot.node
        for node in self.root.open:
            if not node.has_slot:
                yield node.key, node

    # -- what this run teaches ---------------------------------------------------------------------------------------

    def durations(self, *, max_steps: int = MAX_TAUGHT) -> dict[str, float]:
        """What this run's finished steps took, in the order in which they began: top-level ones and their children.

        Steps of one name are added up. At most ``most`` names, of which there are :data:`MAX_TAUGHT` at most.
        """
        taught = [(key, seconds) for key, seconds in self._taught.items() if seconds is not None]
        return dict(taught[:max_steps])

    def _teaches(self, node: StepNode) -> bool:
        parent = node.parent
        return parent is not None and (parent is self.root or parent.parent is self.root)

    def _teach(self, node: StepNode, seconds: float) -> None:
        known = self._taught.get(node.key)
        if node.restored or node.has_restored:  # its work was done in another attempt, in a time nobody knows here
            if known is None:
                self._taught.pop(node.key, None)
        elif node.key in self._taught or len(self._taught) < MAX_TAUGHT:
            self._taught[node.key] = (known or 0.0) + seconds


def _shares(over: _Over, rows: Sequence[_Row], left: int = 0) -> tuple[float, float, int]:
    """What is done of some steps, what there is in all, and how many they are.

    :param rows: those that are not among the ones that are ``over``. :param left: so many more, of which nothing is
        known and nothing is done.
    """
    count = over.count + len(rows) + left
    if over.any_given or any(row.given is not None for row in rows):
        weights = [1.0 if row.given is None else row.given for row in rows]
        done = over.given + over.count - over.given_count
        to_come = float(left)
    else:
        known = [row.learnt.seconds for row in rows if row.learnt is not None]
        learnt = over.learnt.values()
        seconds = sum(known) + sum(one * number for one, number in learnt)
        number = len(known) + sum(int(number) for _, number in learnt)
        if seconds <= 0:
            weights, done, to_come = [1.0] * len(rows), float(over.count), float(left)
        else:
            mean = seconds / number
            least = mean / 100  # a step that takes no time still weighs something, so that no weight is zero
            weights = [mean if row.learnt is None else max(row.learnt.seconds, least) for row in rows]
            done = sum(max(one, least) * times for one, times in learnt)
            done += mean * (over.count - sum(times for _, times in learnt))
            to_come = mean * left
    whole = done + sum(weights) + to_come
    done += sum(weight * row.fraction for weight, row in zip(weights, rows, strict=True))
    return done, whole, count
