"""A task's result: what the view answered, or why there is none."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.http_app import PATIENCE
from tests.support.problems import problem


def test_the_result_is_the_views_answer_byte_for_byte(client, studio):
    answer = client.get(f"/tasks/{studio.done('/odd')}/result")

    assert (answer.status_code, answer.data) == (299, b"\x00\xff\r\n")
    assert answer.headers["Content-Type"] == "image/x-odd; q=1"


def test_a_result_that_is_not_there_yet_is_202(client, studio):
    request_id = studio.running()

    answer = client.get(f"/tasks/{request_id}/result")

    assert answer.status_code == 202
    assert (answer.json["request_id"], answer.json["status"]) == (request_id, "processing")
    assert answer.headers["Location"] == f"/tasks/{request_id}"
    assert int(answer.headers["Retry-After"]) > 0


def test_a_result_can_be_waited_for(client, studio):
    request_id = studio.running()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(studio.app.test_client().get, f"/tasks/{request_id}/result?wait=20")
        studio.open("gate")

        assert answer.result(PATIENCE).json == {"gate": "gate"}


def test_what_the_view_aborted_with_is_the_result(client, studio):
    answer = client.get(f"/tasks/{studio.done('/refuse/422')}/result")

    assert answer.status_code == 422
    assert "because of that" in answer.text


def test_a_task_that_failed_without_an_answer_is_a_problem(client, studio):
    @studio.bgtasks.task
    def draw():
        raise RuntimeError("no ink")

    with studio.app.app_context():
        request_id = studio.finish(draw.submit().request_id)

    assert "no ink" in problem(client.get(f"/tasks/{request_id}/result"), "task-failed")["detail"]


def test_a_functions_value_is_the_result(client, studio):
    @studio.bgtasks.task
    def add(a, b):
        return a + b

    with studio.app.app_context():
        request_id = studio.finish(add.submit(1, 2).request_id)

    assert client.get(f"/tasks/{request_id}/result").json == 3
    assert client.get(f"/tasks/{request_id}").json["result_data"] == 3


def test_tracked_code_without_a_result_is_204(client, studio):
    with studio.app.app_context(), studio.bgtasks.track_request("by-hand") as task:
        request_id = task.request_id

    assert client.get(f"/tasks/{request_id}/result").status_code == 204


def test_the_result_of_a_cancelled_task_is_409(client, studio):
    request_id = studio.running()
    client.post(f"/tasks/{request_id}/cancel")
    studio.open("gate")
    studio.finish(request_id)

    problem(client.get(f"/tasks/{request_id}/result"), "task-cancelled")
