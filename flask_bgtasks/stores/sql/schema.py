"""The tables, once, for every database: SQLAlchemy Core describes them, and :mod:`.drivers.layouts` makes them.

Every column is a plain number, text or bytes: times are microseconds since the epoch in UTC, structures are JSON texts.
So no row needs SQLAlchemy's type processing, and the same rows read the same everywhere.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

VERSION = 7
"""Of this layout. `docs/howto/upgrade.md` has the table of all of them."""

OLDEST = 7
"""The oldest layout whose processes can go on using tables of this one, while a rolling deploy replaces them. Kept in
the database: an older process finds it there. A layout that only adds columns with a default, tables and indexes leaves
it as it is; one after which an older process would fail, or write what is wrong, sets it to its own number."""


def _with_app(table: str, app: str, columns: tuple[str, ...], key: str) -> tuple[str, ...]:
    """Statements that make a table of these columns anew, with the app in its primary key: no ALTER TABLE can."""
    names = ", ".join(column.split()[0] for column in columns)
    return (
        f"ALTER TABLE {table} RENAME TO {table}_before",
        f"CREATE TABLE {table} ({app} TEXT NOT NULL DEFAULT '', {', '.join(columns)}, PRIMARY KEY ({app}, {key}))",
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {table}_before",
        f"DROP TABLE {table}_before",
    )


UPGRADES: dict[int, tuple[str, ...]] = {
    2: (
        "ALTER TABLE bgtasks_tasks ADD COLUMN place BIGINT",
        "ALTER TABLE bgtasks_tasks ADD COLUMN max_attempts INTEGER NOT NULL DEFAULT 3",
        "ALTER TABLE bgtasks_tasks ADD COLUMN on_interrupt TEXT NOT NULL DEFAULT 'retry'",
        "ALTER TABLE bgtasks_tasks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE bgtasks_tasks ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0",
        "UPDATE bgtasks_tasks SET place = created_at",
        "DROP INDEX bgtasks_tasks_leases",
        "DROP INDEX bgtasks_tasks_expire",
    ),
    3: (
        "ALTER TABLE bgtasks_tasks ADD COLUMN told_at BIGINT",
        "ALTER TABLE bgtasks_tasks ADD COLUMN muted_at BIGINT",
        "ALTER TABLE bgtasks_deliveries ADD COLUMN channel TEXT NOT NULL DEFAULT ''",
        "DROP INDEX bgtasks_deliveries_owed",
        "DROP INDEX bgtasks_deliveries_task",
    ),
    4: ("ALTER TABLE bgtasks_tasks ADD COLUMN token_note TEXT",),
    5: (
        "ALTER TABLE bgtasks_tasks ADD COLUMN app TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE bgtasks_deliveries ADD COLUMN app TEXT NOT NULL DEFAULT ''",
        *(
            f"DROP INDEX IF EXISTS bgtasks_{name}"
            for name in (
                "tasks_waiting",
                "tasks_queue",
                "tasks_leases",
                "tasks_scope",
                "tasks_failed",
                "tasks_newest",
                "deliveries_owed",
                "deliveries_dead",
                "deliveries_leased",
            )
        ),
        *_with_app(
            "bgtasks_durations",
            "app",
            (
                "name TEXT NOT NULL",
                "step TEXT NOT NULL",
                "position INTEGER NOT NULL",
                "runs INTEGER NOT NULL",
                "seconds FLOAT NOT NULL",
            ),
            "name, step",
        ),
        *_with_app(
            "bgtasks_devices",
            "app_id",
            (
                "id VARCHAR(32) NOT NULL",
                "kind TEXT NOT NULL",
                "value TEXT NOT NULL",
                "owner TEXT",
                "platform TEXT",
                "app TEXT",
                "lang TEXT",
                "request_id VARCHAR(36)",
                "details TEXT NOT NULL",
                "created_at BIGINT NOT NULL",
                "seen_at BIGINT NOT NULL",
                "installation TEXT",
            ),
            "id",
        ),
        *_with_app("bgtasks_preferences", "app", ("owner TEXT NOT NULL", "document TEXT NOT NULL"), "owner"),
        *_with_app("bgtasks_marks", "app", ("key TEXT NOT NULL", "until BIGINT NOT NULL"), "key"),
    ),
    6: ("ALTER TABLE bgtasks_deliveries ADD COLUMN lease BIGINT",),
    7: ("ALTER TABLE bgtasks_tasks ADD COLUMN suspicions INTEGER NOT NULL DEFAULT 0",),
}
"""What makes the layout before into this one. The order of a table's columns is never relied on.

Rows from before layout 5 have no app: the first that opens the database adopts them (:mod:`.apps`)."""

_DELIVERIES_6 = (
    "id, sink, kind, request_id, seq, payload, tries, created_at, due_at, dead, error, worker, leased_until, "
    "channel, app, lease"
)

SQLITE_UPGRADES: dict[int, tuple[str, ...]] = {
    6: (  # no ALTER TABLE can add AUTOINCREMENT
        "ALTER TABLE bgtasks_deliveries RENAME TO bgtasks_deliveries_before",
        "CREATE TABLE bgtasks_deliveries (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, "
        "kind TEXT NOT NULL, request_id VARCHAR(36), seq INTEGER NOT NULL, payload TEXT, tries INTEGER NOT NULL, "
        "created_at BIGINT NOT NULL, due_at BIGINT NOT NULL, dead INTEGER NOT NULL, error TEXT, worker TEXT, "
        "leased_until BIGINT, channel TEXT DEFAULT '' NOT NULL, app TEXT DEFAULT '' NOT NULL, lease BIGINT)",
        f"INSERT INTO bgtasks_deliveries ({_DELIVERIES_6}) SELECT {_DELIVERIES_6} FROM bgtasks_deliveries_before",
        "DROP TABLE bgtasks_deliveries_before",
    ),
}
"""What SQLite needs besides, after it."""


def upgrade(version: int, dialect: str) -> tuple[str, ...]:
    """The statements that make the layout before into this one, in a database of that dialect."""
    return UPGRADES[version] + (SQLITE_UPGRADES.get(version, ()) if dialect == "sqlite" else ())


metadata = sa.MetaData()

Id = sa.String(36)
Micros = sa.BigInteger
Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""A task's number: what its history and payloads are kept under. Counting up, it puts what belongs to recent tasks side
by side, so that a commit writes a few pages that it shares with others; random ids would dirty a page each."""

tasks = sa.Table(
    "bgtasks_tasks",
    metadata,
    sa.Column("request_id", Id, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("created_at", Micros, nullable=False),
    sa.Column("updated_at", Micros, nullable=False),
    sa.Column("expires_after", Micros, nullable=False),
    sa.Column("app", sa.Text, nullable=False, server_default=""),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("place", Micros),
    sa.Column("max_attempts", sa.Integer, nullable=False, server_default="3"),
    sa.Column("on_interrupt", sa.Text, nullable=False, server_default="retry"),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
    sa.Column("suspicions", sa.Integer, nullable=False, server_default="0"),
    sa.Column("progress", sa.Text),
    sa.Column("started_at", Micros),
    sa.Column("completed_at", Micros),
    sa.Column("expire_at", Micros),
    sa.Column("error_message", sa.Text),
    sa.Column("error_type", sa.Text),
    sa.Column("result_status", sa.Integer),
    sa.Column("result_type", sa.Text),
    sa.Column("result_size", sa.BigInteger),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", Micros),
    sa.Column("cancel_requested_at", Micros),
    sa.Column("seen_at", Micros),
    sa.Column("seen_via", sa.Text),
    sa.Column("told_at", Micros),
    sa.Column("muted_at", Micros),
    sa.Column("user_token", sa.Text),
    sa.Column("token_note", sa.Text),
    sa.Column("idempotency_scope", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("number", Number, primary_key=True),
)

# Partial indexes hold what is waiting, running or keyed, so that 100,000 finished tasks cost the hot path nothing.
_waiting = sa.text("status = 'started'")
_running = sa.text("status = 'processing'")
_scoped = sa.text("idempotency_scope IS NOT NULL")
_ended = sa.text("expire_at IS NOT NULL")
_owned = sa.text("owner IS NOT NULL")
_failed = sa.text("status = 'failed'")
# Not `app = ''`: SQLite would plan each statement that asks for `app = ?` anew whenever a value is bound, as the value
# might be that of the index (sqlite.org/c3ref/prepare.html): half a millisecond each time.
_appless = sa.text("length(app) = 0")


def _index(
    name: str, *columns: sa.ColumnElement[Any], where: sa.TextClause | None = None, unique: bool = False
) -> None:
    sa.Index(f"bgtasks_{name}", *columns, unique=unique, sqlite_where=where, postgresql_where=where)


# With the status in it, though it is always the same: else SQLite's planner takes `newest` to count an owner's.
_index("tasks_waiting", tasks.c.status, tasks.c.app, tasks.c.owner, where=_waiting)
# With what is asked of it: the queue is read without looking at a row that is not taken.
_index("tasks_queue", tasks.c.status, tasks.c.app, tasks.c.place, tasks.c.name, tasks.c.queue, where=_waiting)
_index("tasks_leases", tasks.c.app, tasks.c.lease_until, tasks.c.name, tasks.c.worker, where=_running)
_index("tasks_scope", tasks.c.app, tasks.c.idempotency_scope, where=_scoped, unique=True)
_index("tasks_over", tasks.c.expire_at + tasks.c.expires_after, where=_ended)
_index("tasks_failed", tasks.c.app, tasks.c.name, tasks.c.completed_at, where=_failed)
_index("tasks_newest", tasks.c.app, tasks.c.owner, tasks.c.created_at, tasks.c.request_id, where=_owned)
_index("tasks_appless", tasks.c.number, where=_appless)

payloads = sa.Table(
    "bgtasks_payloads",
    metadata,
    # Beside the task, so that a change of its small row never rewrites a body of megabytes.
    sa.Column("task", Number, primary_key=True, autoincrement=False),
    sa.Column("part", sa.Text, primary_key=True),
    sa.Column("head", sa.Text),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "bgtasks_events",
    metadata,
    sa.Column("task", Number, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("at", Micros, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sqlite_with_rowid=False,  # one tree, in the order in which a history is read
)

deliveries = sa.Table(
    "bgtasks_deliveries",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("sink", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("request_id", Id),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("payload", sa.Text),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("created_at", Micros, nullable=False),
    sa.Column("due_at", Micros, nullable=False),
    sa.Column("dead", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("worker", sa.Text),
    sa.Column("leased_until", Micros),
    sa.Column("channel", sa.Text, nullable=False, server_default=""),
    sa.Column("app", sa.Text, nullable=False, server_default=""),
    sa.Column("lease", sa.BigInteger),  # the token of the lease
    # An id that was given once is never given again, as PostgreSQL's sequences have it (sqlite.org/autoinc.html): a
    # dead letter that an operator replays by its id, say, is not another one meanwhile.
    sqlite_autoincrement=True,
)

_pending = sa.text("dead = 0")
# By when they are due: thousands that are held over a night cost a look nothing.
_index("deliveries_owed", deliveries.c.app, deliveries.c.sink, deliveries.c.due_at, deliveries.c.id, where=_pending)
_index("deliveries_task", deliveries.c.request_id, deliveries.c.sink, deliveries.c.channel, deliveries.c.id)
_index("deliveries_dead", deliveries.c.app, deliveries.c.id, where=sa.text("dead = 1"))
_index("deliveries_leased", deliveries.c.app, deliveries.c.worker, where=sa.text("worker IS NOT NULL"))
_index("deliveries_appless", deliveries.c.id, where=_appless)

durations = sa.Table(
    "bgtasks_durations",
    metadata,
    sa.Column("app", sa.Text, primary_key=True, server_default=""),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)

devices = sa.Table(
    "bgtasks_devices",
    metadata,
    sa.Column("app_id", sa.Text, primary_key=True, server_default=""),  # `app` is the one on the device
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("platform", sa.Text),
    sa.Column("app", sa.Text),
    sa.Column("lang", sa.Text),
    sa.Column("request_id", Id),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("created_at", Micros, nullable=False),
    sa.Column("seen_at", Micros, nullable=False),
    sa.Column("installation", sa.Text),
)

_index("devices_owner", devices.c.app_id, devices.c.owner, devices.c.seen_at, where=sa.text("request_id IS NULL"))
_index("devices_task", devices.c.request_id, where=sa.text("request_id IS NOT NULL"))
_index("devices_installation", devices.c.installation, where=sa.text("installation IS NOT NULL"))
_index("devices_seen", devices.c.seen_at)

preferences = sa.Table(
    "bgtasks_preferences",
    metadata,
    sa.Column("app", sa.Text, primary_key=True, server_default=""),
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)

marks = sa.Table(
    "bgtasks_marks",
    metadata,
    sa.Column("app", sa.Text, primary_key=True, server_default=""),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("until", Micros, nullable=False),
)

meta = sa.Table(
    "bgtasks_meta",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
