"""The service itself: figures, readiness, failures that show nothing, and the prefix."""

import threading
from concurrent.futures import ThreadPoolExecutor

from flask_bgtasks.core.model import Status
from tests.support.http_app import PATIENCE, make, with_owners
from tests.support.http_calls import UNKNOWN
from tests.support.problems import problem


def test_figures_are_totals(client, studio):
    studio.done()
    studio.running()

    answer = client.get("/tasks/stats")

    assert answer.json["tasks"] == {"started": 0, "processing": 1, "completed": 1, "failed": 0, "cancelled": 0}
    assert "process" not in answer.json["tasks"]


def test_figures_say_how_soon_outcomes_are_seen(client, studio, monkeypatch):
    monkeypatch.setattr("flask_bgtasks.http.responses.stats_cache.FRESH_SECONDS", -1)
    figures = client.get("/tasks/stats").json
    assert (figures["seen"], figures["mean_seconds_to_seen"]) == (0, None)
    client.post(f"/tasks/{studio.done()}/seen")
    studio.done()

    figures = client.get("/tasks/stats").json

    assert figures["seen"] == 1
    assert 0 < figures["mean_seconds_to_seen"] < PATIENCE


def test_in_an_app_with_a_login_figures_are_for_its_users(client, studio):
    with_owners(studio)

    problem(client.get("/tasks/stats"), "listing-refused")
    assert client.get("/tasks/stats", headers={"X-User": "ann"}).status_code == 200


def test_a_process_that_works_is_ready(client):
    answer = client.get("/tasks/health")

    assert (answer.status_code, answer.json["status"]) == (200, "ok")


def test_a_process_that_stops_is_not_ready(client, studio):
    studio.state.runner.stop(0)

    answer = client.get("/tasks/health")

    assert problem(answer, "not-ready")["checks"] == {"store": "ok", "runner": "draining", "threads": "ok"}
    assert "Retry-After" in answer.headers


def test_a_store_out_of_reach_is_503_and_its_address_stays_in_the_log(client, studio, monkeypatch):
    from flask_bgtasks.errors import StoreUnavailable

    def fail(*_, **__):
        raise StoreUnavailable("cannot connect to db.internal:5432")

    request_id = studio.done()
    for name in ("get", "check", "versions", "change_token", "find"):
        monkeypatch.setattr(studio.state.store, name, fail)

    for path in (f"/{request_id}", f"/{request_id}/events", f"?ids={request_id}", "/health"):
        answer = client.get(f"/tasks{path}")
        assert answer.status_code == 503
        assert answer.content_type == "application/problem+json"
        assert "Retry-After" in answer.headers
        assert "db.internal" not in answer.text


def test_an_owner_loader_that_aborts_is_answered_as_a_problem(client, studio):
    from flask import abort

    studio.bgtasks.owner_loader(lambda: abort(401, description="log in"))

    answer = client.get("/tasks")

    assert (answer.status_code, answer.json["type"], answer.json["detail"]) == (401, "about:blank", "log in")


def test_a_bug_shows_no_traceback(client, studio, monkeypatch):
    def fail(_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(studio.state.store, "get", fail)

    answer = client.get(f"/tasks/{UNKNOWN}")

    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "secret detail" not in answer.text


def test_another_prefix_moves_everything(tmp_path):
    studio = make("memory://", tmp_path, url_prefix="/api/jobs/")
    client = studio.app.test_client()
    request_id = studio.done()

    answer = client.get(f"/api/jobs/{request_id}")

    assert answer.json["links"]["result"] == f"/api/jobs/{request_id}/result"
    assert "/api/jobs/{request_id}/result" in client.get("/api/jobs/openapi.json").json["paths"]
    assert client.get(f"/tasks/{request_id}").status_code == 404
    studio.state.close(grace=PATIENCE)


def test_every_poll_of_many_threads_is_answered_truly(studio):
    """Polls race with changes; each answer is one that was true, and none goes back."""
    request_id = studio.running()
    stop = threading.Event()

    def poll(_):
        client, newest = studio.app.test_client(), 0
        while not stop.is_set():
            document = client.get(f"/tasks/{request_id}").json
            assert document["seq"] >= newest
            newest = document["seq"]
        return client.get(f"/tasks/{request_id}").json["status"]

    with ThreadPoolExecutor(4) as pool:
        polls = [pool.submit(poll, n) for n in range(4)]
        studio.open("gate")
        studio.finish(request_id)
        stop.set()

        assert {p.result(PATIENCE) for p in polls} == {Status.COMPLETED.value}
