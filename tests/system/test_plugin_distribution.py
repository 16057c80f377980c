"""A plugin that was installed as a distribution of its own is found by its entry point, and works."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.system


APP = """
from flask import Flask
from flask_bgtasks import BackgroundTasks, current_task, step

bgtasks = BackgroundTasks()
app = Flask(__name__)

@app.post("/process")
@bgtasks.background(notify="ready", steps=["Write"])
def process():
    with step("Write"):
        return {"owner": current_task.owner}

@app.post("/quiet")
@bgtasks.background(notify="ready")
def quiet():
    return {}

bgtasks.init_app(app, store="sample://x", runner="sample")
"""

DRIVE = """
from app import app
client = app.test_client()
mine = {"X-Sample-Owner": "ada"}
accepted = client.post("/process", headers=mine)
client.post("/quiet", headers=mine)
print(client.get(accepted.location + "/result", headers=mine).get_json())
print(client.get(accepted.location, headers={"X-Sample-Owner": "eve"}).status_code)
print(app.extensions["bgtasks"].store.url)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The sample plugin, installed by pip into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    source = ROOT / "tests" / "sample_plugin"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    subprocess.run(pip, check=True, timeout=100)
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Runs Python code beside the app, with the plugin installed."""
    (tmp_path / "app.py").write_text(APP)
    log = tmp_path / "log.jsonl"

    def run(*arguments):
        path = os.pathsep.join([str(installed), str(ROOT), str(tmp_path)])
        env = {**os.environ, "PYTHONPATH": path, "SAMPLE_PLUGIN_LOG": str(log)}
        done = subprocess.run(
            [sys.executable, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return done.stdout, rows

    return run


def test_an_installed_plugin_implements_every_hook_and_is_called(python):
    out, rows = python("-c", DRIVE)

    assert out.splitlines() == ["{'owner': 'ada'}", "404", "sample://x"]
    first = [row for row in rows if row.get("request_id") == rows[0]["request_id"]]
    assert [row["type"] for row in first if row["hook"] == "event"] == ["accepted", "started", "completed"]
    assert [row["title"] for row in rows if row["hook"] == "notification"] == ["READY"]
    assert rows[-1] == {"hook": "close", "app": "app"}  # the process has ended


def test_an_installed_plugin_adds_its_command(python):
    out, _ = python("-m", "flask", "--app", "app", "bgtasks", "sample")

    assert out == "hello from the sample plugin\n"


def test_a_distribution_that_cannot_be_imported_is_named_at_init_app(python, installed, tmp_path):
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[flask_bgtasks]\nbroken = no_such_module\n")
    code = "import flask_bgtasks\ntry:\n    import app\nexcept flask_bgtasks.ConfigurationError as e:\n    print(e)"
    out, _ = python("-c", code)

    assert "cannot be loaded" in out
    assert "no_such_module" in out
