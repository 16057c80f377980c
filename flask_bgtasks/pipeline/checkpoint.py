"""``checkpoint``: a step that runs once per task. Its value is stored; a later attempt gets it back instead.

A value goes through JSON in the first attempt too, so that the pipeline sees the same in every one. What tells two
checkpoints of a task apart are the names of the steps around it, its own, its arguments, and how often that occurred.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from ..core.model import Checkpoint
from ..core.steps import Node
from ..core.text import json_values
from ..core.text.clean import text_of
from ..errors import NotSerializable, PayloadTooLarge
from . import reporting
from .attempt import Running

log = logging.getLogger("flask_bgtasks")

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

MAX_REMARKS = 100  # of an attempt: a pipeline that names its checkpoints after its data could make any number

Save = Callable[[Running, Node, Checkpoint], None]
"""Ends a step and stores its value, in one transaction."""

Confirm = Callable[[Running], None]
"""Makes sure that the attempt still holds its task; raises :class:`~flask_bgtasks.TaskCancelled` if it does not."""


@overload
def checkpoint(name: str, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> R: ...


@overload
def checkpoint(name: str, /) -> Callable[[F], F]: ...


@overload
def checkpoint(name: F, /) -> F: ...


def checkpoint(name: Any, function: Any = None, /, *args: Any, **kwargs: Any) -> Any:
    """Run a step once per task, whatever the number of attempts: ``checkpoint("Outline", make_outline, text)``.

    Also a decorator, each call of the function then being a checkpoint: ``@checkpoint``, ``@checkpoint("Outline")``.
    Async functions are taken as well; the call is then awaited.

    Called again with other arguments in a later attempt, it runs again. Outside a task the function is just called.

    :param name: the step's name, shown to the user.
    :param function: what to run; what it returns must be JSON: texts, numbers, booleans, None, lists and dicts.
    :param args: its arguments. In threads, give such as tell the calls apart, and are JSON.
    :returns: what the function returned, as JSON has it (a tuple comes back as a list, in every attempt).
    :raises NotSerializable: the value is not JSON; the message says where in it.
    :raises PayloadTooLarge: the value and the output are larger than ``BGTASKS_MAX_RESULT_BYTES``.
    :raises TaskCancelled: the task was cancelled, or another attempt has taken over.
    """
    if isinstance(name, str) and name:
        if function is None:
            return functools.partial(_decorated, name)
        if callable(function):
            return _call(name, function, args, kwargs)
    elif callable(name) and function is None:
        return _decorated(name.__name__, name)
    raise TypeError(
        f"checkpoint({name!r}, {function!r}): a name and a function are wanted, e.g. checkpoint('Outline', make, text)"
    )


def _decorated(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return _call(name, function, args, kwargs)

    @functools.wraps(function)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        return await _await(name, function, args, kwargs)

    return awaited if inspect.iscoroutinefunction(function) else called


def _call(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return _await(name, function, args, kwargs)
    with _entered(name, args, kwargs) as visit:
        if visit is None:
            return function(*args, **kwargs)
        return visit.value if visit.restored else visit.keep(function(*args, **kwargs))


async def _await(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    with _entered(name, args, kwargs) as visit:
        if visit is None:
            return await function(*args, **kwargs)
        return visit.value if visit.restored else visit.keep(await function(*args, **kwargs))


@contextmanager
def _entered(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[_Visit | None]:
    """The step of a checkpoint; None where nothing is kept: outside a task, or in one that cannot run again."""
    current = reporting.current()
    if current is None:
        yield None
        return
    running, parent = current
    if running.book is None:
        with reporting.step(name):
            yield None
        return
    visit = running.book.visit(running, parent, name, (args, kwargs))
    reporting.move(running, visit.node)
    try:
        yield visit
    except BaseException:
        if visit.node.finished is None:
            running.close_step(visit.node, failed=True)
        raise
    finally:
        running.book.leave(visit)
        reporting.move(running, parent, back_from=visit.node)


class Book:
    """The checkpoints of one attempt: those that earlier attempts stored, and how this one goes through them.

    ``_lock`` protects the counts: threads of one task may reach checkpoints at once.

    :param stored: by key.
    :param save: ends a step and stores its value.
    :param confirm: asked before each: a process that slept must not begin what another attempt has finished meanwhile.
    :param max_bytes: the largest value, with the output of its step.
    """

    def __init__(self, stored: Mapping[str, Checkpoint], *, save: Save, confirm: Confirm, max_bytes: int) -> None:
        self.remarks: list[str] = []
        self.used = bool(stored)  # whether there are any to erase in the end
        self._stored = dict(stored)
        self._unused = set(stored)
        self._unused_paths = Counter(_path_of(made) for made in stored.values())  # so that no visit looks at them all
        self._save = save
        self._confirm = confirm
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._thread = threading.get_ident()  # the attempt's own: only there is an order to be kept
        self._counts: dict[str, int] = {}
        self._reached = 0
        self._open = 0
        self._side_by_side = False
        self._furthest = -1

    def visit(self, running: Running, parent: Node, name: str, arguments: Any) -> _Visit:
        """Open the step of a checkpoint; where its value is there already, close it again.

        :raises TaskCancelled: the task is to stop, or another attempt has taken over.
        """
        self._confirm(running)
        node = running.open_step(name, parent, details=None, weight=None)
        with self._lock:
            identity = json.dumps([node.path, _fingerprint(arguments)])
            count = self._counts[identity] = self._counts.get(identity, 0) + 1
            key = hashlib.sha256(f"{identity}{count}".encode()).hexdigest()[:32]
            self._reached += 1
            nested = _inside_another(parent)
            if not nested:
                self._open += 1
                self._side_by_side = self._side_by_side or self._open > 1
            alone = not nested and not self._side_by_side and threading.get_ident() == self._thread
            head = {"path": node.path, "place": self._reached, "alone": alone}
            found = self._stored.get(key)
            if found is not None:
                self._use(key, found)
                if alone:
                    self._compare_order(running, found)
            elif self._stored:
                self._compare_arguments(running, node)
        visit = _Visit(self, running, node, key, head, nested)
        if found is not None:
            visit.restore(found)
        return visit

    def leave(self, visit: _Visit) -> None:
        """A checkpoint's step is over."""
        if not visit.nested:
            with self._lock:
                self._open -= 1

    def keep(self, running: Running, node: Node, made: Checkpoint) -> None:
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
        self._save(running, node, made)

    def unreached(self, running: Running) -> None:
        """The attempt is at its end: say which stored values nobody asked for."""
        paths = {_path_of(made) for made in self._stored.values()}
        # Those inside one that was restored are not reached.
        top = {path for path in +self._unused_paths if not any(path[:n] in paths for n in range(1, len(path)))}
        names = sorted(" > ".join(path) for path in top)
        for name in names:
            self._remark(
                running,
                f"checkpoint {name!r} of an earlier attempt was not reached: "
                "the pipeline has changed, or what it was called with",
            )

    def _use(self, key: str, found: Checkpoint) -> None:
        if key in self._unused:
            self._unused.remove(key)
            self._unused_paths[_path_of(found)] -= 1

    def _compare_order(self, running: Running, found: Checkpoint) -> None:
        if not found.head["alone"]:
            return  # in threads any order is right
        place = found.head["place"]
        if place < self._furthest:
            name = found.head["path"][-1]
            self._remark(running, f"checkpoint {name!r} came earlier in the attempt that stored it: its value is used")
        self._furthest = max(self._furthest, place)

    def _compare_arguments(self, running: Running, node: Node) -> None:
        if self._unused_paths[tuple(node.path)] > 0:
            self._remark(
                running, f"checkpoint {node.name!r} has other arguments than in an earlier attempt: it runs again"
            )

    def _remark(self, running: Running, text: str) -> None:
        text = text_of(text)
        if len(self.remarks) < MAX_REMARKS and text not in self.remarks:
            self.remarks.append(text)
            log.warning("task %s, attempt %d: %s", running.request_id, running.attempt, text)


@dataclass(slots=True)
class _Visit:
    """One call of a checkpoint in an attempt: its open step, and its value once it is there."""

    book: Book
    running: Running
    node: Node
    key: str
    head: dict[str, Any]
    nested: bool
    value: Any = None
    restored: bool = False

    def __post_init__(self) -> None:
        self.node.kept = []

    def restore(self, found: Checkpoint) -> None:
        """Take an earlier attempt's value: its output is given out again, its step closed at once."""
        self.value, output = json.loads(found.body)
        self.restored = self.node.restored = True
        for chunk in output:
            self.running.emit(chunk, self.node)
        self.running.close_step(self.node, more={"restored": True})

    def keep(self, value: Any) -> Any:
        """Store the value, and give it back as a later attempt would get it."""
        text = _json(self.node.name, value)
        body = f"[{text},{json.dumps(self.node.kept)}]".encode("ascii")
        self.book.keep(self.running, self.node, Checkpoint(self.key, self.head, body))
        return json.loads(text)


def _inside_another(parent: Node) -> bool:
    """Whether a checkpoint's step is open around this one."""
    node: Node | None = parent
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
