"""Real servers, ill-treated at random; afterwards every promise has to hold. The long form runs with `make soak`."""

import functools
import os

import pytest

from tests.chaos.checker import digest
from tests.chaos.driver import Run
from tests.chaos.engines import Celery, External, Own, Rq
from tests.chaos.stores import Firestore, Postgresql, Sqlite

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # on Firestore, beside other tests, it takes four minutes

LONG_SECONDS = float(os.environ.get("CHAOS_SECONDS", "600"))
MINIMUM = {Sqlite: (2000, 200), Postgresql: (800, 100)}  # tasks and faults in ten minutes
RATES = {Sqlite: 9.0, Postgresql: 4.0}  # tasks asked for in a second: two cores do the hurting and the looking too
ENGINE_RATE, ENGINE_MINIMUM = 1.5, (400, 100)  # as those two, where three or four tasks run at once
SEED = int(os.environ["CHAOS_SEED"]) if "CHAOS_SEED" in os.environ else None  # a soak's is another one each time
SHORT_SEED = SEED or 1481071889  # the same faults in the same order, so that two runs of the suite say the same


WORKERS = {Celery: 2, Rq: 3}  # Celery's run two tasks each
EVERY_LAYER = (  # what is done for sure to each part of such a run: the store, the queue, and who runs the tasks
    *("kill database", "kill redis", "flush redis", "double messages"),
    *("kill worker", "kill child", "terminate"),
)
DEPLOYS = ["deploys"]  # three deaths in a row; where a process runs one task, that is what a task may do itself


@pytest.mark.slow
@pytest.mark.parametrize(("store", "engine", "surely"), [(Sqlite, Own, ()), (Postgresql, External, ["kill database"])])
def test_whatever_breaks_every_accepted_task_ends_once(tmp_path, store, engine, surely):
    _need(store)
    run = Run(tmp_path / "run", store, engine, seed=SHORT_SEED)

    violations = run.go(10, tasks=20, surely=surely, besides=DEPLOYS)  # which takes as long as all the others

    print(run.summary())
    assert digest(violations) == [], run.summary()
    assert run.tasks >= 20, run.summary()
    assert run.injuries.keys() >= {*surely}, run.summary()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [Celery, Rq])
def test_the_same_holds_where_the_workers_of_another_queue_run_the_tasks(tmp_path, engine):
    _need(Postgresql, engine)
    options = {"workers": WORKERS[engine], "rate": 1.0, "pauses": (0.5, 2.0)}
    run = Run(tmp_path / "run", Postgresql, engine, seed=SHORT_SEED, **options)

    violations = run.go(8, tasks=8, surely=EVERY_LAYER, besides=DEPLOYS)

    print(run.summary())
    assert digest(violations) == [], run.summary()
    assert run.tasks >= 8, run.summary()
    assert run.injuries.keys() >= {*EVERY_LAYER}, run.summary()


PLANTED = [
    # Nobody publishes again what the queue has forgotten, or whose worker died.
    (Rq, "CHAOS_NO_SWEEP", ("kill redis", "flush redis", "kill child"), "it is started, and nobody works on it"),
    # A process that slept through its lease goes on as if nothing had happened.
    (Celery, "CHAOS_NO_FENCE", ("freeze child",), "had the task"),
]


@pytest.mark.soak
@pytest.mark.parametrize(("engine", "plant", "faults", "sentence"), PLANTED)
def test_a_fault_that_is_planted_in_the_library_is_found(tmp_path, engine, plant, faults, sentence):
    _need(Postgresql, engine)
    run = Run(tmp_path / "run", Postgresql, engine, seed=SHORT_SEED, rate=2.0, settle=10, plant=plant)

    violations = run.go(8, tasks=8, surely=faults, only=faults)

    print(run.summary())
    assert [violation for violation in violations if sentence in violation], digest(violations)


@pytest.mark.slow
def test_the_same_holds_where_firestore_is_the_store(tmp_path, firestore_project):
    from google.cloud import firestore

    client = firestore.Client(project=firestore_project)
    run = Run(tmp_path / "run", functools.partial(Firestore, client=client), External, seed=SHORT_SEED, rate=2.0)

    violations = run.go(12, tasks=10)
    client.close()

    print(run.summary())
    assert digest(violations) == [], run.summary()
    assert run.tasks >= 10, run.summary()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", [Sqlite, Postgresql])
def test_for_ten_minutes_whatever_breaks_every_accepted_task_ends_once(tmp_path, store, capsys):
    _need(store)
    run = Run(tmp_path / "run", store, seed=SEED, rate=RATES[store])

    violations = run.go(LONG_SECONDS)

    with capsys.disabled():
        print(f"\n{run.summary()}; {len(violations)} violations")
    assert digest(violations) == [], run.summary()
    tasks, faults = MINIMUM[store]
    assert run.stored >= LONG_SECONDS / 600 * tasks, run.summary()  # with those of bursts: all are checked alike
    assert run.injuries.total() >= LONG_SECONDS / 600 * faults, run.summary()


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("engine", [Celery, Rq])
def test_the_same_holds_for_ten_minutes_in_the_workers_of_another_queue(tmp_path, engine, capsys):
    _need(Postgresql, engine)
    run = Run(tmp_path / "run", Postgresql, engine, seed=SEED, workers=WORKERS[engine], rate=ENGINE_RATE)

    violations = run.go(LONG_SECONDS, besides=DEPLOYS)

    with capsys.disabled():
        print(f"\n{run.summary()}; {len(violations)} violations")
    assert digest(violations) == [], run.summary()
    tasks, faults = ENGINE_MINIMUM
    assert run.stored >= LONG_SECONDS / 600 * tasks, run.summary()
    assert run.injuries.total() >= LONG_SECONDS / 600 * faults, run.summary()


def _need(store, engine=Own):
    if store is Postgresql:
        pytest.importorskip("psycopg")
    if engine is not Own:
        pytest.importorskip(engine.name)
