"""`BGTASKS_KEEP_HEADERS`: a run reads the login where the view reads it, and nobody reads it in the store."""

import logging
import sys

import pytest
from flask import Flask, request, session

from flask_bgtasks import BackgroundTasks, ConfigurationError, TaskHandle, hookimpl
from flask_bgtasks.auth.sealing import MAX_BYTES, Sealer
from tests.support.waiting import PATIENCE

SECRET = "s3cret-t0ken"
STORES = ["memory://", "sqlite:///tasks.sqlite3"]


def everything(state):
    """All that the store keeps."""
    store = state.store
    if not hasattr(store, "_database"):
        return str(vars(store))
    tables = ("bgtasks_tasks", "bgtasks_payloads", "bgtasks_events", "bgtasks_deliveries")

    def operation(connection):
        return [
            [bytes(v) if isinstance(v, memoryview) else v for v in row] for t in tables for row in rows(connection, t)
        ]

    def rows(connection, table):
        return connection.execute(f"SELECT * FROM {table}").fetchall()

    return str(store._database.read(operation))


class Gate:
    """Looks at the store while the view runs, and keeps what sinks are told."""

    def __init__(self):
        self.seen, self.told = [], []

    @hookimpl
    def bgtasks_task_event(self, task, event, load_result):
        self.told.append(f"{task} {event}")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    ("kept", "sent", "read"),
    [
        ("Authorization", {"Authorization": f"Bearer {SECRET}"}, lambda: request.authorization.token),
        ("authorization", {"Authorization": f"Bearer {SECRET}"}, lambda: request.headers["Authorization"][7:]),
        ("X-Api-Key", {"X-Api-Key": SECRET}, lambda: request.headers["X-Api-Key"]),
        ("Cookie", {"Cookie": f"token={SECRET}; b=2"}, lambda: request.cookies["token"]),
        ("X-Forwarded-Access-Token", {"X-Forwarded-Access-Token": SECRET}, lambda: request.environ[FORWARDED]),
        ("X-CSRFToken", {"X-CSRFToken": SECRET}, lambda: request.headers.get("X-CsrfToken")),
    ],
)
def test_a_header_that_is_named_reaches_the_run_sealed_and_is_gone_after_it(
    make_app, bg, state, caplog, store, kept, sent, read
):
    gate = Gate()
    bg.register(gate)
    app = make_app(store=store, keep_headers=[kept])

    @app.post("/process")
    @bg.background
    def process():
        gate.seen.append(everything(state(app)))
        return {"same": read() == SECRET}

    client = app.test_client(use_cookies=False)  # or it would send its own
    with caplog.at_level(logging.DEBUG):
        accepted = client.post("/process", headers={**sent, "X-Other": "not-kept"})
        TaskHandle(state(app), accepted.headers["Task-Id"]).wait_until_done(timeout=PATIENCE)

    assert client.get(accepted.location + "/result").json == {"same": True}
    assert "gAAAAA" in gate.seen[0]  # what Fernet makes begins with this
    assert SECRET not in gate.seen[0]
    assert "gAAAAA" not in everything(state(app))
    documents = client.get(accepted.location).text + client.get(accepted.location + "/events").text
    assert not any(text in caplog.text + documents + str(gate.told) for text in (SECRET, "gAAAAA", "not-kept"))


FORWARDED = "HTTP_X_FORWARDED_ACCESS_TOKEN"


def test_with_the_cookie_kept_the_session_can_be_read_in_the_run(make_app, bg, finished):
    app = make_app(keep_headers=["Cookie"])

    @app.post("/login")
    def login():
        session["user"] = "ann"
        return ""

    @app.post("/process")
    @bg.background
    def process():
        found = dict(session)
        session["user"] = "changed"
        return found

    client = app.test_client()
    client.post("/login")
    accepted = client.post("/process")
    finished(app, accepted)

    result = client.get(accepted.location + "/result")
    assert result.json == {"user": "ann"}
    assert "Set-Cookie" not in result.headers
    with client.session_transaction() as kept:
        assert kept["user"] == "ann"


def rotated(app):
    app.secret_key = "another"


def rotated_with_fallback(app):
    app.config["SECRET_KEY_FALLBACKS"] = [app.secret_key]
    app.secret_key = "another"


@pytest.mark.parametrize(
    ("rotate", "token", "warnings"), [(rotated, None, 1), (rotated_with_fallback, SECRET, 0)], ids=["gone", "fallback"]
)
def test_a_key_that_was_changed_opens_nothing_unless_it_is_a_fallback(
    make_app, bg, state, caplog, rotate, token, warnings
):
    app = make_app(keep_headers=["X-Api-Key"], runner="external")

    @app.post("/process")
    @bg.background
    def process():
        return {"token": request.headers.get("X-Api-Key")}

    client = app.test_client()
    accepted = client.post("/process", headers={"X-Api-Key": SECRET})
    rotate(app)
    with caplog.at_level(logging.WARNING, "flask_bgtasks"):
        state(app).engine.run(accepted.headers["Task-Id"])

    assert client.get(accepted.location + "/result").json == {"token": token}
    said = [record for record in caplog.records if "kept headers" in record.getMessage()]
    assert len(said) == warnings
    assert all(record.levelno == logging.WARNING for record in said)


def test_a_cancelled_task_keeps_no_login(make_app, bg, state):
    app = make_app(keep_headers=["X-Api-Key"], runner="external")
    app.add_url_rule("/process", view_func=bg.background(name="process")(lambda: ""), methods=["POST"])
    client = app.test_client()
    accepted = client.post("/process", headers={"X-Api-Key": SECRET})
    assert "gAAAAA" in everything(state(app))

    assert client.post(accepted.location + "/cancel").status_code == 200

    assert "gAAAAA" not in everything(state(app))


def test_a_task_that_is_ended_by_hand_keeps_no_login(make_app, bg, state):
    app = make_app(keep_headers=["X-Api-Key"], runner="external")
    app.add_url_rule("/process", view_func=bg.background(name="process")(lambda: ""), methods=["POST"])
    accepted = app.test_client().post("/process", headers={"X-Api-Key": SECRET})

    with app.app_context():
        bg.update_status(accepted.headers["Task-Id"], "completed", {"ok": True})

    assert "gAAAAA" not in everything(state(app))


def test_an_owner_who_retries_gives_the_run_their_login_again(make_app, bg, state):
    app = make_app(keep_headers=["X-Api-Key"], runner="inline")
    keys, found = [SECRET + "-1", SECRET + "-2"], []

    @bg.owner_loader
    def owner():
        return "ann" if request.headers.get("X-Api-Key") in keys else None

    @app.post("/process")
    @bg.background
    def process():
        found.append(request.headers.get("X-Api-Key"))
        raise ValueError("not yet")

    client = app.test_client()
    accepted = client.post("/process", headers={"X-Api-Key": keys[0]})
    assert client.post(accepted.location + "/retry", headers={"X-Api-Key": keys[1]}).status_code == 202

    assert found == keys
    assert "gAAAAA" not in everything(state(app))


def test_a_task_of_nobody_is_not_run_as_who_retries_it(make_app, bg):
    app, found = make_app(keep_headers=["X-Api-Key"], runner="inline"), []

    @app.post("/process")
    @bg.background
    def process():
        found.append(request.headers.get("X-Api-Key"))
        raise ValueError("not yet")

    client = app.test_client()
    accepted = client.post("/process")
    client.post(accepted.location + "/retry", headers={"X-Api-Key": SECRET})

    assert found == [None, None]


def test_headers_that_are_too_large_are_not_kept_and_the_task_runs(make_app, bg, finished, caplog):
    app = make_app(keep_headers=["X-Api-Key"])

    @app.post("/process")
    @bg.background
    def process():
        return {"token": request.headers.get("X-Api-Key")}

    client = app.test_client()
    accepted = client.post("/process", headers={"X-Api-Key": "x" * (MAX_BYTES + 1)})
    finished(app, accepted)

    assert client.get(accepted.location + "/result").json == {"token": None}
    assert "too large to be kept" in caplog.text


# -- what has to be there


def test_without_a_key_it_cannot_be_switched_on(make_app, bg):
    app = Flask("keyless")

    with pytest.raises(ConfigurationError, match="no SECRET_KEY.*set SECRET_KEY before init_app"):
        bg.init_app(app, store="memory://", keep_headers=["Authorization"])
    app.secret_key = "x"
    BackgroundTasks().init_app(Flask("other"), store="memory://")  # off: nothing is asked for


def test_without_the_package_it_cannot_be_switched_on(bg, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    app = Flask("studio")
    app.secret_key = "x"

    with pytest.raises(ConfigurationError, match=r"not installed: pip install 'flask-bgtasks\[headers\]'"):
        bg.init_app(app, store="memory://", keep_headers="Authorization, Cookie")


@pytest.mark.parametrize("names", [[""], ["a b"], ["Cookie:"], [7], ["x\n"], 7])
def test_what_is_no_name_of_a_header_is_refused(make_app, bg, names):
    with pytest.raises(ConfigurationError, match="BGTASKS_KEEP_HEADERS"):
        make_app(keep_headers=names)


def test_what_signs_cookies_does_not_open_what_is_sealed():
    """The key is derived: nothing that the app makes with its SECRET_KEY is a key of ours, nor the other way round."""
    app = Flask("studio")
    app.secret_key = b"bytes, as os.urandom gives them \xff"
    sealer = Sealer(app)

    sealed = sealer.seal([("Cookie", "ü=1")])

    assert sealer.open(sealed) == [["Cookie", "ü=1"]]
    assert sealer.open(sealed[:-4] + "AAA=") is None
    assert sealer.open("nonsense") is None
    assert sealer.seal([("Cookie", "ü=1")]) != sealed
