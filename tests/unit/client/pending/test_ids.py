"""What is no id of a task gets into no address, from wherever it comes; and says what was expected."""

import contextlib
import json
import pickle
import uuid

import pytest
from click.testing import CliRunner

from flask_bgtasks import TaskNotFound
from flask_bgtasks.client import FirestoreReader, InvalidRequestId
from flask_bgtasks.client.cli.command import main
from flask_bgtasks.client.flows import operations
from flask_bgtasks.client.io.effects import Answer
from flask_bgtasks.client.pending.ids import as_request_id, is_request_id
from flask_bgtasks.client.pending.records import Record, State
from tests.support.client.world import World

ID = "0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d"
NONE = [
    "../sample?x=",
    "x0,x1,x2",
    "",
    ".",
    "..",
    "a/b",
    "%2e%2e",
    "__x__",
    f"{ID}/../../admin",
    f"{ID}?a=b",
    f"{ID}#",
    f"{ID},{ID}",
    f"{ID}\0",
    ID.replace("0", "g", 1),
    "x" * 10_000,
]


@pytest.fixture
def world():
    world = World()
    with contextlib.closing(world.registry):
        yield world


@pytest.mark.parametrize("given", NONE, ids=lambda given: given[:40])
def test_what_is_no_id_is_refused_with_what_was_expected(world, given):
    with pytest.raises(InvalidRequestId, match="expected the id of a task, a UUID like") as caught:
        world.run(operations.follow(world.session, given))

    assert isinstance(caught.value, (TaskNotFound, ValueError))
    assert len(str(caught.value)) < 250
    assert not is_request_id(given)
    assert world.run(operations.pending(world.session)) == []
    assert world.log == []


@pytest.mark.parametrize("given", [ID.upper(), f" {ID}\n", f"{{{ID}}}", ID.replace("-", "")])
def test_an_id_is_written_as_the_server_writes_it(given):
    assert as_request_id(given) == ID


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(InvalidRequestId("../x")))

    assert (error.request_id, str(error)) == ("../x", str(InvalidRequestId("../x")))


@pytest.mark.parametrize("given", ["../x", "x0,x1", 7, None, ["a"]])
def test_an_answer_that_names_something_else_names_no_task(world, given):
    headers = {"content-type": "application/json", **({"task-id": given} if isinstance(given, str) else {})}
    world._answer = lambda *_: Answer(202, headers, json.dumps({"request_id": given}).encode())

    record = world.run(operations.submit(world.session, "/process", json={}))

    assert record.request_id is None


def test_a_record_of_an_earlier_version_with_something_else_poisons_no_poll(world):
    for name in ("x0,x1,x2", "../sample"):
        old = Record(key=name, state=State.FOLLOWING, created_at=0, expires_at=9e9, request_id=name, status="started")
        world.registry.add(old)
    task = world.accept()
    task.add("completed")
    world.run(operations.follow(world.session, task.request_id))

    outcomes = world.run(operations.check_pending(world.session))

    assert [outcome.request_id for outcome in outcomes] == [task.request_id]


def test_the_mirror_is_asked_for_ids_only(monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    reader = FirestoreReader("p", timeout=0.1)

    for read in (reader.task, reader.progress, reader.result):
        with pytest.raises(InvalidRequestId):
            read("../../other/document")


def test_the_command_says_what_it_expected():
    done = CliRunner().invoke(main, ["--url", "http://127.0.0.1:9", "--store", ":memory:", "watch", "../x"])

    assert (done.exit_code, "expected the id of a task" in done.output) == (1, True)


def test_the_ids_that_the_server_makes_are_ids():
    assert all(is_request_id(str(uuid.uuid4())) for _ in range(100))
