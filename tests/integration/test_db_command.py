"""flask bgtasks db …: what a deploy script and a database's administrator are told, and the exit codes."""

import contextlib
import json
import sqlite3

import pytest

from flask_bgtasks.stores.sql.schema import VERSION
from tests.support.paths import ROOT

DUMPS = ROOT / "tests" / "data" / "layouts"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.sqlite3"


@pytest.fixture
def execute(path):
    """Executes a script in the SQLite file, without a store."""

    def execute(script):
        with contextlib.closing(sqlite3.connect(path)) as raw:
            raw.executescript(script)

    return execute


@pytest.fixture
def db(make_app, path):
    """Runs ``flask bgtasks db …`` on the SQLite file, or on another store: its exit code, and what it says."""

    def run(*arguments, store=f"sqlite:///{path}", **settings):
        app = make_app(store=store, sinks=[], **settings)
        result = app.test_cli_runner().invoke(args=["bgtasks", "db", *arguments])
        app.extensions["bgtasks"].close()
        return result.exit_code, result.output

    return run


def test_a_file_that_is_not_there_is_told_and_not_made(db, path):
    assert db("check") == (1, "the database has no tables yet: run `flask bgtasks db upgrade`\n")
    assert db("current")[0] == 0
    assert not path.exists()


def test_the_tables_are_made_by_upgrade_and_then_check_is_content(db):
    assert db("upgrade") == (0, f"made the tables: layout {VERSION}\n")
    assert db("check") == (0, f"the tables are of layout {VERSION}, as this version needs them\n")
    assert db("upgrade") == (0, f"nothing to do: the tables are of layout {VERSION}, as this version needs them\n")


def test_an_old_database_is_told_before_and_upgraded_by_name(db, path, execute):
    execute((DUMPS / "4.sqlite.sql").read_text())
    before = path.read_bytes()

    assert db("check") == (
        1,
        f"the tables are of layout 4, this version needs layout {VERSION}: run `flask bgtasks db upgrade`\n",
    )
    assert db("current")[1].splitlines()[:2] == ["database:      layout 4", f"this version:  layout {VERSION}"]
    assert path.read_bytes() == before
    assert db("upgrade", auto_upgrade=False) == (0, f"upgraded the tables from layout 4 to layout {VERSION}\n")
    assert db("check")[0] == 0


def test_a_program_gets_json(db, execute):
    found = json.loads(db("current", "--json")[1])
    assert (found["state"], found["database"], found["version"]) == ("empty", None, VERSION)
    db("upgrade")
    execute("DROP INDEX bgtasks_tasks_queue")

    found = json.loads(db("current", "--json")[1])

    assert (found["state"], found["missing"]) == ("incomplete", ["bgtasks_tasks_queue"])


def test_what_the_number_promises_and_the_database_lacks_is_named(db, execute):
    db("upgrade")
    execute("DROP INDEX bgtasks_tasks_queue; ALTER TABLE bgtasks_tasks DROP COLUMN muted_at")

    code, said = db("check")
    assert code == 1
    assert "but lack bgtasks_tasks.muted_at, bgtasks_tasks_queue" in said

    code, said = db("upgrade")
    assert code == 1
    assert "but lack bgtasks_tasks.muted_at: " in said
    execute("ALTER TABLE bgtasks_tasks ADD COLUMN muted_at BIGINT; DROP INDEX bgtasks_tasks_queue")
    assert db("upgrade") == (0, "made what was missing: bgtasks_tasks_queue\n")


def test_a_newer_layout_that_leaves_no_room_fails_the_check_and_is_not_touched(db, path, execute):
    db("upgrade")
    execute("UPDATE bgtasks_meta SET value = '99' WHERE key = 'version'")
    before = path.read_bytes()

    code, said = db("check")
    assert code == 1
    assert "made by a newer version, and this one" in said
    code, said = db("upgrade")
    assert code == 1
    assert "made by a newer flask-bgtasks (layout 99" in said
    assert db("upgrade", "--sql")[0] == 1
    assert path.read_bytes() == before


def test_a_newer_layout_that_leaves_room_passes_the_check_and_is_not_touched(db, path, execute):
    db("upgrade")
    execute(
        "UPDATE bgtasks_meta SET value = '99' WHERE key = 'version';"
        f"INSERT INTO bgtasks_meta VALUES ('oldest', '{VERSION}');"
        "DROP INDEX bgtasks_tasks_queue"  # it may have another in its place
    )

    said = f"the tables are of layout 99, made by a newer version; this one (layout {VERSION}) may use them\n"
    assert db("check") == (0, said)
    assert db("upgrade") == (0, f"nothing to do: {said}")
    found = json.loads(db("current", "--json")[1])
    assert (found["state"], found["missing"]) == ("newer", ["bgtasks_tasks_queue"])


def test_the_statements_are_printed_and_not_executed(db, path, execute):
    execute((DUMPS / "6.sqlite.sql").read_text())

    code, said = db("upgrade", "--sql")

    assert code == 0
    assert said.startswith("BEGIN IMMEDIATE;\n")
    assert "ADD COLUMN suspicions" in said
    assert said.endswith("COMMIT;\n")
    assert db("check")[0] == 1
    execute(said)
    assert db("check")[0] == 0
    assert db("upgrade", "--sql") == (0, "nothing to do: the tables are as this version needs them\n")


def test_a_worker_does_not_begin_on_tables_that_have_to_be_upgraded_by_the_command(make_app, path, execute):
    execute((DUMPS / "6.sqlite.sql").read_text())
    app = make_app(store=f"sqlite:///{path}", auto_upgrade=False)

    ended = app.test_cli_runner().invoke(args=["bgtasks", "worker"])

    assert ended.exit_code == 1
    assert "Run `flask bgtasks db upgrade`" in ended.output
    answer = app.test_client().get("/tasks/health")
    assert answer.status_code == 503
    assert "its tables have to be upgraded" in answer.json["checks"]["store"]


@pytest.mark.parametrize("arguments", [("current",), ("check",), ("upgrade",), ("upgrade", "--sql")], ids=" ".join)
def test_a_store_without_tables_is_content(db, arguments):
    assert db(*arguments, store="memory://") == (0, "the store memory:// has no tables to upgrade: nothing to do\n")


@pytest.mark.parametrize("command", ["current", "check", "upgrade"])
def test_a_database_that_cannot_be_reached_is_a_line_and_an_exit_code(db, command, tmp_path):
    url = f"postgresql+psycopg://nobody:secret@/none?host={tmp_path}"

    code, said = db(command, store=url)

    assert code == 1
    assert said.startswith("Error: the task store cannot be used right now")
    assert len(said.splitlines()) == 1
    assert "secret" not in said


@pytest.fixture
def served_role(new_postgresql_database):
    """A PostgreSQL database, and its URL for a user who may neither make nor change tables."""
    import psycopg

    url = new_postgresql_database()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as raw:
        raw.execute("""
            DROP ROLE IF EXISTS serving;
            CREATE ROLE serving LOGIN;
            REVOKE CREATE ON SCHEMA public FROM PUBLIC;
            ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO serving;
            ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO serving;
        """)
    yield url, url.replace("postgres@", "serving@")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as raw:
        raw.execute("DROP OWNED BY serving; DROP ROLE serving")


def test_a_user_who_may_not_make_tables_is_told_whom_to_ask_and_can_serve_afterwards(db, served_role):
    administrator, serving = served_role

    code, said = db("upgrade", store=serving)
    assert code == 1
    assert "permission denied" in said
    assert "run `flask bgtasks db upgrade` as a user who may" in said

    assert db("upgrade", store=administrator)[0] == 0
    assert db("check", store=serving)[0] == 0
    assert db("upgrade", store=serving)[0] == 0  # nothing to do needs no rights
