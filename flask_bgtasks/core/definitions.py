"""What a developer declares about a task: its options; and what a registry of tasks can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, TypedDict, Union

from ..errors import ConfigurationError
from ..wording import counted
from .backoff import Backoff
from .model import HIGHEST_PRIORITY, TaskKind
from .notifications import Notify, checked
from .steps import Expected, as_weight
from .text.clean import identity, text_of

Respond = Literal["async", "prefer", "hold"]
RESPONDS = ("async", "prefer", "hold")

DEFAULT_BACKOFF = Backoff()

RetryOn = Union["type[Exception]", "tuple[type[Exception], ...]"]

Steps = Sequence[Union[str, "tuple[str, float]"]]


class TrackedOptions(TypedDict, total=False):
    """The options of code that runs where it stands, see :class:`TaskOptions`."""

    steps: Steps
    total_steps: int | None
    notify: Notify
    expires_after: timedelta | float | None


class FunctionOptions(TrackedOptions, total=False):
    """The options of a function, see :class:`TaskOptions`."""

    name: str | None
    retries: int
    retry_on: RetryOn
    backoff: float | Backoff
    max_attempts: int
    timeout: float | None
    on_interrupt: Literal["retry", "fail"]
    max_concurrency: int | None
    priority: int
    queue: str


class ViewOptions(FunctionOptions, total=False):
    """The options of a view, see :class:`TaskOptions`: all that there are."""

    respond: Respond
    validate: Callable[..., Any] | None
    guards: Sequence[Callable[..., Any]]


def require_known(options: Mapping[str, Any], known: type[TrackedOptions], *, who: str, why: str) -> None:
    """Refuse options that are there, but for something else. What there is not at all :class:`TaskOptions` refuses.

    :param known: those of ``who``. :param why: it takes no others, for the error. :raises TypeError: one is given.
    """
    for option in options:
        if option not in known.__annotations__ and option in ViewOptions.__annotations__:
            raise TypeError(f"{who} takes no {option}=: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options of a task. They are checked where they are declared: a wrong one fails at import.

    :param name: the task's name in documents, statistics and its history of durations; unique in the app.
    :param respond: how a wrapped view answers: ``"async"`` (`202` at once), ``"prefer"`` (the view's own answer unless
        the client prefers otherwise) or ``"hold"`` (never `202`).
    :param validate: called in the request before anything is stored; aborts or returns a response to refuse it.
    :param guards: decorators whose wrappers only judge the request (``login_required``), outermost first. They run in
        the request, before anything is stored.
    :param steps: the names of the top-level steps in order, or ``(name, weight)`` pairs.
    :param total_steps: how many top-level steps there are, if their names are not known.
    :param notify: the notification when the task ends; see :data:`~flask_bgtasks.core.notifications.Notify`.
    :param retries: how many more attempts may follow attempts that failed.
    :param retry_on: the exceptions that are retried. By default all, except HTTP errors that the client has to fix (4xx
        other than 408, 425 and 429).
    :param backoff: upper limit of the first wait, in seconds (it doubles each time; each wait is drawn at random below
        it), or a :class:`Backoff`. A ``Retry-After`` in an exception or answer wins over it.
    :param max_attempts: how many attempts may lose their process (a crash, ``kill -9``) before the task counts as the
        cause and fails. Only attempts since the last checkpoint count, in which nothing else ran in that process.
    :param timeout: seconds that one attempt may take; after that its next report raises, and the attempt fails.
    :param on_interrupt: what happens to a task whose process died: ``"retry"`` runs it again from its last checkpoint,
        ``"fail"`` ends it as failed.
    :param max_concurrency: how many tasks of this name may run at once, over all processes.
    :param priority: higher ones run first, -1000 to 1000; a step counts as ten minutes of waiting.
    :param expires_after: seconds or a timedelta to keep a finished task; None for ``BGTASKS_EXPIRES_AFTER``.
    :param queue: a name for runners that serve several queues.
    """

    name: str | None = None
    respond: Respond = "async"
    validate: Callable[..., Any] | None = None
    guards: Sequence[Callable[..., Any]] = ()
    steps: Steps = ()
    total_steps: int | None = None
    notify: Notify = None
    retries: int = 0
    retry_on: RetryOn = Exception
    backoff: float | Backoff = DEFAULT_BACKOFF
    max_attempts: int = 3
    timeout: float | None = None
    on_interrupt: Literal["retry", "fail"] = "retry"
    max_concurrency: int | None = None
    priority: int = 0
    expires_after: timedelta | float | None = None
    queue: str = "default"

    def __post_init__(self) -> None:
        label = f"task {self.name!r}" if self.name else "this task"
        if self.respond not in RESPONDS:
            raise ConfigurationError(f"{label}: respond={self.respond!r}; expected one of {', '.join(RESPONDS)}")
        if self.validate is not None and not callable(self.validate):
            raise ConfigurationError(f"{label}: validate={self.validate!r} cannot be called; give a function")
        self._check_guards(label)
        try:
            checked(self.notify)
        except ConfigurationError as error:
            raise ConfigurationError(f"{label}: {error}") from None
        if isinstance(self.steps, str):
            raise ConfigurationError(f"{label}: steps={self.steps!r}; expected a list of names, e.g. ['Outline']")
        steps = self.expected_steps(label)
        if self.total_steps is not None:
            if isinstance(self.total_steps, bool) or not isinstance(self.total_steps, int) or self.total_steps < 1:
                raise ConfigurationError(f"{label}: total_steps={self.total_steps!r}; expected a whole number from 1")
            if steps and len(steps) != self.total_steps:
                named = f"steps= names {counted(len(steps), 'step')}"
                raise ConfigurationError(f"{label}: {named}, but total_steps={self.total_steps}; drop total_steps")
        if not _is_whole(self.priority, -HIGHEST_PRIORITY, HIGHEST_PRIORITY):
            raise ConfigurationError(
                f"{label}: priority={self.priority!r}; expected a whole number from -{HIGHEST_PRIORITY} to "
                f"{HIGHEST_PRIORITY}, higher runs first"
            )
        self._check_attempts(label)
        seconds = self._expires_seconds()
        if seconds is not None and not (isinstance(seconds, (int, float)) and 1 <= seconds < 1e11):
            raise ConfigurationError(
                f"{label}: expires_after={self.expires_after!r}; expected seconds (at least 1) or a timedelta"
            )
        if not isinstance(self.queue, str) or not self.queue:
            raise ConfigurationError(f"{label}: queue={self.queue!r}; expected a name")

    def _check_guards(self, label: str) -> None:
        if callable(self.guards) or not isinstance(self.guards, Sequence):
            raise ConfigurationError(
                f"{label}: guards={self.guards!r}; expected a list of decorators, e.g. [login_required]"
            )
        for guard in self.guards:
            if not callable(guard):
                raise ConfigurationError(f"{label}: guards: {guard!r} cannot be called; give the decorators themselves")

    def _check_attempts(self, label: str) -> None:
        for name, minimum in (("retries", 0), ("max_attempts", 1), ("max_concurrency", 1)):
            value = getattr(self, name)
            if not _is_whole(value, minimum) and not (value is None and name == "max_concurrency"):
                raise ConfigurationError(f"{label}: {name}={value!r}; expected a whole number from {minimum}")
        classes = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not classes or not all(isinstance(one, type) and issubclass(one, Exception) for one in classes):
            raise ConfigurationError(
                f"{label}: retry_on={self.retry_on!r}; expected an exception class or a tuple of them"
            )
        if not isinstance(self.backoff, Backoff):
            try:
                Backoff(self.backoff)
            except ValueError:
                raise ConfigurationError(
                    f"{label}: backoff={self.backoff!r}; expected seconds or a Backoff(first=…, longest=…)"
                ) from None
        if self.timeout is not None and not (
            isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool) and 0 < self.timeout < 1e9
        ):
            raise ConfigurationError(f"{label}: timeout={self.timeout!r}; expected seconds above 0, or None")
        if self.on_interrupt not in ("retry", "fail"):
            raise ConfigurationError(f"{label}: on_interrupt={self.on_interrupt!r}; expected 'retry' or 'fail'")

    @property
    def waits(self) -> Backoff:
        """The waits between attempts that failed."""
        return self.backoff if isinstance(self.backoff, Backoff) else Backoff(self.backoff)

    def _expires_seconds(self) -> Any:
        value = self.expires_after
        return value.total_seconds() if isinstance(value, timedelta) else value

    def expected_steps(self, label: str = "this task") -> tuple[Expected, ...]:
        """The declared steps, names and weights. :raises ConfigurationError: what is not a step."""
        made = []
        for item in self.steps:
            name, weight = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
            if not isinstance(name, str) or not name:
                raise ConfigurationError(f"{label}: {item!r} is not a step; expected a name or (name, weight)")
            try:
                made.append(Expected(text_of(name), None if weight is None else as_weight(weight)))
            except ValueError as error:
                raise ConfigurationError(f"{label}: step {name!r} has weight {weight!r:.80}; {error}") from None
        return tuple(made)

    def lifetime(self, default: timedelta) -> timedelta:
        """How long a finished task is kept."""
        seconds = self._expires_seconds()
        return default if seconds is None else timedelta(seconds=seconds)


def _is_whole(value: Any, minimum: int, maximum: int | None = None) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and value >= minimum and (maximum is None or value <= maximum)


@dataclass(frozen=True, eq=False)  # told apart by identity; without slots, so that it can be referenced weakly
class TaskDefinition:
    """One kind of task: a name, what is called, and its options. ``expected`` are the declared steps."""

    name: str
    kind: TaskKind
    function: Callable[..., Any] | None
    options: TaskOptions
    expected: tuple[Expected, ...] = ()
    endpoint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", identity(self.name))  # frozen; a name that is made at run time may be any text

    @property
    def place(self) -> str:
        """Where the function stands, for error messages."""
        if self.function is None:
            return f"endpoint {self.endpoint!r}"
        module = getattr(self.function, "__module__", None)
        return f"{module}.{getattr(self.function, '__qualname__', repr(self.function))}"

    @property
    def in_function(self) -> bool:
        """Whether it was declared inside a function: each call of that makes another one, in an app factory say."""
        return self.function is not None and "<locals>" in self.place


def clash(one: TaskDefinition, other: TaskDefinition) -> ConfigurationError:
    """The error about two functions of one name in one app."""
    if one.place == other.place:
        return ConfigurationError(
            f"two tasks of one app are called {one.name!r}: {one.place} was declared twice, and both are used. "
            "Give each its own name="
        )
    return ConfigurationError(
        f"two tasks are called {one.name!r}: {one.place} and {other.place}. Give one of them another name="
    )


class TaskRegistry(Protocol):
    """The tasks of one app, by name, as those who run them see it."""

    @property
    def most_running(self) -> Mapping[str, int]:
        """How many tasks of a name may run at once, where there is a limit."""

    def __getitem__(self, name: str) -> TaskDefinition:
        """The task of that name. :raises LookupError: this process does not know it, or cannot tell which it is."""

    def find(self, name: str) -> TaskDefinition | None:
        """The task of that name, None where this process does not know it."""
