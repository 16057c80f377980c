"""What of a task's input belongs to somebody's login: it is there for every attempt, and for nobody after the end."""

from datetime import timedelta

import pytest

from flask_bgtasks.core.model import OnInterrupt, Status, TaskKind
from flask_bgtasks.core.transitions.attempt import Cancel, Complete, Expire, Fail, Release, Retry
from flask_bgtasks.core.transitions.outside import Reopen, RequestCancel
from tests.support.stored_input import stored_input

SECRET = "s3aled-t0ken"
INPUT = {"method": "POST", "private": {"headers": SECRET, "identity": {"flask_login": "7"}}}


def everything(store) -> str:
    """All that the store keeps, as it lies there."""
    kind = type(store).__name__
    if kind == "MemoryStore":
        return str(vars(store))
    if kind == "SqlStore":
        tables = ("bgtasks_tasks", "bgtasks_payloads", "bgtasks_events", "bgtasks_deliveries")

        def operation(connection):
            return [
                [bytes(value) if isinstance(value, memoryview) else value for value in row]
                for table in tables
                for row in connection.execute(f"SELECT * FROM {table}").fetchall()
            ]

        return str(store._database.read(operation))

    def documents(collections):
        for collection in collections:
            for document in collection.list_documents():
                yield document.get().to_dict()
                yield from documents(document.collections())

    return str(list(documents(store._firestore.client.collections())))


def accepted(bench, **fields):
    return bench.create(input=INPUT, kind=TaskKind.VIEW, **fields).request_id


def completed(bench):
    request_id = accepted(bench)
    bench.claim(request_id)
    bench.store.transition(request_id, Complete(1))
    return request_id


def failed(bench):
    request_id = accepted(bench)
    bench.claim(request_id)
    bench.store.transition(request_id, Fail(1, "no"))
    return request_id


def cancelled_before_it_began(bench):
    request_id = accepted(bench)
    bench.store.transition(request_id, RequestCancel())
    return request_id


def cancelled_while_it_ran(bench):
    request_id = accepted(bench)
    bench.claim(request_id)
    bench.store.transition(request_id, RequestCancel())
    bench.store.transition(request_id, Cancel(1))
    return request_id


def cancelled_instead_of_another_attempt(bench):
    request_id = accepted(bench)
    bench.claim(request_id)
    bench.store.transition(request_id, RequestCancel())
    bench.store.transition(request_id, Retry(1, "no", timedelta(0), 3))
    return request_id


def lost_with_its_process(bench):
    request_id = accepted(bench, on_interrupt=OnInterrupt.FAIL)
    bench.claim(request_id, seconds=1)
    bench.store.transition(request_id, Expire(1))
    bench.claim(request_id, worker="another")
    return request_id


ENDS = [
    completed,
    failed,
    cancelled_before_it_began,
    cancelled_while_it_ran,
    cancelled_instead_of_another_attempt,
    lost_with_its_process,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_no_end_leaves_anything_of_the_login_in_the_store(bench, store, end):
    request_id = end(bench)

    assert store.get(request_id).done
    assert stored_input(store, request_id) == {"method": "POST"}
    assert SECRET not in everything(store)


def test_a_login_is_there_until_the_end(bench, store):
    request_id = accepted(bench)
    assert SECRET in everything(store)

    assert bench.claim(request_id).input == INPUT
    store.transition(request_id, Release(1))
    assert bench.claim(request_id).input == INPUT
    store.transition(request_id, Retry(2, "no", timedelta(0), 3))
    assert bench.claim(request_id).input == INPUT


def test_a_task_that_is_opened_again_takes_the_login_of_who_opens_it(bench, store):
    request_id = failed(bench)

    store.transition(request_id, Reopen({"headers": "another"}))

    assert bench.claim(request_id).input == {"method": "POST", "private": {"headers": "another"}}
    store.transition(request_id, Fail(2, "no"))
    store.transition(request_id, Reopen())
    assert bench.claim(request_id).input == {"method": "POST"}


def test_a_task_without_a_login_is_opened_again_with_one(bench, store):
    request_id = bench.create(input={"method": "POST"}, kind=TaskKind.VIEW).request_id
    store.transition(request_id, RequestCancel())

    store.transition(request_id, Reopen({"headers": SECRET}))

    assert bench.claim(request_id).input == {"method": "POST", "private": {"headers": SECRET}}
    store.transition(request_id, Complete(1))
    assert store.get(request_id).status is Status.COMPLETED
    assert SECRET not in everything(store)


def test_what_is_erased_takes_the_login_along(bench, store):
    request_id = completed(bench)

    store.delete(request_id)

    assert SECRET not in everything(store)
