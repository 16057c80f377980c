"""Celery with ``acks_late``: a message that nobody acknowledged is given out again.

After the visibility timeout, an hour by default; a minute here, as for tasks of less than that.
"""

from __future__ import annotations

import os

from celery import Celery

from .steps import run_all

DATABASE = 6
app = Celery("survivor", broker=f"{os.environ['BENCH_REDIS']}/{DATABASE}")
app.conf.broker_connection_retry_on_startup = True
app.conf.broker_transport_options = {"visibility_timeout": 60}
app.conf.worker_prefetch_multiplier = 1


@app.task(name="work", acks_late=True, reject_on_worker_lost=True)
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
