"""The two clients, a blocking and an asynchronous one: the same operations, carried out by two drivers.

The operations are written once; both classes map their method names to them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .events import Outcome, TaskEvent
from .flows import operations
from .flows.ladder import Timing
from .flows.session import Headers, Mirror, Session
from .io.drivers import AwaitingDriver, BlockingDriver
from .methods import as_it_is, awaited, awaited_of_task, blocking, blocking_of_task
from .pending.records import Record
from .pending.registry import PendingRegistry, default_path


class _AnyTask:
    """What both kinds of task share: the key of a record, and what this machine knows of it."""

    def __init__(self, client: Any, record: Record) -> None:
        self.key = record.key
        """The Idempotency-Key of the request; for a task that was submitted elsewhere, its id."""
        self._session: Session = client._session
        self._driver = client._driver
        self._known = record

    @property
    def _record(self) -> Record:
        self._known = self._session.registry.get(self.key) or self._known
        return self._known

    @property
    def request_id(self) -> str | None:
        """The task's id; None until the server has accepted the request."""
        return self._record.request_id

    @property
    def status(self) -> str:
        """The last known status: the server's, or ``"queued"``, ``"rejected"`` or ``"gone"`` from the client itself."""
        return self._record.status

    @property
    def percentage(self) -> float:
        """The last known percentage."""
        return self._record.percentage

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.request_id or self.key}: {self.status}>"


class Task(_AnyTask):
    """One submission. Iterating yields each :class:`.TaskEvent` until it is over; leaving the loop cancels nothing."""

    wait = blocking_of_task(operations.wait)
    cancel = blocking_of_task(operations.cancel)
    retry = blocking_of_task(operations.retry)

    def events(self, *, timeout: float | None = None) -> Generator[TaskEvent, None, None]:
        """The task's events from now on, or from where an earlier consumer of this store left off, to its end.

        :raises WaitTimeout: the task did not end in time.
        :raises CredentialsRefused: the server answered 401.
        """
        events: Generator[TaskEvent, None, None] = self._driver.events(
            operations.events(self._session, [self.key], timeout=timeout)
        )
        return events

    def __iter__(self) -> Generator[TaskEvent, None, None]:
        return self.events()


class AsyncTask(_AnyTask):
    """One submission, for asyncio. ``async for`` yields each :class:`.TaskEvent` until it is over."""

    wait = awaited_of_task(operations.wait)
    cancel = awaited_of_task(operations.cancel)
    retry = awaited_of_task(operations.retry)

    def events(self, *, timeout: float | None = None) -> AsyncGenerator[TaskEvent, None]:
        """Like :meth:`Task.events`."""
        events: AsyncGenerator[TaskEvent, None] = self._driver.events(
            operations.events(self._session, [self.key], timeout=timeout)
        )
        return events

    def __aiter__(self) -> AsyncGenerator[TaskEvent, None]:
        return self.events()


class _AnyClient:
    def __init__(
        self,
        base_url: str,
        *,
        prefix: str = "/tasks",
        store: str | os.PathLike[str] | None = None,
        owner: str = "",
        headers: Headers | Callable[[], Any] | None = None,
        user_token: str | None = None,
        firestore: Mirror | None = None,
        on_outcome: Callable[[Outcome], Any] | None = None,
        timing: Timing | None = None,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        base_url = base_url.rstrip("/")
        if not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"base_url={base_url!r}: expected a URL that begins with http:// or https://")
        self._session = Session(
            registry=PendingRegistry(store or default_path(), server=base_url, owner=owner),
            prefix="/" + prefix.strip("/"),
            headers=headers or {},
            user_token=user_token,
            mirror=firestore,
            on_outcome=on_outcome,
            timing=timing or Timing(),
        )
        self._driver: Any = self._make_driver(base_url, http or {})

    @staticmethod
    def _make_driver(base_url: str, options: Mapping[str, Any]) -> Any:
        raise NotImplementedError


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name!r} is not installed: pip install 'flask-bgtasks[client]'") from error


def _keys(tasks: Sequence[_AnyTask]) -> list[str] | None:
    return [task.key for task in tasks] or None


def _tasks(client: Client, records: list[Record]) -> list[Task]:
    return [Task(client, record) for record in records]


def _async_tasks(client: AsyncClient, records: list[Record]) -> list[AsyncTask]:
    return [AsyncTask(client, record) for record in records]


class Client(_AnyClient):
    """Submits requests to one app and follows their tasks, across lost networks and restarts of this process.

    Can be used by several threads. As a context manager it closes what it has opened.

    :param base_url: the address of the app.
    :param prefix: the URL prefix of its blueprint.
    :param store: the file that remembers pending tasks, by default one of this user's; ``":memory:"`` for none.
    :param owner: whose tasks these are, if several users share one file: they do not see each other's.
    :param headers: sent with every request; a function is called for each request, and again after a 401.
    :param user_token: where the notification of a task goes: added to JSON objects that have none.
    :param firestore: a :class:`.FirestoreReader`, used while the backend is unreachable.
    :param on_outcome: called once with each :class:`.Outcome`, whichever process of this store learns of it. The
        outcome counts as reported only when it has returned: if it raises or its process dies, it is called again.
    :param http: options of :class:`httpx.Client`, for instance ``{"verify": …, "proxy": …}``.
    """

    submit = blocking(operations.submit, Task)
    follow = blocking(operations.follow, Task)
    pending = blocking(operations.pending, _tasks)
    check_pending = blocking(operations.check_pending, as_it_is)
    remove = blocking(operations.remove, as_it_is)

    _driver: BlockingDriver

    def events(self, *tasks: Task, timeout: float | None = None) -> Generator[TaskEvent, None, None]:
        """The events of these tasks until the last of them is over; without arguments, of all pending tasks.

        :raises WaitTimeout: they did not end in time.
        :raises CredentialsRefused: the server answered 401.
        """
        return self._driver.events(operations.events(self._session, _keys(tasks), timeout=timeout))

    def close(self) -> None:
        """Close connections and the file. What is pending stays pending."""
        self._driver.transport.shut()
        self._session.registry.close()

    @staticmethod
    def _make_driver(base_url: str, options: Mapping[str, Any]) -> BlockingDriver:
        with _extra():
            from .io.transport import BlockingTransport
        return BlockingDriver(BlockingTransport(base_url, options))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClient(_AnyClient):
    """Like :class:`Client`, with the same parameters, for asyncio: every method except ``events`` is awaited.

    ``headers`` and ``on_outcome`` may be coroutine functions. The file is read and written in threads.
    """

    submit = awaited(operations.submit, AsyncTask)
    follow = awaited(operations.follow, AsyncTask)
    pending = awaited(operations.pending, _async_tasks)
    check_pending = awaited(operations.check_pending, as_it_is)
    remove = awaited(operations.remove, as_it_is)

    _driver: AwaitingDriver

    def events(self, *tasks: AsyncTask, timeout: float | None = None) -> AsyncGenerator[TaskEvent, None]:
        """Like :meth:`Client.events`."""
        return self._driver.events(operations.events(self._session, _keys(tasks), timeout=timeout))

    async def aclose(self) -> None:
        """Close connections and the file. What is pending stays pending."""
        await self._driver.transport.shut()
        self._session.registry.close()

    @staticmethod
    def _make_driver(base_url: str, options: Mapping[str, Any]) -> AwaitingDriver:
        with _extra():
            from .io.transport import AwaitingTransport
        return AwaitingDriver(AwaitingTransport(base_url, options))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
