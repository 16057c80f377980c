"""The checkpoints of one attempt: it finds those of earlier attempts, and stores new ones.

Knows no attempt and no open step: :mod:`.checkpoint` opens and closes steps, and emits.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.model import Checkpoint
from ..core.steps import StepNode
from ..core.text import json_values
from ..core.text.clean import text_of
from ..errors import NotSerializable, PayloadTooLarge

log = logging.getLogger("flask_bgtasks")

MAX_REMARKS = 100  # of an attempt: a pipeline that names its checkpoints after its data could make any number


class CheckpointLog:
    """The checkpoints of one attempt: those that earlier attempts stored, and how this one goes through them.

    ``_lock`` protects the counts: threads of one task may reach checkpoints at once.

    :param stored: by key.
    :param save: ends a step and stores its value, in one transaction.
    :param confirm: called before each; raises :class:`~flask_bgtasks.CancelRequested` if the attempt has lost its
        task: a process that slept must not begin what another attempt has finished meanwhile.
    :param whose: the task and its attempt, for log lines.
    :param max_bytes: the largest value, with the output of its step.
    """

    def __init__(
        self,
        stored: Mapping[str, Checkpoint],
        *,
        save: Callable[[StepNode, Checkpoint], None],
        confirm: Callable[[], None],
        max_bytes: int,
        whose: str,
    ) -> None:
        self.confirm = confirm
        self.remarks: list[str] = []
        self.used = bool(stored)  # whether there are any to erase in the end
        self._stored = dict(stored)
        self._unused = set(stored)
        self._unused_paths = Counter(_path_of(made) for made in stored.values())  # so that no visit looks at them all
        self._save = save
        self._whose = whose
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._thread = threading.get_ident()  # the attempt's own: only there is an order to be kept
        self._counts: dict[str, int] = {}
        self._reached = 0
        self._open = 0
        self._side_by_side = False
        self._furthest = -1

    def reach(self, node: StepNode, arguments: Any) -> Visit:
        """A checkpoint's step was opened: which one it is, and its value if that is there already."""
        with self._lock:
            identity = json.dumps([node.path, _fingerprint(arguments)])
            count = self._counts[identity] = self._counts.get(identity, 0) + 1
            key = hashlib.sha256(f"{identity}{count}".encode()).hexdigest()[:32]
            self._reached += 1
            nested = _inside_another(node.parent)
            if not nested:
                self._open += 1
                self._side_by_side = self._side_by_side or self._open > 1
            alone = not nested and not self._side_by_side and threading.get_ident() == self._thread
            head = {"path": node.path, "place": self._reached, "alone": alone}
            found = self._stored.get(key)
            if found is not None:
                self._use(key, found)
                if alone:
                    self._compare_order(found)
            elif self._stored:
                self._compare_arguments(node)
        visit = Visit(self, node, key, head, nested)
        if found is not None:
            visit.restore(found)
        return visit

    def leave(self, visit: Visit) -> None:
        """A checkpoint's step is over."""
        if not visit.nested:
            with self._lock:
                self._open -= 1

    def keep(self, node: StepNode, made: Checkpoint) -> None:
        """Store a value. :raises PayloadTooLarge: it is too large."""
        if len(made.body) > self._max_bytes:
            raise PayloadTooLarge(
                f"checkpoint {node.name!r}: its value with its output",
                size=len(made.body),
                limit=self._max_bytes,
                setting="BGTASKS_MAX_RESULT_BYTES",
                mend="Store it elsewhere and return its address.",
            )
        self.used = True
        self._save(node, made)

    def unreached(self) -> None:
        """The attempt is at its end: say which stored values nobody asked for."""
        paths = {_path_of(made) for made in self._stored.values()}
        # Those inside one that was restored are not reached.
        top = {path for path in +self._unused_paths if not any(path[:n] in paths for n in range(1, len(path)))}
        names = sorted(" > ".join(path) for path in top)
        for name in names:
            self._remark(
                f"checkpoint {name!r} of an earlier attempt was not reached: "
                "the pipeline has changed, or what it was called with",
            )

    def _use(self, key: str, found: Checkpoint) -> None:
        if key in self._unused:
            self._unused.remove(key)
            self._unused_paths[_path_of(found)] -= 1

    def _compare_order(self, found: Checkpoint) -> None:
        if not found.head["alone"]:
            return  # in threads any order is right
        place = found.head["place"]
        if place < self._furthest:
            name = found.head["path"][-1]
            self._remark(f"checkpoint {name!r} came earlier in the attempt that stored it: its value is used")
        self._furthest = max(self._furthest, place)

    def _compare_arguments(self, node: StepNode) -> None:
        if self._unused_paths[tuple(node.path)] > 0:
            self._remark(f"checkpoint {node.name!r} has other arguments than in an earlier attempt: it runs again")

    def _remark(self, text: str) -> None:
        text = text_of(text)
        if len(self.remarks) < MAX_REMARKS and text not in self.remarks:
            self.remarks.append(text)
            log.warning("%s: %s", self._whose, text)


@dataclass(slots=True)
class Visit:
    """One call of a checkpoint in an attempt: its open step, and its value once it is there.

    :ivar output: what an earlier attempt emitted in the step, where the value is that one's.
    """

    log: CheckpointLog
    node: StepNode
    key: str
    head: dict[str, Any]
    nested: bool
    value: Any = None
    output: Sequence[Any] = ()

    def __post_init__(self) -> None:
        self.node.kept = []

    @property
    def restored(self) -> bool:
        """Whether the value is an earlier attempt's."""
        return self.node.restored

    def restore(self, found: Checkpoint) -> None:
        """Take an earlier attempt's value."""
        self.value, self.output = json.loads(found.body)
        self.node.restored = True

    def keep(self, value: Any) -> Any:
        """Store the value, and give it back as a later attempt would get it."""
        text = _json(self.node.name, value)
        body = f"[{text},{json.dumps(self.node.kept)}]".encode("ascii")
        self.log.keep(self.node, Checkpoint(self.key, self.head, body))
        return json.loads(text)


def _inside_another(node: StepNode | None) -> bool:
    """Whether this step, or one around it, is a checkpoint's."""
    while node is not None:
        if node.kept is not None:
            return True
        node = node.parent
    return False


def _path_of(stored: Checkpoint) -> tuple[str, ...]:
    return tuple(stored.head["path"])


def _json(name: str, value: Any) -> str:
    """:raises NotSerializable: the value is not JSON."""
    try:
        return json_values.encode(value)
    except json_values.NotJson as error:
        raise NotSerializable(
            f"checkpoint {name!r}: its value is not JSON ({error}). "
            "Return texts, numbers, lists and dicts of them; store files elsewhere and return their address"
        ) from None


def _fingerprint(arguments: Any) -> str:
    """What tells calls with other arguments apart; of one that is not JSON only its type counts."""
    try:
        text = json.dumps(arguments, sort_keys=True, default=_type_of)
    except Exception:  # keys that are no texts, or cannot be sorted; an object inside itself; nested too deep
        args, kwargs = arguments
        text = json.dumps([[_type_of(value) for value in args], {key: _type_of(kwargs[key]) for key in sorted(kwargs)}])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _type_of(value: Any) -> str:
    return f"<{type(value).__qualname__}>"
