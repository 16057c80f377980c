"""Whose word an answer is, by the table that the browser module is tested with too; and what that does to a task."""

import contextlib
import itertools
import json
from pathlib import Path

import pytest

from flask_bgtasks.client import CredentialsRefused, TaskGone, TaskRejected, Unreachable
from flask_bgtasks.client.flows import operations, provenance
from flask_bgtasks.client.io.effects import Answer
from flask_bgtasks.client.pending.records import State
from flask_bgtasks.http import problems
from tests.support.client.world import World

ID = "0c9b4f0e-6a52-4d0e-9f0a-2f6c1f9f4b7d"
TABLE = json.loads((Path(__file__).parents[3] / "data/answers.json").read_text("utf-8").replace("ID", ID))
NGINX = {"content-type": "text/html"}
OURS = {"content-type": "application/problem+json"}


def answer_of(row):
    return Answer(row["status"], row["headers"], row["body"].encode())


@pytest.mark.parametrize(
    "row", [row for row in TABLE["submissions"] if row.get("only") != "js"], ids=lambda row: row["name"]
)
def test_a_submission_is_judged_by_whose_answer_it_got(row):
    found = provenance.judge(answer_of(row))

    assert found.verdict == row["verdict"]
    assert found.request_id == (ID if row["verdict"] == "accepted" else None)


@pytest.mark.parametrize("row", TABLE["refusals"], ids=lambda row: row["name"])
def test_under_the_prefix_a_refusal_is_a_problem_of_ours_or_of_no_type(row):
    answer = answer_of(row)

    assert (provenance.is_refusal(answer), provenance.is_ours(answer)) == (row["refusal"], row["final"])


def test_the_problems_are_known_by_the_address_that_the_server_gives_them():
    assert problems.BASE == provenance.PROBLEMS


# -- what it does to a submission ----------------------------------------------------------------------------------


class Between(World):
    """A world with something between the client and the server, which may answer in its place."""

    def __init__(self, **options):
        super().__init__(**options)
        self.between = {}  # the end of a path, and what is answered there

    def _answer(self, effect, path, query):
        for end, answer in self.between.items():
            if path.endswith(end):
                return answer
        return super()._answer(effect, path, query)


@pytest.fixture
def world():
    world = Between()
    with contextlib.closing(world.registry):
        yield world


def submitted(world):
    return world.run(operations.submit(world.session, "/process", json={}))


@pytest.mark.parametrize("status", [200, 302, 403, 404, 405, 407, 413, 421])
def test_what_something_on_the_way_answers_is_tried_again_and_becomes_one_task(world, status):
    world.between["/process"] = Answer(status, NGINX, b"<h1>Sorry")
    record = submitted(world)
    world.at(3600, world.between.clear)
    world.at(4000, lambda: next(iter(world.tasks.values())).add("completed"))
    assert record.state is State.QUEUED
    assert f"{status} (text/html)" in record.error_message

    world.run(operations.wait(world.session, record.key))

    gaps = [b - a for a, b in itertools.pairwise(world.asked("POST /process"))]
    assert len(world.tasks) == 1
    assert 100 < max(gaps) <= 301
    assert world.registry.get(record.key).error_message is None


def test_after_a_day_it_is_said_what_answered(world, caplog):
    world.between["/process"] = Answer(403, NGINX, b"<h1>Blocked")
    record = submitted(world)
    assert "403 (text/html)" in caplog.text

    with pytest.raises(TaskRejected, match=r"for 24 hours .*403 \(text/html\).*does not look like the backend's"):
        world.run(operations.wait(world.session, record.key))

    assert 24 * 3600 <= world.now - 1000 < 24.2 * 3600


def test_the_day_begins_with_the_first_such_answer_and_not_with_the_submission(world):
    world.backend = False
    record = submitted(world)
    world._to(world.now + 3 * 24 * 3600)
    world.backend = True
    world.between["/process"] = Answer(404, NGINX)

    world.run(operations.check_pending(world.session))

    assert world.registry.get(record.key).state is State.QUEUED


def test_one_that_is_stopped_on_the_way_keeps_no_other_one_from_being_sent(world):
    world.between["/blocked"] = Answer(403, NGINX)
    world.run(operations.submit(world.session, "/blocked", json={"q": "1 OR 1=1"}))
    world.backend = False
    other = submitted(world)
    world.backend = True

    world.run(operations.check_pending(world.session))

    assert world.registry.get(other.key).state is State.FOLLOWING


@pytest.mark.parametrize("status", [302, 303])
def test_a_redirect_of_the_app_to_its_login_waits_for_other_credentials(world, status):
    world.session.headers = {"Cookie": "session=old"}
    world.between["/process"] = Answer(status, {"location": "/login", "vary": "Prefer"})
    record = submitted(world)
    assert record.state is State.BLOCKED
    world.between.clear()

    world.session.headers = {"Cookie": "session=new"}
    world.run(operations.check_pending(world.session))

    assert world.registry.get(record.key).state is State.FOLLOWING


# -- what it does to a task ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 403, 404, 410])
def test_no_middleman_makes_a_task_gone(world, status):
    record = submitted(world)
    task = world.tasks[record.request_id]
    world.streams = False
    world.between["/tasks"] = Answer(status, NGINX, b"<h1>404")
    world.at(60, lambda: task.add("completed"))
    world.at(120, world.between.clear)

    assert world.run(operations.wait(world.session, record.key)) == {"n": record.request_id}


@pytest.mark.parametrize(
    "answer", [Answer(404, NGINX), Answer(410, NGINX), Answer(409, {}), Answer(200, NGINX, b"<h1>")]
)
def test_no_middleman_gives_or_takes_a_result(world, answer):
    record = submitted(world)
    world.tasks[record.request_id].add("completed")
    world.between["/result"] = answer
    world.at(60, world.between.clear)

    assert world.run(operations.wait(world.session, record.key)) == {"n": record.request_id}


def test_the_backend_itself_may_say_that_a_result_is_gone(world):
    record = submitted(world)
    world.tasks[record.request_id].add("completed")
    world.between["/result"] = Answer(410, OURS, json.dumps({"type": f"{problems.BASE}task-expired"}).encode())

    with pytest.raises(TaskGone):
        world.run(operations.wait(world.session, record.key))


@pytest.mark.parametrize("answer", [Answer(200, NGINX), Answer(404, NGINX), Answer(302, {"location": "/"})])
def test_that_an_outcome_was_seen_is_said_to_the_backend_and_to_nobody_else(world, answer):
    record = submitted(world)
    world.tasks[record.request_id].add("completed")
    world.between["/seen"] = answer

    world.run(operations.wait(world.session, record.key))

    assert world.registry.get(record.key).state is State.ANNOUNCED
    world.between.clear()
    world.run(operations.check_pending(world.session))
    assert world.registry.get(record.key).state is State.ACKED


@pytest.mark.parametrize("answer", [Answer(200, NGINX, b"<h1>Hi"), Answer(404, NGINX), Answer(409, NGINX)])
@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_no_middleman_cancels_or_retries(world, what, answer):
    record = submitted(world)
    world.between[f"/{what}"] = answer

    with pytest.raises(Unreachable, match="does not look like the backend's"):
        world.run(getattr(operations, what)(world.session, record.key))


def test_a_task_id_with_a_401_is_a_task_and_no_question_for_a_login(world):
    world.between["/process"] = Answer(401, {"task-id": ID})

    assert submitted(world).request_id == ID


def test_any_401_keeps_the_submission_and_waits(world):
    world.session.headers = {"Authorization": "old"}
    world.between["/process"] = Answer(401, NGINX)
    record = submitted(world)

    with pytest.raises(CredentialsRefused):
        world.run(operations.wait(world.session, record.key))

    assert world.registry.get(record.key).state is State.BLOCKED
