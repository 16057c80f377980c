"""Whether a sink's service is unreachable, judged by its deliveries."""

from flask_bgtasks import Backoff
from flask_bgtasks.delivery import circuit_breaker as breaker_module
from flask_bgtasks.delivery.circuit_breaker import CircuitBreaker, Reply


def test_a_sink_that_refuses_some_deliveries_is_not_taken_for_one_that_is_down(monkeypatch):
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(first=1, longest=15))
    breaker = CircuitBreaker()
    for answered in (False, False, True, False, False):
        breaker.note(Reply(answered))

    assert (breaker.down, breaker.left) == (False, 0)
    breaker.note(Reply(False))
    assert breaker.down
    assert 0 < breaker.left <= 1
    breaker.note(Reply(True))
    assert (breaker.down, breaker.left) == (False, 0)


def test_a_pause_that_a_service_wants_is_not_forgotten_for_an_answer_from_before():
    breaker = CircuitBreaker()
    breaker.note(Reply(pause=60))
    breaker.note(Reply(pause=5))
    breaker.note(Reply())

    assert 59 < breaker.left <= 60
    assert not breaker.down


def test_what_was_not_tried_says_nothing_about_the_service(monkeypatch):
    monkeypatch.setattr(breaker_module, "PAUSES", Backoff(first=1, longest=15))
    breaker = CircuitBreaker()
    for _ in range(3):
        breaker.note(Reply(False))
        breaker.note(Reply(tried=False))

    assert breaker.down
