"""What the blueprint's calls read and answer is bounded in bytes; what is too much is 413, or another page."""

import io
import json

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bgtasks.core.model import Entry, EventType, Progress
from flask_bgtasks.core.transitions.attempt import Claim, Report
from flask_bgtasks.http.requests import json_body
from flask_bgtasks.http.views import collection, events
from tests.support.http_app import with_owners

ANN = {"X-User": "ann"}


@pytest.fixture
def studio_settings():
    return {"runner": "external"}


@pytest.fixture
def studio(studio):
    return with_owners(studio)


class Endless:
    """A body whose end nobody knows; how much of it was read."""

    def __init__(self, limit=2**22):
        self.read_bytes = 0
        self._limit = limit

    def read(self, size=-1):
        assert size >= 0, "read to its end, wherever that is"
        self.read_bytes += size
        assert self.read_bytes < self._limit, "it reads and reads"
        return b"x" * size


def sent(app, method, path, body, headers, **environment):
    """A request as a server hands it to the app: its status, body and headers."""
    environ = EnvironBuilder(path=path, method=method, headers=headers, content_type="application/json").get_environ()
    environ.pop("CONTENT_LENGTH", None)
    environ.update({"wsgi.input": body, **environment})
    answer, status, answer_headers = run_wsgi_app(app.wsgi_app, environ, buffered=True)
    return int(status.split()[0]), b"".join(answer), answer_headers


def chunked(app, method, path, body, **headers):
    """A request whose body is chunked, as gunicorn hands it to the app."""
    marks = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return sent(app, method, path, body, headers, **marks)


READERS = [
    ("POST", "seen"),
    ("POST", "live-activity"),
    ("DELETE", "live-activity"),
    ("POST", "/tasks/devices"),
    ("PUT", "/tasks/preferences"),
]
OTHERS = [
    ("POST", "cancel"),
    ("POST", "retry"),
    ("POST", "mute"),
    ("DELETE", "mute"),
    ("DELETE", ""),
    ("GET", ""),
    ("GET", "result"),
    ("GET", "/tasks"),
    ("GET", "/tasks/stats"),
    ("DELETE", "/tasks/devices/x"),
    ("GET", "/tasks/preferences"),
    ("PATCH", "/tasks"),
    ("GET", "/tasks/client.js"),
]


def path_of(studio, path):
    if path.startswith("/"):
        return path
    return f"/tasks/{studio.submit(headers=ANN)}/{path}".rstrip("/")


@pytest.mark.parametrize(("method", "path"), READERS + OTHERS, ids=lambda part: part)
def test_a_body_that_says_that_it_is_too_large_is_not_read(studio, method, path):
    body = Endless()

    length = str(300 * 2**20)
    status, answer, _ = sent(studio.app, method, path_of(studio, path), body, ANN, CONTENT_LENGTH=length)

    assert status == 413, answer
    problem = json.loads(answer)
    assert (problem["type"].rpartition("#")[2], problem["limit"]) == ("payload-too-large", json_body.MAX_BYTES)
    assert body.read_bytes == 0


@pytest.mark.parametrize(("method", "path"), READERS, ids=lambda part: part)
def test_a_body_that_does_not_say_its_size_is_read_so_far_and_no_further(studio, method, path):
    body = Endless()

    status, answer, _ = chunked(studio.app, method, path_of(studio, path), body, **ANN)

    assert status == 413, answer
    assert json.loads(answer)["type"].endswith("#payload-too-large")
    assert body.read_bytes <= json_body.MAX_BYTES + 1


@pytest.mark.parametrize(("method", "path"), OTHERS, ids=lambda part: part)
def test_a_body_that_nobody_wants_is_not_read(studio, method, path):
    body = Endless()

    status, _, _ = chunked(studio.app, method, path_of(studio, path), body, **ANN)

    assert status < 500
    assert body.read_bytes == 0


def test_a_chunked_body_of_the_largest_size_is_read(studio):
    text = json.dumps({"muted": ["x"]}).encode()
    padded = text + b" " * (json_body.MAX_BYTES - len(text))

    status, answer, _ = chunked(studio.app, "PUT", "/tasks/preferences", io.BytesIO(padded), **ANN)
    more, _, _ = chunked(studio.app, "PUT", "/tasks/preferences", io.BytesIO(padded + b" "), **ANN)

    assert (status, more) == (200, 413), answer


def test_the_apps_own_limit_counts_where_it_is_smaller(studio, client):
    studio.app.config["MAX_CONTENT_LENGTH"] = 10

    answer = client.put("/tasks/preferences", json={"muted": ["much more than ten bytes"]}, headers=ANN)

    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


NESTED = [
    b"[" * 60_000,
    b'{"via":' * 8_000,
    b'{"a":' + b"[" * 50_000,
    b"1" * 60_000,
    b'"\\ud800"',
    b"\xff\xfe",
    b"\x00",
]


@pytest.mark.parametrize("body", NESTED, ids=range(len(NESTED)))
@pytest.mark.parametrize(("method", "path"), READERS, ids=lambda part: part)
def test_json_that_is_odd_is_400(studio, client, method, path, body):
    answer = client.open(path_of(studio, path), method=method, data=body, headers=ANN, content_type="application/json")

    assert answer.status_code == 400, answer.text
    assert len(answer.data) < 10_000


# -- answers -----------------------------------------------------------------------------------------------------------


def with_details(studio, size, count):
    """Ann's tasks with large details, oldest first."""
    ids = [studio.submit(headers=ANN) for _ in range(count)]
    store = studio.state.store
    for request_id in ids:
        store.claim(request_id, worker="w", lease=studio.state.settings.lease)
        shown = Progress(store.now(), 1, step="Write", details="x" * size)
        store.transition(request_id, Report(1, progress=shown))
    return ids


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(collection, "MAX_PAGE_BYTES", 5000)
    monkeypatch.setattr(events, "MAX_PAGE_BYTES", 5000)


@pytest.mark.parametrize("query", [{}, {"limit": "3"}, {"seen": "false"}, {"status": "processing"}])
def test_a_page_of_a_list_ends_early_when_its_bytes_are_used_up(studio, client, small_pages, query):
    ids = with_details(studio, 1500, 7)

    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        more = {"cursor": cursor} if cursor else {}
        answer = client.get("/tasks", query_string={**query, **more}, headers=ANN)
        assert len(answer.data) < 6000
        found += [task["request_id"] for task in answer.json["tasks"]]
        cursor, pages = answer.json["cursor"], pages + 1

    assert found == ids[::-1]
    assert pages > 2


@pytest.mark.parametrize("query", [{}, {"seen": "false"}])
def test_a_list_by_ids_ends_early_and_goes_on_at_its_cursor(studio, client, small_pages, query):
    unknown = "00000000-0000-4000-8000-000000000000"
    ids = [*with_details(studio, 1500, 7), unknown]

    found, missing, cursor, pages = [], [], None, 0
    while pages == 0 or cursor:
        more = {"cursor": cursor} if cursor else {}
        answer = client.get("/tasks", query_string={"ids": ",".join(ids), **query, **more}, headers=ANN)
        assert len(answer.data) < 6000
        found += [task["request_id"] for task in answer.json["tasks"]]
        missing += answer.json["missing"]
        cursor, pages = answer.json["cursor"], pages + 1

    assert (found, missing) == (ids[:-1], [unknown])
    assert pages > 2


def test_one_task_that_is_too_large_for_a_page_is_one_all_the_same(studio, client, monkeypatch):
    monkeypatch.setattr(collection, "MAX_PAGE_BYTES", 500)
    ids = with_details(studio, 1000, 2)

    first = client.get("/tasks", headers=ANN).json
    second = client.get("/tasks", query_string={"cursor": first["cursor"]}, headers=ANN).json

    assert [page["tasks"][0]["request_id"] for page in (first, second)] == ids[::-1]
    assert second["cursor"] is None


@pytest.mark.parametrize("cursor", ["0", "-1", "3", "99", "x", "1.0", "١", " 1", "9" * 40, "\x00"])
def test_a_wrong_cursor_of_a_list_by_ids_is_400(studio, client, cursor):
    ids = ",".join(studio.submit(headers=ANN) for _ in range(2))

    answer = client.get("/tasks", query_string={"ids": ids, "cursor": cursor}, headers=ANN)

    assert answer.status_code == 400
    assert answer.json["parameter"] == "cursor"


def test_a_page_of_events_ends_early_and_says_where_to_go_on(studio, client, small_pages):
    request_id = studio.submit(headers=ANN)
    store = studio.state.store
    store.transition(request_id, Claim("w", studio.state.settings.lease))
    output = [Entry(EventType.OUTPUT, store.now(), {"offset": n, "chunks": ["x" * 900]}) for n in range(250)]
    store.save_progress(request_id, attempt=1, progress=None, entries=[*output])

    seqs, after = [], 0
    while True:
        headers = {**ANN, "Accept": "application/json"}
        answer = client.get(f"/tasks/{request_id}/events?starting_after={after}", headers=headers)
        assert len(answer.data) < 6500
        page = answer.json
        if not page["events"]:
            break
        seqs += [event["seq"] for event in page["events"]]
        after = page["next"]

    assert seqs == list(range(1, 253))
