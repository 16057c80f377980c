"""Dramatiq as it comes: what a dead worker had is given out again when its heartbeat has been missed for a minute."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from .steps import run_all

broker = RedisBroker(url=os.environ["BENCH_REDIS"] + "/8")
dramatiq.set_broker(broker)


@dramatiq.actor
def work() -> None:
    """The whole work."""
    run_all()


def recorded() -> bool:
    """Whether the broker still has the message."""
    return any(broker.client.hlen(key) for key in broker.client.keys("dramatiq:*.msgs"))


def main(command: str) -> None:
    """Submit, or say whether the task is recorded."""
    print(work.send() if command == "submit" else recorded())
