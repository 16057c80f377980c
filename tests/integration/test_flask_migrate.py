"""Flask-Migrate (Alembic) in an app whose own tables stand beside ours: its migrations leave ours alone."""

import os
import subprocess
import sys

import pytest

from flask_bgtasks.stores.sql import SqlStore
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

pytest.importorskip("flask_migrate")
pytest.importorskip("flask_sqlalchemy")

APP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_bgtasks import BackgroundTasks


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Lesson(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)


def include_name(name, type_, parent_names):
    return not (type_ == "table" and name.startswith("bgtasks_"))


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = app.config["BGTASKS_STORE"] = os.environ["STORE"]
db.init_app(app)
Migrate(app, db, **({"include_name": include_name} if os.environ["FILTERED"] == "yes" else {}))
BackgroundTasks(app)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shop.sqlite3"
    return request.getfixturevalue("new_postgresql_database")()


@pytest.fixture
def flask(tmp_path, url):
    """Runs a command of the app's: its exit code and output."""
    (tmp_path / "shop.py").write_text(APP)

    def flask(*arguments, filtered="yes"):
        environment = {**os.environ, "STORE": url, "FILTERED": filtered, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "flask", "--app", "shop", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return flask


def migration(tmp_path):
    (made,) = (tmp_path / "migrations" / "versions").glob("*.py")
    return made.read_text()


@pytest.mark.parametrize("filtered", ["yes", "no"])
def test_a_generated_migration_leaves_our_tables_alone_with_the_filter_and_drops_them_without(
    flask, tmp_path, url, filtered
):
    store = SqlStore(url)
    store.check()
    store.close()
    flask("db", "init")

    flask("db", "migrate", filtered=filtered)

    assert "create_table('lesson'" in migration(tmp_path)
    assert ("bgtasks_" in migration(tmp_path)) is (filtered == "no")
    if filtered == "yes":
        flask("db", "upgrade")
        flask("bgtasks", "db", "check")
