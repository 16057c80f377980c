"""The Firestore mirror, on the official emulator: what stands in the documents, and when it is written."""

import itertools
import json
import threading
import time

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, ConfigurationError, current_task, step
from flask_bgtasks.firebase.firestore import documents
from flask_bgtasks.sinks import firestore as sink_module
from flask_bgtasks.sinks.firestore import Ramp
from tests.support.waiting import PATIENCE, until

firestore = pytest.importorskip("google.cloud.firestore")
httpx = pytest.importorskip("httpx")

pytestmark = pytest.mark.slow


@pytest.fixture
def db(firestore_project):
    """A client that talks to nothing but the emulator."""
    client = firestore.Client(project=firestore_project)
    yield client
    client.close()


@pytest.fixture
def make(firestore_project, tmp_path):
    made = []

    def build(**settings):
        app, bgtasks = Flask("app", instance_path=str(tmp_path)), BackgroundTasks()
        given = {"sinks": ["firestore"], "firebase_project": firestore_project, "progress_interval": 0.02}
        given["show_errors"] = True
        bgtasks.init_app(app, **{**given, **settings})
        app.bgtasks = bgtasks
        made.append(app)
        return app

    yield build
    for app in made:
        app.extensions["bgtasks"].close(grace=PATIENCE)


def read(db, collection, request_id):
    return db.collection(collection).document(request_id).get(retry=None, timeout=PATIENCE).to_dict()


def ended(db, request_id):
    return until(lambda: (d := read(db, "background_tasks", request_id)) and d["completed_at"] and d)


def run(app, function, **options):
    task = app.bgtasks.task(name="lesson", **options)(function)
    with app.app_context():
        handle = task.submit(owner="ada")
        handle.wait_until_done(timeout=PATIENCE)
    return handle


# -- the documents -------------------------------------------------------------------------------------------------


def test_a_task_has_the_two_published_documents_with_native_times_and_its_owner(make, db):
    def lesson():
        with step("Write", details="8 sections"):
            return {"blocks": [{"title": "Whales", "minutes": 3}], "score": 0.5, "none": None}

    handle = run(make(), lesson, steps=["Write"])

    document = ended(db, handle.request_id)
    task = handle.task
    assert document == {
        "request_id": handle.request_id,
        "status": "completed",
        "created_at": task.created_at,
        "completed_at": task.completed_at,
        "result_data": {"blocks": [{"title": "Whales", "minutes": 3}], "score": 0.5, "none": None},
        "error_message": None,
        "name": "lesson",
        "owner_uid": "ada",
        "attempt": 1,
        "seq": task.seq,
        "updated_at": task.updated_at,
        "expire_at": task.expire_at,
        "retry_at": None,
        "rejected": False,
        "result_status": 200,
    }
    progress = until(lambda: (p := read(db, "request_progress", handle.request_id))["status"] == "completed" and p)
    assert (progress["progress_percentage"], progress["step"], progress["total_steps"]) == (100, "Write", 1)
    assert (progress["owner_uid"], progress["expire_at"], progress["seq"]) == ("ada", task.expire_at, task.seq)


def test_the_collections_names_can_be_chosen(make, db):
    handle = run(make(firestore_tasks="jobs", firestore_progress="job_progress"), lambda: 1)

    until(lambda: (d := read(db, "jobs", handle.request_id)) and d["result_data"] == 1)
    assert read(db, "job_progress", handle.request_id)["status"] == "completed"


def test_a_failure_is_mirrored_with_its_message(make, db):
    def lesson():
        raise RuntimeError("the model said no")

    handle = run(make(), lesson)

    document = ended(db, handle.request_id)
    assert (document["status"], document["error_message"]) == ("failed", "the model said no")


DEEP = json.loads('{"a":' * 25 + "1" + "}" * 25)
UNUSUAL = {
    "a list in a list": [[1, 2], [3]],
    "deep": DEEP,
    "a reserved name": {"__name__": 1},
    "an empty key": {"": 1},
    "a large number": 2**70,
    "many values": list(range(15_000)),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_firestore_refuses_is_kept_as_json_text(make, db, what):
    handle = run(make(), lambda: UNUSUAL[what])

    document = ended(db, handle.request_id)
    assert document["result_encoding"] == "json"
    assert documents.read_result(document, []) == UNUSUAL[what]


def test_half_a_surrogate_pair_is_replaced_in_the_mirror_as_everywhere(make, db):
    handle = run(make(), lambda: {"text": "\ud83d"})

    assert ended(db, handle.request_id)["result_data"] == {"text": "\ufffd"}


FITTING = {
    "a long text": "x" * 650_000,
    "a long text of two bytes each": "é" * 340_000,
    "many numbers": {"n": list(range(9000))},
    "an empty list": [],
    "an empty text": "",
    "odd keys": {"a.b": {"c/d": 1}},
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits_stands_in_the_document(make, db, what):
    value = FITTING[what]
    handle = run(make(), lambda: value)

    document = ended(db, handle.request_id)
    assert document["result_data"] == value
    assert "result_chunks" not in document


@pytest.mark.parametrize("size", [800_000, 5 * 2**20])
def test_a_larger_result_lies_beside_it_in_pieces_that_can_be_told_to_be_whole(make, db, size):
    value = {"text": "é" * (size // 2)}
    handle = run(make(), lambda: value)

    document = ended(db, handle.request_id)
    reference = db.collection("background_tasks").document(handle.request_id)
    chunks = [chunk.to_dict()["data"] for chunk in reference.collection("chunks").order_by("number").stream()]
    assert document["result_data"] is None
    assert document["result_chunks"]["count"] == len(chunks)
    assert documents.read_result(document, chunks) == value
    with pytest.raises(ValueError, match="incomplete"):
        documents.read_result(document, chunks[:-1])


def test_a_task_that_is_erased_is_erased_here_too(make, db):
    app = make()
    handle = run(app, lambda: "x" * 800_000)
    ended(db, handle.request_id)
    reference = db.collection("background_tasks").document(handle.request_id)

    state = app.extensions["bgtasks"]
    state.store.delete(handle.request_id, deliveries=state.deliveries.erasure(handle.request_id))
    state.deliveries.wake()

    until(lambda: not reference.get().exists)
    assert list(reference.collection("chunks").stream()) == []
    assert not db.collection("request_progress").document(handle.request_id).get().exists


# -- progress ------------------------------------------------------------------------------------------------------


def test_progress_is_followed_and_written_at_most_once_a_second(make, db):
    app, seen = make(), []
    writes = count_writes(app, "request_progress")

    def lesson():
        with step("Write"):
            until_ = time.monotonic() + 3.3
            while time.monotonic() < until_:
                current_task.update(fraction=1 - (until_ - time.monotonic()) / 3.4, details=f"{time.monotonic():.3f}")
                time.sleep(0.005)

    task = app.bgtasks.task(name="lesson", steps=["Write"])(lesson)
    with app.app_context():
        handle = task.submit()
        watching = db.collection("request_progress").document(handle.request_id)
        while not handle.task.done:
            found = watching.get().to_dict()
            if found and (not seen or seen[-1] != found["progress_percentage"]):
                seen.append(found["progress_percentage"])
            time.sleep(0.02)
    until(lambda: watching.get().to_dict()["status"] == "completed")

    assert len(seen) >= 3  # in 3.3 seconds
    assert seen == sorted(seen)
    assert len(writes) <= 4
    gaps = [later - earlier for earlier, later in itertools.pairwise(writes)]
    assert min(gaps) >= 0.95, gaps


def count_writes(app, collection):
    """The times of the bound progress writes of one sink."""
    sink, times = app.extensions["bgtasks"].plugins.get("firestore"), []
    write = sink._write_progress

    def counted(due):
        times.extend(one.page.written for one in due)
        write(due)

    sink._write_progress = counted
    return times


def test_many_tasks_share_a_call(make, db):
    app, gates, calls = make(workers=12), [threading.Event(), threading.Event()], []
    sink = app.extensions["bgtasks"].plugins.get("firestore")
    write = sink._write_progress

    def counted(due):
        calls.append(len(due))
        if gates[0].is_set() and len(calls) == 1:  # a slow call: meanwhile all that it has not taken reports
            until(lambda: sum(page.newest is not None for page in sink._pages.values()) >= 12 - len(due))
        write(due)

    sink._write_progress = counted

    def lesson():
        for number, gate in enumerate(gates, 1):
            current_task.update(fraction=number / 4)
            assert gate.wait(PATIENCE)

    def shown(percentage):
        return all(
            (read(db, "request_progress", handle.request_id) or {}).get("progress_percentage") == percentage
            for handle in handles
        )

    task = app.bgtasks.task(name="lesson")(lesson)
    with app.app_context():
        handles = [task.submit() for _ in range(12)]
        until(lambda: shown(25))
        until(lambda: all(time.monotonic() - page.written > 1 for page in sink._pages.values()))
        calls.clear()
        gates[0].set()  # all report at once, and all may be written
        until(lambda: shown(50))
        gates[1].set()
        for handle in handles:
            handle.wait(timeout=PATIENCE)

    assert sum(calls) >= 12
    assert max(calls) >= 6  # the first call's or, all the others', the second's


def test_progress_that_comes_late_does_not_overtake_the_end(make, db):
    app = make()
    sink = app.extensions["bgtasks"].plugins.get("firestore")
    handle = run(app, lambda: 1)
    ended(db, handle.request_id)
    until(lambda: read(db, "request_progress", handle.request_id)["status"] == "completed")
    task = handle.task.evolve(status=handle.task.status.PROCESSING)
    late = handle.progress.__class__(handle.task.created_at, 1, 33.0)
    page = sink_module._Page(newest=(task, late))

    sink._write_progress([sink_module._Due(handle.request_id, page, task, late)])

    assert read(db, "request_progress", handle.request_id)["progress_percentage"] == 100


def test_a_new_process_does_not_begin_with_all_that_it_has():
    ramp, sent = Ramp(), 0
    for tick in range(1, 101):
        sent += ramp.grant(1000, tick / 100)

    assert 900 <= sent <= 1010  # a full bucket, and what a second adds
    assert ramp.grant(10_000, 301.0) == 500 + 250


# -- outages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_emulator(tmp_path, monkeypatch, firestore_project):
    """An emulator that may be killed: it is nobody else's."""
    from tests.backends.firestore import Emulator

    emulator = Emulator(tmp_path)
    emulator.start()
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    yield emulator
    emulator.thaw()
    emulator.kill()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_an_outage_costs_the_tasks_nothing_and_everything_arrives_afterwards(
    own_emulator, make, how, firestore_project
):
    app = make(workers=4)
    task = app.bgtasks.task(name="lesson")(lambda n: n)
    with app.app_context():
        first = task.submit(0)
        first.wait(timeout=PATIENCE)
        store = app.extensions["bgtasks"].store
        until(lambda: store.stats().deliveries_pending == 0)
        own_emulator.kill() if how == "killed" else own_emulator.freeze()
        begun = time.monotonic()
        handles = [task.submit(n) for n in range(10)]
        assert [handle.wait(timeout=PATIENCE) for handle in handles] == list(range(10))
        took = time.monotonic() - begun
        assert store.stats().deliveries_pending > 0
        own_emulator.start() if how == "killed" else own_emulator.thaw()
        until(lambda: store.stats().deliveries_pending == 0, timeout=60)

    assert took < 20  # 33 calls, two seconds until each is given up
    assert store.dead_deliveries() == []
    client = firestore.Client(project=firestore_project)
    assert [read(client, "background_tasks", h.request_id)["result_data"] for h in handles] == list(range(10))
    client.close()


def test_what_can_never_succeed_is_a_dead_letter_that_says_what_to_mend(make, monkeypatch):
    from google.api_core.exceptions import PermissionDenied

    app = make()
    sink = app.extensions["bgtasks"].plugins.get("firestore")

    def refused(*args):
        raise PermissionDenied("Missing or insufficient permissions.")

    monkeypatch.setattr(sink, "_write_both", refused)
    run(app, lambda: 1)

    store = app.extensions["bgtasks"].store
    letter = until(lambda: store.dead_deliveries())[0]
    assert "roles/datastore.user" in letter.error


# -- credentials ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_emulator(monkeypatch):
    for name in ("FIRESTORE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")


def key_file(path, project="from-the-key"):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    content = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "1",
        "private_key": pem,
        "client_email": f"tests@{project}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    }
    path.write_text(json.dumps(content))
    return path


def build(root, **settings):
    app = Flask("app", root_path=str(root), instance_path=str(root))
    BackgroundTasks(app, sinks=["firestore"], **settings)
    state = app.extensions["bgtasks"]
    state.close(grace=0)
    return state.plugins.get("firestore")._firestore


def test_without_credentials_init_app_says_what_there_is_to_do(no_emulator, tmp_path):
    with pytest.raises(ConfigurationError, match="BGTASKS_FIREBASE_CREDENTIALS"):
        build(tmp_path)


def test_a_key_file_in_the_apps_root_is_found(no_emulator, tmp_path):
    key_file(tmp_path / "firebase-service-account.json")

    assert "from-the-key" in repr(build(tmp_path))


def test_a_named_key_file_wins_and_the_project_can_be_another(no_emulator, tmp_path):
    key_file(tmp_path / "firebase-service-account.json", "not-this")
    key_file(tmp_path / "mine.json", "mine")

    assert "mine" in repr(build(tmp_path, firebase_credentials="mine.json"))
    assert "other" in repr(build(tmp_path, firebase_credentials="mine.json", firebase_project="other"))


@pytest.mark.parametrize("content", [None, "{}", "no JSON"])
def test_a_key_file_that_is_none_is_refused(no_emulator, tmp_path, content):
    if content is not None:
        (tmp_path / "key.json").write_text(content)

    with pytest.raises(ConfigurationError, match=r"BGTASKS_FIREBASE_CREDENTIALS: .*key\.json"):
        build(tmp_path, firebase_credentials="key.json")


def test_application_default_credentials_are_found(no_emulator, tmp_path, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file(tmp_path / "adc.json", "by-adc")))

    assert "by-adc" in repr(build(tmp_path))


def test_an_app_of_firebase_admin_that_is_there_is_used(no_emulator, tmp_path):
    import firebase_admin
    from firebase_admin import credentials

    made = firebase_admin.initialize_app(credentials.Certificate(str(key_file(tmp_path / "x.json", "initialised"))))
    try:
        assert "initialised" in repr(build(tmp_path))
    finally:
        firebase_admin.delete_app(made)


@pytest.mark.parametrize("name", ["a/b", "__x__", "", ".."])
def test_a_collection_that_cannot_be_is_refused(firestore_project, tmp_path, name):
    with pytest.raises(ConfigurationError, match="BGTASKS_FIRESTORE_TASKS"):
        build(tmp_path, firestore_tasks=name)


# -- rules ---------------------------------------------------------------------------------------------------------


def token(uid, project):
    """An ID token as the emulator takes it: unsigned."""
    import base64

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    now = int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{project}",
        "aud": project,
        "sub": uid,
        "user_id": uid,
        "iat": now,
        "exp": now + 3600,
        "auth_time": now,
    }
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


@pytest.fixture
def ruled(make, db, firestore_emulator, firestore_project):
    """A task of ada's with a result in pieces, under the rules that the command prints; and a way to ask over REST."""
    app = make()
    printed = app.test_cli_runner().invoke(args=["bgtasks", "firestore", "rules"]).output
    handle = run(app, lambda: "x" * 800_000)
    ended(db, handle.request_id)
    until(lambda: read(db, "request_progress", handle.request_id)["status"] == "completed")
    firestore_emulator.set_rules(firestore_project, printed)
    base = f"{firestore_emulator.url}/v1/projects/{firestore_project}/databases/(default)/documents"

    def ask(method, path, who, *, signed=False, **body):
        headers = {} if who is None and not signed else {"Authorization": f"Bearer {token(who, firestore_project)}"}
        return httpx.request(method, f"{base}{path}", headers=headers, timeout=10, **body).status_code

    return handle.request_id, ask


def query(collection, owner=None):
    where = {"fieldFilter": {"field": {"fieldPath": "owner_uid"}, "op": "EQUAL", "value": {"stringValue": owner}}}
    return {"structuredQuery": {"from": [{"collectionId": collection}], **({"where": where} if owner else {})}}


@pytest.mark.parametrize(("who", "allowed"), [("ada", True), ("eve", False), (None, False), ("", False)])
def test_an_owner_reads_their_own_and_nobody_else_does(ruled, who, allowed):
    request_id, ask = ruled
    expected = {200} if allowed else {400, 401, 403}

    for path in (f"/background_tasks/{request_id}", f"/request_progress/{request_id}"):
        assert ask("GET", path, who) in expected
    assert ask("GET", f"/background_tasks/{request_id}/chunks/00000", who) in expected
    assert ask("GET", f"/background_tasks/{request_id}/chunks", who) in expected
    for collection in ("background_tasks", "request_progress"):
        assert ask("POST", ":runQuery", who, json=query(collection, "ada")) in expected


@pytest.mark.parametrize("who", [None, 7, ""])
def test_a_task_of_nobody_is_nobodys_to_read(ruled, db, who):
    """A token whose uid is no text equals an owner who is none."""
    request_id, ask = ruled
    for name in ("background_tasks", "request_progress"):
        db.collection(name).document(request_id).update({"owner_uid": who})

    for path in (
        f"/background_tasks/{request_id}",
        f"/request_progress/{request_id}",
        f"/background_tasks/{request_id}/chunks/00000",
        f"/background_tasks/{request_id}/chunks",
    ):
        assert ask("GET", path, who, signed=True) in {400, 401, 403}


@pytest.mark.parametrize("who", ["ada", "eve", None])
def test_nothing_is_listed_across_owners_and_nobody_writes(ruled, who):
    request_id, ask = ruled
    document = {"fields": {"owner_uid": {"stringValue": who or "x"}, "status": {"stringValue": "completed"}}}
    refused = {401, 403}

    for collection in ("background_tasks", "request_progress"):
        assert ask("POST", ":runQuery", who, json=query(collection)) in refused
        assert ask("POST", ":runQuery", who, json=query(collection, "somebody-else")) in refused
        assert ask("PATCH", f"/{collection}/{request_id}", who, json=document) in refused
        assert ask("POST", f"/{collection}?documentId=new", who, json=document) in refused
        assert ask("DELETE", f"/{collection}/{request_id}", who) in refused
    assert ask("PATCH", f"/background_tasks/{request_id}/chunks/00000", who, json=document) in refused
    assert ask("GET", "/anything/else", who) in refused


@pytest.mark.parametrize("who", ["ada", "eve"])
def test_the_rules_hold_for_the_sdk_too(ruled, firestore_project, who):
    from google.api_core.exceptions import PermissionDenied

    request_id, _ = ruled
    client = firestore.Client(project=firestore_project)
    # To the emulator it speaks as the server does ("Bearer owner"); here as a user.
    as_server = [pair for pair in client._rpc_metadata if pair[0] != "authorization"]
    client._rpc_metadata_internal = [*as_server, ("authorization", f"Bearer {token(who, firestore_project)}")]
    task = client.collection("background_tasks").document(request_id)
    once = {"retry": None, "timeout": 5}

    if who == "ada":
        assert task.get(**once).get("status") == "completed"
        mine = client.collection("background_tasks").where(filter=firestore.FieldFilter("owner_uid", "==", "ada"))
        assert [found.id for found in mine.stream(**once)] == [request_id]
        assert len(list(task.collection("chunks").stream(**once))) == 1
    else:
        with pytest.raises(PermissionDenied):
            task.get(**once)
    with pytest.raises(PermissionDenied):
        list(client.collection("background_tasks").stream(**once))
    with pytest.raises(PermissionDenied):
        task.update({"status": "failed"}, **once)
    with pytest.raises(PermissionDenied):
        task.delete(**once)
    client.close()


def test_the_indexes_can_be_deployed_as_they_are_printed(make):
    runner = make(firestore_tasks="jobs").test_cli_runner()

    printed = json.loads(runner.invoke(args=["bgtasks", "firestore", "indexes"]).output)
    commands = runner.invoke(args=["bgtasks", "firestore", "indexes", "--ttl"]).output.splitlines()

    index = printed["indexes"][0]
    groups = {one["collectionGroup"] for one in printed["indexes"]}
    assert groups == {"jobs", "bgtasks_tasks", "bgtasks_deliveries", "bgtasks_names"}
    assert (index["collectionGroup"], [field["fieldPath"] for field in index["fields"]]) == (
        "jobs",
        ["owner_uid", "created_at"],
    )
    ttl = [one["collectionGroup"] for one in printed["fieldOverrides"] if one.get("ttl")]
    assert ttl == ["jobs", "request_progress", "chunks"]
    assert commands[0] == "gcloud firestore fields ttls update expire_at --collection-group=jobs --enable-ttl"
