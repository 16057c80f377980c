"""The two drivers carry the same flow out alike: results, errors, events, and a consumer that leaves."""

import asyncio
import threading

import pytest

from flask_bgtasks.client.io.drivers import AwaitingDriver, BlockingDriver
from flask_bgtasks.client.io.effects import Call, Emit, Left, Request, Sleep, Tell, within

REQUEST = Request(method="GET", path="/", headers={}, timeout=5.0)


def blocking(flow):
    return BlockingDriver(None).run(flow)


def awaiting(flow):
    return asyncio.run(AwaitingDriver(None).run(flow))


def listed(flow, *, most=None):
    """The events of a flow by both drivers; after so many the consumer leaves."""
    found = []
    for event in BlockingDriver(None).events(flow()):
        found.append(event)
        if len(found) == most:
            break

    async def consume():
        events, got = AwaitingDriver(None).events(flow()), []
        async for event in events:
            got.append(event)
            if len(got) == most:
                await events.aclose()
                break
        return got

    assert asyncio.run(consume()) == found
    return found


@pytest.mark.parametrize("run", [blocking, awaiting])
def test_a_flow_gets_what_it_asks_for_and_returns(run):
    def flow():
        three = yield Call(lambda a, b: a + b, (1, 2))
        yield Sleep(0)
        four = yield Tell(lambda n: n + 1, three)
        return four

    assert run(flow()) == 4


@pytest.mark.parametrize("run", [blocking, awaiting])
def test_what_fails_is_thrown_into_the_flow_which_may_go_on(run):
    def flow():
        try:
            yield Call(int, ("x",))
        except ValueError:
            return (yield Call(str, (1,)))

    assert run(flow()) == "1"


@pytest.mark.parametrize("run", [blocking, awaiting])
def test_a_flow_that_is_broken_off_tidies_up_by_effects_first(run):
    done = []

    def interrupted():
        raise KeyboardInterrupt

    def flow():
        try:
            yield Call(interrupted)
        finally:
            yield Call(done.append, ("tidied",))

    with pytest.raises(KeyboardInterrupt):
        run(flow())
    assert done == ["tidied"]


def test_events_come_out_and_leaving_early_is_told_to_the_flow():
    done = []

    def flow():
        try:
            for n in range(5):
                yield Emit(n)
        except Left:
            done.append("left")
            raise
        finally:
            yield Call(done.append, ("tidied",))

    assert listed(flow) == [0, 1, 2, 3, 4]
    assert listed(flow, most=2) == [0, 1]
    assert done == ["tidied"] * 2 + ["left", "tidied"] * 2


def test_coroutine_functions_are_awaited_and_what_blocks_runs_in_a_thread():
    async def double(n):
        return 2 * n

    async def token():
        return "fresh"

    def flow():
        thread = yield Call(threading.get_ident)
        return (yield Tell(double, 4)), (yield Call(token)), thread

    eight, fresh, thread = awaiting(flow())

    assert (eight, fresh) == (8, "fresh")
    assert thread != threading.get_ident()


def test_a_flow_that_emits_has_to_be_iterated():
    def flow():
        yield Emit(1)

    for run in (blocking, awaiting):
        with pytest.raises(TypeError, match="iterate"):
            run(flow())


def test_requests_wait_no_longer_than_there_is_time():
    left = iter([2.0, 0.0, None])

    def flow():
        for _ in range(3):
            yield REQUEST

    assert [effect.timeout for effect in within(flow(), lambda: next(left))] == [2.0, 0.05, 5.0]
