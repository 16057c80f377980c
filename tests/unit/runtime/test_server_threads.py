"""Streams take half of the server's threads, never all of them, wherever the number of threads was configured."""

import gc
import types

import pytest

from flask_bgtasks.http.streaming.slots import Slots
from flask_bgtasks.runtime.server_threads import UNBOUNDED, streams


def called_from(module: str, function: str, **attributes: object):
    """The frame of code that a server's ``function`` in ``module`` has called, where ``self`` has these attributes."""
    source = f"def {function}(self, local_streams, environ):\n    return local_streams(environ)\n"
    namespace = {"__name__": module}
    exec(source, namespace)
    return lambda environ: namespace[function](_object(attributes), lambda e: streams(e), environ)


def _object(attributes):
    made = types.SimpleNamespace()
    for path, value in attributes.items():
        *parents, name = path.split("__")
        target = made
        for parent in parents:
            if not hasattr(target, parent):
                setattr(target, parent, types.SimpleNamespace())
            target = getattr(target, parent)
        setattr(target, name, value)
    return made


@pytest.mark.parametrize(("threads", "expected"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (8, 4), (32, 16)])
def test_half_of_gunicorns_threads(threads, expected):
    found = called_from("gunicorn.workers.gthread", "handle", cfg__threads=threads)

    assert found({"wsgi.multithread": True}) == expected


def test_a_sync_worker_has_no_thread_for_a_stream():
    assert called_from("gunicorn.workers.sync", "handle")({"wsgi.multithread": False}) == 0


def test_waitress_threads():
    assert called_from("waitress.channel", "service", adj__threads=4)({"wsgi.multithread": True}) == 2


@pytest.mark.parametrize(("multithread", "expected"), [(True, UNBOUNDED // 2), (False, 0)])
def test_werkzeugs_server(multithread, expected):
    found = called_from("werkzeug.serving", "run_wsgi", server__multithread=multithread)

    assert found({"wsgi.multithread": multithread}) == expected


@pytest.mark.parametrize(("multithread", "expected"), [(True, 2), (False, 0)])
def test_a_server_that_is_not_known_gets_the_least_that_it_allows(multithread, expected):
    assert streams({"wsgi.multithread": multithread}) == expected


def test_a_version_of_a_server_that_keeps_its_threads_elsewhere_is_like_one_that_is_not_known():
    assert called_from("gunicorn.workers.gthread", "handle", other=1)({"wsgi.multithread": True}) == 2


def test_an_executors_threads_are_counted():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as pool:
        assert pool.submit(streams, {"wsgi.multithread": True}).result() == 3


def test_slots_are_counted_and_given_back():
    slots = Slots()
    first, second = slots.take(lambda: 2), slots.take(lambda: 99)

    assert slots.take(lambda: 2) is None
    first.release()
    first.release()
    assert (slots.taken, slots.limit) == (1, 2)
    assert slots.take(lambda: 2) is not None
    second.release()


def test_a_slot_that_nobody_holds_is_given_back():
    slots = Slots(1)

    slots.take(lambda: 1)
    gc.collect()

    assert slots.taken == 0


def test_a_block_gives_its_slot_back_when_it_raises():
    slots = Slots(1)

    with pytest.raises(ZeroDivisionError), slots.take(lambda: 1):
        1 / 0  # noqa: B018

    assert slots.taken == 0


def test_the_setting_wins_over_what_the_server_has():
    assert Slots(0).take(lambda: 8) is None
