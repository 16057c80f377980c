"""Short waits for the client's tests."""

from dataclasses import replace

from flask_bgtasks import Backoff
from flask_bgtasks.client import Timing

HASTE = replace(
    Timing(),
    stream_backoff=Backoff(first=0.02, longest=0.2),
    stream_again=2.0,
    poll=0.05,
    slowest_poll=0.1,
    monitor=0.3,
    monitor_jitter=0.05,
    slowest_monitor=0.5,
    probe=Backoff(first=0.05, longest=0.2),
    send=Backoff(first=0.02, longest=0.2),
    poll_timeout=5.0,
)
"""The usual ladder, a fraction of its waits."""
