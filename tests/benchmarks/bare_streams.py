"""Event streams as one would write them by hand: a generator and an event for each client, and everything in memory.

No store, no owner, no place to go on from, no end that is noticed, and one text for all: what the server, Flask and the
kernel cost alone. The events are as long and come as often as those of :mod:`.streams`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

from flask import Flask, Response

from . import streams

LIKE_OURS = {
    "event": "step_started",
    "request_id": "0" * 36,
    "path": [0],
    "step": "Step",
    "percentage": 0.0,
    "at": "2025",
}


def create_app() -> Flask:
    """The app that is served; its addresses are those of :func:`.streams.create_app`."""
    app = Flask("bare")
    told: list[bytes] = []
    committed: dict[int, float] = {}
    changes: set[threading.Event] = set()

    def tick() -> None:
        while True:
            time.sleep(streams.STEP_SECONDS)
            for _ in range(2):  # a step ends, the next one begins
                number = len(told) + 1
                told.append(f"id: {number}\nevent: step\ndata: {json.dumps(LIKE_OURS)}\n\n".encode())
                committed[number] = time.time()
            for change in list(changes):
                change.set()

    def start() -> dict[str, str]:
        threading.Thread(target=tick, daemon=True).start()
        return {"request_id": "bare"}

    def follow() -> Iterator[bytes]:
        seen, change = 0, threading.Event()
        changes.add(change)
        yield b"retry: 1000\n\n"
        while True:
            change.wait(streams.STEP_SECONDS * 4)
            change.clear()
            news, seen = told[seen:], len(told)
            yield b"".join(news) or b": ping\n\n"

    app.add_url_rule("/", "start", start, methods=["POST"])
    app.add_url_rule("/tasks/bare", "status", lambda: {"seq": len(told)})
    app.add_url_rule("/tasks/bare/events", "events", lambda: Response(follow(), content_type="text/event-stream"))
    app.add_url_rule("/committed", "committed", lambda: {str(seq): at for seq, at in committed.items()})
    return app
