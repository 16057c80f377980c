"""Celery as it comes: a message is acknowledged when its task begins."""

from __future__ import annotations

import os

from celery import Celery

from .steps import run_all

DATABASE = 5
app = Celery("survivor", broker=f"{os.environ['BENCH_REDIS']}/{DATABASE}")
app.conf.broker_connection_retry_on_startup = True


@app.task(name="work")
def work() -> int:
    """The whole work."""
    return run_all()


def recorded() -> bool:
    """Whether the broker still has the message."""
    with app.connection_or_acquire() as connection:
        client = connection.default_channel.client
        return bool(client.llen("celery") or client.hlen("unacked"))


def main(command: str) -> None:
    """Submit, or say whether the task is recorded."""
    print(work.delay() if command == "submit" else recorded())
