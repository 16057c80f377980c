"""What the SQL store asks of a database: transactions to write in, connections to read from, and its time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.engine.interfaces import Dialect

from ....core.transitions.transition import Durability
from ...tables import Layout, Tables
from . import layouts
from .layouts import LayoutWatch

T = TypeVar("T")

Parameters = Mapping[str, Any]


class Connection(ABC):
    """A driver's connection in use by one operation. Counts its writes."""

    writes = 0

    @abstractmethod
    def execute(self, sql: str, parameters: Parameters = {}) -> Any:  # noqa: B006 - never changed
        """Execute a statement; a cursor."""

    @abstractmethod
    def write(self, sql: str, parameters: Parameters) -> None:
        """Execute a statement that changes rows. If it fails, a later statement or the end may say so."""

    @abstractmethod
    def write_counted(self, sql: str, parameters: Parameters) -> int:
        """Execute a statement that changes rows; how many it changed."""

    @abstractmethod
    def write_one(self, sql: str, parameters: Parameters) -> int:
        """Execute a statement that changes one row and returns one number of it."""

    @abstractmethod
    def write_if(self, sql: str, parameters: Parameters) -> int | None:
        """Execute a statement that changes one row and returns one number of it, or finds none; None then."""

    @abstractmethod
    def write_many(self, sql: str, parameters: Sequence[Parameters]) -> None:
        """Execute a statement for each set of parameters."""

    @abstractmethod
    def lock(self, name: str) -> None:
        """Hold this name until the transaction ends: no other transaction that asks for it goes on before."""

    def ask_now(self) -> None:  # noqa: B027 - only where it is a question to a server
        """Have :meth:`now` answered together with what was executed last, and not before that."""

    @abstractmethod
    def now(self) -> datetime:
        """The database's time, the same throughout a transaction."""


Operation = Callable[[Connection], T]


class Database(Tables, ABC):
    """One database. Opens connections on first need, and forgets them in a child of fork."""

    dialect: Dialect

    layout_watch: LayoutWatch
    """Asked before each operation whether the tables have to be looked at first."""

    on_open: Operation[Any] = staticmethod(lambda connection: None)
    """Run in the transaction that makes the tables: before anything else, once in each process."""

    auto_upgrade: bool = True
    """Whether whoever opens the database makes its tables and upgrades them; else only :meth:`upgrade` does."""

    begin: tuple[str, ...]
    """Begins a transaction in which no other process makes or upgrades tables."""

    durable: frozenset[Durability]
    """The changes whose transactions have to be on the disk when :meth:`write` returns."""

    @abstractmethod
    def now(self) -> datetime:
        """The database's time, without asking it where that can be avoided: reports of progress carry it.

        :raises StoreUnavailable: it has to be asked for, and the database is unreachable.
        """

    @abstractmethod
    def write(self, operation: Operation[T], *, durable: bool, soon: bool = False) -> T:
        """Run an operation in a transaction. It may be run again, so it must change nothing but the database.

        :param durable: whether its effects must survive a power cut when this returns; else a killed process.
        :param soon: whether they must survive one when :meth:`sync` returns, where they need not yet.
        :raises StoreUnavailable: locked, full, or unreachable; nothing was changed.
        :raises OutcomeUnknown: it failed when the operation was done; it may have been made to last.
        """

    @abstractmethod
    def read(self, operation: Operation[T]) -> T:
        """Run an operation that only reads. :raises StoreUnavailable: unreachable."""

    def sync(self) -> None:  # PostgreSQL's WAL writer does that within 0.6 s (its manual, 28.4)
        """Bring to disk what was written to be there soon.

        :raises StoreUnavailable: it cannot be brought there.
        """

    def check(self) -> None:  # PostgreSQL's own outages show in every read
        """Look whether it can be written too, as far as that costs next to nothing.

        :raises StoreUnavailable: it cannot.
        """

    @abstractmethod
    def change_token(self) -> Hashable | None:
        """See :meth:`flask_bgtasks.stores.protocols.change_feed.ChangeFeed.change_token`."""

    @abstractmethod
    def layout(self) -> Layout: ...

    @abstractmethod
    def upgrade(self) -> Layout: ...

    def statements(self) -> Sequence[str]:
        found = self.layout()
        layouts.check(found)
        if found.usable:
            return ()
        return (*self.begin, *layouts.statements(found.found, self.dialect), "COMMIT")

    @abstractmethod
    def close(self) -> None:
        """Close connections; the next call opens them again."""
