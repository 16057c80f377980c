"""Every route, by every method: for its owner, another user, nobody and a forger; and what strangers send to each.

The rows are held against the app's own map of addresses: a route without a row fails.
"""

import json
import os
import subprocess
import sys

import pytest
from itsdangerous import URLSafeTimedSerializer

from flask_bgtasks.http.blueprint import METHODS
from tests.support.abuse import ANN, FIELDS, Abuser, answered, make_abused, routes
from tests.support.http_app import PATIENCE
from tests.support.http_calls import UNKNOWN
from tests.support.paths import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.slow

MAX_MEGABYTES = 150
SECRET = "of Ann's alone"

OPEN = (200, 200, 200, 200)
OWN = (200, 200, 403, 403)  # what belongs to the person who asks, whoever that is
READ = (200, 404, 404, 401)  # a task that may be read by its token too
NO = (404, 404, 404)

MATRIX = {
    # path: method: what the owner, another user, nobody, and nobody with a forged token is answered
    "": {"GET": OWN},
    "/stats": {"GET": OWN},
    "/health": {"GET": OPEN},
    "/openapi.json": {"GET": OPEN},
    "/events": {"GET": READ},
    "/devices": {"GET": OWN, "POST": (201, 201, 403, 403)},
    "/devices/<device_id>": {"DELETE": (204, 404, 403, 403)},
    "/preferences": {"GET": OWN, "PUT": OWN},
    "/<request_id>": {"GET": READ, "DELETE": (204, *NO)},
    "/<request_id>/progress": {"GET": READ},
    "/<request_id>/events": {"GET": READ},
    "/<request_id>/result": {"GET": READ},
    "/<request_id>/cancel": {"POST": (200, *NO)},
    "/<request_id>/retry": {"POST": (202, *NO)},
    "/<request_id>/seen": {"POST": (204, *NO)},
    "/<request_id>/mute": {"POST": (204, *NO), "DELETE": (204, *NO)},
    "/<request_id>/live-activity": {"POST": (409, *NO), "DELETE": (204, *NO)},
    "/client.js": {"GET": OPEN},
    "/client.d.ts": {"GET": OPEN},
    "/client/<path:name>": {"GET": OPEN},
    "/bg-task.js": {"GET": OPEN},
    "/bg-task.d.ts": {"GET": OPEN},
    "/service-worker.js": {"GET": OPEN},
}

CALLERS = [
    ({"X-User": "ann"}, False),
    ({"X-User": "bob"}, False),
    ({}, False),
    ({}, True),
]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "firestore"])
def studio(request, tmp_path):
    if request.param == "memory":
        store = "memory://"
    elif request.param == "sqlite":
        store = "sqlite:///tasks.sqlite3"
    elif request.param == "postgresql":
        store = request.getfixturevalue("new_postgresql_database")()
    else:
        pytest.importorskip("google.cloud.firestore")
        store = f"firestore://{request.getfixturevalue('firestore_project')}"
    made = make_abused(store, tmp_path)
    client = made.app.test_client()
    until(lambda: client.post("/process", json={"input_text": "x"}).status_code != 503)  # the first calls
    yield made
    made.state.close(grace=PATIENCE)


class Caller:
    """Calls a route as one of the four, on a task and a device of Ann's."""

    def __init__(self, studio, *, path):
        self.studio = studio
        self.client = studio.app.test_client()
        if "retry" in path:
            self.task = studio.submit("/refuse/422", headers=ANN)
        else:
            self.task = studio.submit(headers=ANN, json={"input_text": SECRET})
        self.device = self.client.post("/tasks/devices", json={"kind": "fid", "value": "f"}, headers=ANN).json["id"]

    def call(self, method, path, headers, *, forged, task=None):
        filled = path.replace("<request_id>", task or self.task).replace("<device_id>", self.device)
        filled = filled.replace("<path:name>", "network/sse.js")
        query = {"ids": task or self.task} if path == "/events" else {}
        if forged:
            query["access_token"] = URLSafeTimedSerializer("another key", salt="flask-bgtasks.read").dumps(self.task)
        body = FIELDS.get(f"{method} {path}")
        if path == "/devices" and body is not None:
            body = {"kind": "fid", "value": headers.get("X-User", "x")}
        more = {"json": body} if body is not None else {}
        more |= {"headers": headers, "query_string": query}
        return self.client.open(f"/tasks{filled}", method=method, buffered=True, **more)

    def stands(self):
        """All that a stranger could have changed."""
        task = self.studio.state.store.get(self.task)
        devices = self.studio.state.store.devices(owner="ann")
        return task, [device.id for device in devices], self.studio.state.store.load_preferences("ann")


def test_every_route_has_its_row_and_every_row_its_route(studio):
    there = {(path, method) for method, path in answered(studio)}
    rows = {(path, method) for path, methods in MATRIX.items() for method in methods}

    assert there == rows


def test_strangers_are_refused_learn_nothing_and_change_nothing(studio):
    wrong = []
    for path, methods in MATRIX.items():
        caller = Caller(studio, path=path)
        for method, expected in methods.items():
            for (headers, forged), status in list(zip(CALLERS, expected, strict=True))[:0:-1]:
                before = caller.stands()
                answer = caller.call(method, path, headers, forged=forged)
                who = f"{method} {path} {headers or 'nobody'}{' forged' * forged}"
                if answer.status_code != status:
                    wrong.append(f"{who}: {answer.status_code} instead of {status}: {answer.data[:200]!r}")
                if SECRET.encode() in answer.data:
                    wrong.append(f"{who} is told Ann's secret")
                if caller.stands() != before:
                    wrong.append(f"{who} has changed something of Ann's")
            answer = caller.call(method, path, ANN, forged=False)
            if answer.status_code != expected[0]:
                wrong.append(f"{method} {path} as Ann: {answer.status_code} instead of {expected[0]}")

    assert wrong == []


def test_another_tasks_id_or_token_opens_nothing(studio):
    wrong = []
    caller = Caller(studio, path="")
    with studio.app.app_context():
        token = studio.bgtasks.access_token(caller.task)
    other = studio.submit(headers=ANN)
    for path, methods in MATRIX.items():
        if "<request_id>" not in path:
            continue
        for method in methods:
            unknown = caller.call(method, path, ANN, forged=False, task=UNKNOWN)
            if unknown.status_code != 404:
                wrong.append(f"{method} {path} of an unknown task: {unknown.status_code}")
            address = f"/tasks{path}".replace("<request_id>", other)
            body = FIELDS.get(f"{method} {path}")
            answer = caller.client.open(address, method=method, query_string={"access_token": token}, json=body)
            if answer.status_code not in (401, 404):
                wrong.append(f"{method} {path} by the token of another task: {answer.status_code}")

    assert wrong == []


def test_a_token_reads_and_does_nothing_else(studio):
    caller = Caller(studio, path="")
    with studio.app.app_context():
        token = studio.bgtasks.access_token(caller.task)

    statuses = {}
    for path, methods in MATRIX.items():
        if "<request_id>" in path:
            for method in methods:
                address = f"/tasks{path}".replace("<request_id>", caller.task)
                answer = caller.client.open(address, method=method, query_string={"access_token": token})
                statuses[method, path] = answer.status_code

    reads = {call for call, status in statuses.items() if status < 400}
    assert reads == {("GET", f"/<request_id>{what}") for what in ("", "/progress", "/events", "/result")}
    assert set(statuses.values()) == {200, 404}


def test_other_methods_are_405_for_everybody_and_say_which_there_are(studio):
    caller = Caller(studio, path="")
    for path, methods in MATRIX.items():
        for method in set(METHODS) - set(methods) - {"HEAD", "OPTIONS"}:
            for headers, forged in CALLERS:
                answer = caller.call(method, path, headers, forged=forged)
                assert answer.status_code == 405, (method, path)
                assert set(methods) < {*answer.headers["Allow"].split(", ")}
    assert {path for _, path in routes(studio)} == set(MATRIX)


def test_nothing_that_strangers_send_is_answered_with_500(studio):
    remote = studio.state.settings.store.startswith(("firestore", "postgresql"))

    report = Abuser(studio).everything(headers=not remote)  # no store sees a header

    assert report.faults == []
    assert report.calls > 1000


@pytest.mark.skipif(sys.platform == "win32", reason="has no module resource")
@pytest.mark.timeout(600)
def test_one_process_stays_small_through_all_of_it():
    command = [sys.executable, "-m", "tests.support.abuse", "memory://", "sqlite:///tasks.sqlite3"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["faults"] == []
    assert found["most"] < MAX_MEGABYTES, found
