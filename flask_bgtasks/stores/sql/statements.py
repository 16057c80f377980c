"""The statements of the hot path: built with SQLAlchemy Core, compiled once per dialect, executed by the driver.

SQLAlchemy's own execution costs some 20 microseconds a statement (context, result, type processing) where the
driver takes two, and a no-op task is a dozen statements. The columns are plain, so nothing of that is needed: what is
compiled here is a text with named parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect

from ...core.model import PASSING
from ..base import PRIVATE
from ..conversions import CHECKPOINT
from .schema import deliveries, durations, events, payloads, tasks


def parameter(name: str) -> sa.BindParameter[Any]:
    """A named parameter."""
    return sa.bindparam(name)


STARTED: sa.ColumnClause[str] = sa.literal_column("'started'")
PROCESSING: sa.ColumnClause[str] = sa.literal_column("'processing'")
FAILED: sa.ColumnClause[str] = sa.literal_column("'failed'")
INPUT_PART: sa.ColumnClause[str] = sa.literal_column("'input'")
PRIVATE_PART: sa.ColumnClause[str] = sa.literal_column(f"'{PRIVATE}'")
ZERO: sa.ColumnClause[int] = sa.literal_column("0")
ONE: sa.ColumnClause[int] = sa.literal_column("1")
NO_REFUSAL = sa.or_(
    tasks.c.result_status.is_(None),
    sa.literal_column("result_status < 400 OR result_status >= 500"),
    tasks.c.result_status.in_([sa.literal_column(str(code)) for code in sorted(PASSING)]),
)
"""That a failed task is not :attr:`~flask_bgtasks.Task.rejected`."""
NOT_DEAD = deliveries.c.dead == ZERO
OWN = tasks.c.app == parameter("app")
OWN_DELIVERY = deliveries.c.app == parameter("app")
_NOT_LEASED: dict[str, Any] = {"worker": sa.null(), "leased_until": sa.null(), "lease": sa.null()}


def _held_delivery() -> tuple[sa.ColumnElement[bool], ...]:
    """The delivery of that id, if it is leased under that token."""
    return deliveries.c.id == parameter("key"), deliveries.c.lease == parameter("token")


def in_order(key: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """The rows of these conditions, locked by ascending key, so that no two transactions wait in a circle."""
    found = sa.select(key).where(*conditions).order_by(key).with_for_update()
    return key.in_(found.correlate(None))


def _number_of(name: str) -> sa.ScalarSelect[int]:
    """The number of the app's task whose id is in that parameter."""
    return sa.select(tasks.c.number).where(tasks.c.request_id == parameter(name), OWN).scalar_subquery()


def _checkpoint_parts() -> tuple[sa.ColumnElement[bool], ...]:
    """The names that begin with :data:`CHECKPOINT`, as a range of the primary key."""
    after = CHECKPOINT[:-1] + chr(ord(CHECKPOINT[-1]) + 1)
    return payloads.c.part >= sa.literal_column(f"'{CHECKPOINT}'"), payloads.c.part < sa.literal_column(f"'{after}'")


BuildUpdate = Callable[[dict[str, sa.BindParameter[Any]]], sa.Executable]


def _by_number(values: dict[str, sa.BindParameter[Any]]) -> sa.Executable:
    return tasks.update().where(tasks.c.number == parameter("task")).values(values)


def _if_known(values: dict[str, sa.BindParameter[Any]]) -> sa.Executable:
    same = (
        tasks.c.request_id == parameter("id"),
        OWN,
        tasks.c.seq == parameter("last_seq"),
        tasks.c.attempt == parameter("running"),
        tasks.c.status == PROCESSING,
        tasks.c.worker.is_not(None),
    )
    return tasks.update().where(*same).values(values).returning(tasks.c.number)


class Statements:
    """The compiled statements of one dialect, each a text. What finds rows takes the app as the parameter ``app``."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._updates: dict[tuple[BuildUpdate, tuple[str, ...]], str] = {}

    def text(self, statement: sa.Executable) -> str:
        """A statement as the driver takes it."""
        return str(statement.compile(dialect=self._dialect))  # type: ignore[attr-defined]

    @functools.lru_cache(maxsize=64)  # noqa: B019 - lives as long as the store does
    def known(self, build: Callable[..., sa.Executable], *arguments: Hashable) -> tuple[str, dict[str, Any]]:
        """A statement that is built from arguments, compiled once for each set of them that occurs."""
        return self.cold(build(*arguments))

    def cold(self, statement: sa.Executable) -> tuple[str, dict[str, Any]]:
        """A statement that differs from call to call, with the values that were written into it."""
        compiled = statement.compile(  # type: ignore[attr-defined]
            dialect=self._dialect, compile_kwargs={"render_postcompile": True}
        )
        return str(compiled), dict(compiled.params)

    @functools.cached_property
    def insert_task(self) -> str:
        """Gives the task's number back."""
        from .rows import TASK_FIELDS

        values = {name: parameter(name) for name in TASK_FIELDS}
        return self.text(tasks.insert().values(values).returning(tasks.c.number))

    @functools.cached_property
    def select_task(self) -> str:
        return self.text(sa.select(tasks).where(tasks.c.request_id == parameter("id"), OWN))

    @functools.cached_property
    def select_task_to_change(self) -> str:
        return self.text(sa.select(tasks).where(tasks.c.request_id == parameter("id"), OWN).with_for_update())

    @functools.cached_property
    def select_by_scope(self) -> str:
        return self.text(sa.select(tasks).where(tasks.c.idempotency_scope == parameter("scope"), OWN))

    def update_task(self, columns: tuple[str, ...]) -> str:
        """Set these columns."""
        return self._update(_by_number, columns)

    def update_known_task(self, columns: tuple[str, ...]) -> str:
        """Set these columns if an attempt runs and nothing has happened since; gives the task's number back."""
        return self._update(_if_known, columns)

    def _update(self, build: BuildUpdate, columns: tuple[str, ...]) -> str:
        """Compiled once for each set of columns that occurs."""
        text = self._updates.get((build, columns))
        if text is None:
            text = self._updates[build, columns] = self.text(build({name: parameter(name) for name in columns}))
        return text

    @functools.cached_property
    def count_waiting(self) -> str:
        """How many wait, counted no further than ``limit``."""
        waiting = sa.select(ONE).select_from(tasks).where(tasks.c.status == STARTED, OWN)
        return self.text(
            sa.select(sa.func.count()).select_from(waiting.limit(parameter("limit")).offset(ZERO).subquery())
        )

    @functools.cached_property
    def count_waiting_of_owner(self) -> str:
        return self._count_waiting(tasks.c.owner == parameter("owner"))

    @functools.cached_property
    def count_waiting_anonymous(self) -> str:
        return self._count_waiting(tasks.c.owner.is_(None))

    def _count_waiting(self, whose: sa.ColumnElement[bool]) -> str:
        waiting = sa.select(ONE).select_from(tasks).where(tasks.c.status == STARTED, OWN, whose)
        return self.text(
            sa.select(sa.func.count()).select_from(waiting.limit(parameter("limit")).offset(ZERO).subquery())
        )

    @functools.cached_property
    def insert_payload(self) -> str:
        return self.text(payloads.insert())

    @functools.cached_property
    def select_payload(self) -> str:
        return self.text(
            sa.select(payloads.c.head, payloads.c.body).where(
                payloads.c.task == _number_of("id"), payloads.c.part == parameter("part")
            )
        )

    @functools.cached_property
    def select_input(self) -> str:
        """The parts that a task is run with."""
        return self.text(
            sa.select(payloads.c.part, payloads.c.body).where(
                payloads.c.task == _number_of("id"), payloads.c.part.in_([INPUT_PART, PRIVATE_PART])
            )
        )

    @functools.cached_property
    def replace_payload(self) -> str:
        """Changes a part that is there already."""
        return self.text(
            payloads.update()
            .where(payloads.c.task == parameter("number"), payloads.c.part == parameter("kind"))
            .values(head=parameter("top"), body=parameter("content"))
        )

    @functools.cached_property
    def select_checkpoints(self) -> str:
        return self.text(
            sa.select(payloads.c.part, payloads.c.head, payloads.c.body).where(
                payloads.c.task == _number_of("id"), *_checkpoint_parts()
            )
        )

    @functools.cached_property
    def delete_checkpoints(self) -> str:
        return self.text(payloads.delete().where(payloads.c.task == parameter("number"), *_checkpoint_parts()))

    @functools.cached_property
    def delete_payload(self) -> str:
        return self.text(
            payloads.delete().where(payloads.c.task == parameter("number"), payloads.c.part == parameter("kind"))
        )

    @functools.cached_property
    def insert_event(self) -> str:
        return self.text(events.insert())

    @functools.cached_property
    def select_events(self) -> str:
        columns = (events.c.seq, events.c.type, events.c.at, events.c.attempt, events.c.data)
        return self.text(
            sa.select(*columns)
            .where(events.c.task == _number_of("id"), events.c.seq > parameter("after"))
            .order_by(events.c.seq)
            .limit(parameter("limit"))
            .offset(ZERO)
        )

    @functools.cached_property
    def trim_events(self) -> str:
        return self.text(
            events.delete().where(events.c.task == parameter("number"), events.c.seq <= parameter("until"))
        )

    @functools.cached_property
    def select_over(self) -> str:
        """Tasks of all apps that expired as long ago as they were kept before, locked to be erased."""
        over = tasks.c.expire_at + tasks.c.expires_after
        return self.text(
            sa.select(tasks.c.number, tasks.c.request_id)
            .where(tasks.c.expire_at.is_not(None), over <= parameter("now"))
            .order_by(over)
            .limit(parameter("limit"))
            .offset(ZERO)
            .with_for_update(skip_locked=True)
        )

    @functools.cached_property
    def insert_delivery(self) -> str:
        names = (
            "app",
            "sink",
            "kind",
            "request_id",
            "seq",
            "payload",
            "tries",
            "created_at",
            "due_at",
            "dead",
            "channel",
        )
        return self.text(deliveries.insert().inline().values({name: parameter(name) for name in names}))

    @functools.cached_property
    def select_due(self) -> str:
        """What is due for a sink: of each task and channel the oldest only."""
        from .rows import DELIVERY_FIELDS

        older = deliveries.alias("older")
        waits = sa.exists().where(
            older.c.request_id == deliveries.c.request_id,
            older.c.sink == deliveries.c.sink,
            older.c.channel == deliveries.c.channel,
            older.c.dead == ZERO,
            older.c.id < deliveries.c.id,
        )
        return self.text(
            sa.select(*(deliveries.c[name] for name in DELIVERY_FIELDS))
            .where(
                OWN_DELIVERY,
                deliveries.c.sink == parameter("sink"),
                NOT_DEAD,
                deliveries.c.due_at <= parameter("now"),
                deliveries.c.worker.is_(None),
                ~waits,
            )
            .order_by(deliveries.c.due_at, deliveries.c.id)
            .limit(parameter("limit"))
            .offset(ZERO)
            .with_for_update(skip_locked=True, of=deliveries)
        )

    @functools.cached_property
    def lease_delivery(self) -> str:
        return self.text(
            deliveries.update()
            .where(deliveries.c.id == parameter("key"))
            .values(worker=parameter("by"), leased_until=parameter("until"), lease=parameter("token"))
        )

    @functools.cached_property
    def renew_delivery(self) -> str:
        return self.text(deliveries.update().where(*_held_delivery()).values(leased_until=parameter("until")))

    @functools.cached_property
    def select_delivery_leases(self) -> str:
        leased = (OWN_DELIVERY, deliveries.c.worker.is_not(None), deliveries.c.sink == parameter("sink"))
        return self.text(
            sa.select(deliveries.c.id, deliveries.c.lease, deliveries.c.leased_until)
            .where(*leased)
            .order_by(deliveries.c.leased_until)
            .limit(parameter("limit"))
            .offset(ZERO)
        )

    @functools.cached_property
    def end_delivery_lease(self) -> str:
        """End a lease that is as it was seen. A process of layout 5 leaves none of our tokens."""
        seen = (
            deliveries.c.id == parameter("key"),
            deliveries.c.worker.is_not(None),
            deliveries.c.lease.is_not_distinct_from(parameter("token")),
            deliveries.c.leased_until == parameter("until"),
        )
        return self.text(deliveries.update().where(*seen).values(_NOT_LEASED))

    @functools.cached_property
    def delete_delivery(self) -> str:
        return self.text(deliveries.delete().where(*_held_delivery()))

    @functools.cached_property
    def retry_delivery(self) -> str:
        return self.text(
            deliveries.update()
            .where(*_held_delivery())
            .values(
                tries=deliveries.c.tries + parameter("tried"),
                due_at=parameter("due"),
                dead=parameter("is_dead"),
                error=sa.func.coalesce(parameter("why"), deliveries.c.error),
                **_NOT_LEASED,
            )
        )

    @functools.cached_property
    def count_running(self) -> str:
        return self.text(
            sa.select(sa.func.count())
            .select_from(tasks)
            .where(
                tasks.c.status == PROCESSING,
                OWN,
                tasks.c.lease_until > parameter("now"),
                tasks.c.name == parameter("name"),
                tasks.c.worker.is_not(None),
                tasks.c.request_id != parameter("besides"),
            )
        )

    @functools.cached_property
    def select_next_due(self) -> str:
        later = (tasks.c.status == PROCESSING, OWN, tasks.c.lease_until > parameter("now"))
        return self.text(sa.select(sa.func.min(tasks.c.lease_until)).where(*later))

    @functools.cached_property
    def select_workers(self) -> str:
        running = sa.select(tasks.c.worker).where(
            tasks.c.status == PROCESSING, OWN, tasks.c.lease_until > parameter("now"), tasks.c.worker.is_not(None)
        )
        delivering = sa.select(deliveries.c.worker).where(OWN_DELIVERY, deliveries.c.worker.is_not(None))
        return self.text(sa.union(running, delivering))

    @functools.cached_property
    def expire_leases(self) -> str:
        held = (
            tasks.c.status == PROCESSING,
            OWN,
            tasks.c.lease_until > parameter("until"),
            tasks.c.worker == parameter("who"),
        )
        return self.text(tasks.update().where(in_order(tasks.c.number, *held)).values(lease_until=parameter("until")))

    @functools.cached_property
    def free_deliveries(self) -> str:
        leased = (OWN_DELIVERY, deliveries.c.worker == parameter("who"))
        return self.text(deliveries.update().where(in_order(deliveries.c.id, *leased)).values(_NOT_LEASED))

    @functools.cached_property
    def select_durations(self) -> str:
        columns = (durations.c.step, durations.c.runs, durations.c.seconds, durations.c.position)
        return self.text(
            sa.select(*columns)
            .where(durations.c.app == parameter("app"), durations.c.name == parameter("task"))
            .order_by(durations.c.position)
        )

    @functools.cached_property
    def select_learnt_names(self) -> str:
        learnt = sa.select(durations.c.name, sa.func.max(durations.c.runs))
        return self.text(learnt.where(durations.c.app == parameter("app")).group_by(durations.c.name))

    @functools.cached_property
    def delete_duration(self) -> str:
        return self.text(
            durations.delete().where(
                durations.c.app == parameter("owning_app"),
                durations.c.name == parameter("task"),
                durations.c.step == parameter("key"),
            )
        )

    @functools.cached_property
    def delete_durations(self) -> str:
        return self.text(
            durations.delete().where(durations.c.app == parameter("owning_app"), durations.c.name == parameter("task"))
        )

    @functools.cached_property
    def insert_duration(self) -> str:
        return self.text(durations.insert())

    @functools.cached_property
    def update_duration(self) -> str:
        return self.text(
            durations.update()
            .where(
                durations.c.app == parameter("owning_app"),
                durations.c.name == parameter("task"),
                durations.c.step == parameter("key"),
            )
            .values(runs=parameter("count"), seconds=parameter("mean"))
        )
