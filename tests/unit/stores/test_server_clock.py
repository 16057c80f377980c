"""A server's time, known from its answers."""

from datetime import datetime, timedelta, timezone

from flask_bgtasks.stores.sql.drivers.server_clock import ServerClock

T0 = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class Monotonic:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def test_it_goes_on_from_the_middle_of_the_last_question():
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    assert clock.now() is None

    monotonic.seconds = 100.5
    clock.tell(T0, asked=100.0)
    monotonic.seconds = 110.25

    assert clock.now() == T0 + timedelta(seconds=10)


def test_an_answer_that_took_long_is_believed_only_where_nothing_is_known():
    monotonic = Monotonic()
    clock = ServerClock(monotonic)
    monotonic.seconds = 108.0
    clock.tell(T0, asked=100.0)
    assert clock.now() == T0 + timedelta(seconds=4)

    clock.tell(T0 + timedelta(hours=1), asked=100.0)
    assert clock.now() == T0 + timedelta(seconds=4)

    clock.tell(T0 + timedelta(hours=2), asked=108.0)
    assert clock.now() == T0 + timedelta(hours=2)
