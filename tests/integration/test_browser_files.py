"""The browser's part, as it is served: types that browsers insist on, caching, and that nothing else gets out."""

import re

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.http.views.assets import FOLDER


@pytest.fixture
def get():
    app = Flask(__name__)
    BackgroundTasks(app, store="memory://", cors_origins=["https://pages.example"])
    client = app.test_client()
    return lambda path, **more: client.get(f"/tasks/{path}", buffered=True, **more)  # read whole, so the file is closed


MODULES = [
    "client.js",
    "bg-task.js",
    "service-worker.js",
    *(str(path.relative_to(FOLDER)) for path in FOLDER.glob("client/**/*.js")),
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_served_as_a_script_and_asked_for_again_each_time(get, name):
    answer = get(name)

    assert answer.status_code == 200
    assert answer.mimetype == "text/javascript"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.get_data() == (FOLDER / name).read_bytes()
    assert get(name, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_imports_is_served(get, name):
    for imported in re.findall(r"^(?:import|export) .*?from '(.+?)';$", (FOLDER / name).read_text(), re.MULTILINE):
        parts = name.split("/")[:-1]
        for step in imported.split("/"):
            parts = parts[:-1] if step == ".." else parts if step == "." else [*parts, step]
        assert get("/".join(parts)).status_code == 200, f"{name} imports {imported}"


@pytest.mark.parametrize("name", ["client.d.ts", "bg-task.d.ts"])
def test_declarations_are_served_for_editors(get, name):
    assert get(name).mimetype == "text/plain"


def test_the_service_worker_may_serve_the_whole_app(get):
    assert get("service-worker.js").headers["Service-Worker-Allowed"] == "/"


def test_pages_of_an_allowed_origin_may_import_the_module(get):
    answer = get("client.js", headers={"Origin": "https://pages.example"})

    assert answer.headers["Access-Control-Allow-Origin"] == "https://pages.example"


@pytest.mark.parametrize(
    "name", ["client/nothing.js", "client/..%2fclient.d.ts", "client/../../__init__.py", "client/"]
)
def test_nothing_else_is_served(get, name):
    answer = get(name)

    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json" or not name.endswith("js")


def test_the_declaration_names_what_the_module_exports():
    exported = set()
    for names in re.findall(r"^export \{(.+?)\}", (FOLDER / "client.js").read_text(), re.MULTILINE):
        exported |= {name.strip() for name in names.split(",")}
    exported |= set(re.findall(r"^export (?:class|function) (\w+)", (FOLDER / "client.js").read_text(), re.MULTILINE))
    declared = set(re.findall(r"^export (?:class|function) (\w+)", (FOLDER / "client.d.ts").read_text(), re.MULTILINE))

    assert exported == declared
