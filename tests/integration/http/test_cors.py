"""Pages of the origins that the app names may call the blueprint and the backgrounded views; others may not."""

import pytest

from tests.support.http_app import PATIENCE, make

ORIGIN = "https://app.example.com"


@pytest.fixture
def studio(tmp_path):
    made = make("memory://", tmp_path, cors_origins=[ORIGIN, "https://other.example.com/"], max_queued=1, workers=1)
    yield made
    made.close()


def preflight(client, path, method="GET", origin=ORIGIN):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "idempotency-key,prefer",
    }
    return client.options(path, headers=headers).headers


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/tasks", "GET"),
        ("/tasks/x", "GET"),
        ("/tasks/x", "DELETE"),
        ("/tasks/x/seen", "POST"),
        ("/tasks/x/mute", "DELETE"),
        ("/tasks/x/live-activity", "POST"),
        ("/tasks/events", "GET"),
        ("/tasks/devices", "POST"),
        ("/tasks/devices/x", "DELETE"),
        ("/tasks/preferences", "PUT"),
        ("/process", "POST"),
        ("/legacy/a", "POST"),
    ],
)
def test_a_preflight_names_what_clients_send(client, path, method):
    headers = preflight(client, path, method)

    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["Access-Control-Allow-Credentials"] == "true"
    allowed = {name.strip().lower() for name in headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "idempotency-key", "if-none-match", "last-event-id", "prefer", "content-type"} <= allowed
    methods = {name.strip() for name in headers["Access-Control-Allow-Methods"].split(",")}
    assert method in methods
    assert "Origin" in headers["Vary"]


def test_a_page_may_read_the_answers_headers(client, studio):
    request_id = studio.done()

    headers = client.get(f"/tasks/{request_id}", headers={"Origin": ORIGIN}).headers

    exposed = {name.strip() for name in headers["Access-Control-Expose-Headers"].split(",")}
    assert {"ETag", "Retry-After", "Location", "Content-Location", "Task-Id", "Idempotent-Replayed"} <= exposed
    assert "Preference-Applied" in exposed


def test_a_page_may_read_202_and_problems_of_a_backgrounded_view(client, studio):
    accepted = client.post("/wait", json={"gate": "a"}, headers={"Origin": ORIGIN})
    assert studio.reached["a"].wait(PATIENCE)
    studio.submit()
    full = client.post("/process", json={"input_text": "x"}, headers={"Origin": ORIGIN})

    assert (accepted.status_code, full.status_code) == (202, 503)
    for answer in (accepted, full):
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


def test_a_page_may_read_a_problem_of_the_blueprint(client):
    answer = client.get("/tasks/x", headers={"Origin": ORIGIN})

    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, ORIGIN)


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "https://app.example.com.evil.com", ""])
def test_another_origin_gets_nothing(client, studio, origin):
    answer = client.get(f"/tasks/{studio.done()}", headers={"Origin": origin})

    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.vary
    assert "Access-Control-Allow-Origin" not in preflight(client, "/process", "POST", origin)


def test_an_origin_may_be_written_with_a_slash_at_its_end(client):
    assert preflight(client, "/tasks", origin="https://other.example.com")["Access-Control-Allow-Origin"]


def test_views_that_have_nothing_to_do_with_tasks_are_left_alone(client, studio):
    studio.app.add_url_rule("/about", "about", lambda: "about", methods=["GET"])

    assert "Access-Control-Allow-Origin" not in client.get("/about", headers={"Origin": ORIGIN}).headers
    assert "Access-Control-Allow-Origin" not in preflight(client, "/about")


def test_an_app_that_gives_cors_headers_itself_is_not_contradicted(client, studio):
    @studio.app.after_request  # as Flask-CORS does it; registered after the extension
    def own(response):
        response.headers["Access-Control-Allow-Origin"] = "https://mine.example.com"
        return response

    answer = client.get(f"/tasks/{studio.done()}", headers={"Origin": ORIGIN})

    assert answer.headers.getlist("Access-Control-Allow-Origin") == ["https://mine.example.com"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_for_any_origin_there_are_no_credentials(tmp_path):
    studio = make("memory://", tmp_path, cors_origins="*")

    headers = studio.app.test_client().get("/tasks/health", headers={"Origin": "https://any.example.com"}).headers

    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in headers


def test_without_the_setting_nothing_is_added(tmp_path):
    studio = make("memory://", tmp_path)

    answer = studio.app.test_client().get("/tasks/health", headers={"Origin": ORIGIN})

    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    assert "Origin" not in answer.vary


@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example.com"])
@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/tasks/x", {}),
        ("GET", "/tasks/health", {}),
        ("OPTIONS", "/tasks", {}),
        ("POST", "/process", {"json": {"input_text": "x"}}),
        ("POST", "/process", {"json": {"input_text": "x"}, "headers": {"Prefer": "wait=10"}}),
        ("POST", "/process", {"json": {}, "headers": {"Idempotency-Key": "no key"}}),
        ("POST", "/legacy/plain", {"json": {"text": "x"}}),
        ("OPTIONS", "/process", {}),
    ],
)
def test_an_answer_that_depends_on_the_origin_says_so_to_every_origin(client, origin, method, path, options):
    headers = {**options.get("headers", {}), **({"Origin": origin} if origin else {})}

    answer = client.open(path, method=method, **{**options, "headers": headers})

    assert "Origin" in answer.vary
    assert answer.headers.get("Access-Control-Allow-Origin") == (ORIGIN if origin == ORIGIN else None)


def test_so_it_is_where_some_origins_are_named_beside_any(tmp_path):
    studio = make("memory://", tmp_path, cors_origins=["*", ORIGIN])

    assert "Origin" in studio.app.test_client().get("/tasks/health").vary

    studio.state.close(grace=PATIENCE)


def test_a_guard_that_answers_before_the_view_can_be_read_by_the_page(studio, client):
    studio.app.before_request(lambda: ("log in", 401))

    answer = client.post("/process", json={}, headers={"Origin": ORIGIN})

    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    assert "Origin" in answer.vary
