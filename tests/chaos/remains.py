"""What a run left in its store, read without the library: the same for every kind of store."""

import contextlib
import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Remains:
    """Everything that the checker wants of a store.

    `tasks`: by id, their status, attempt and seq. `histories`: by id, events as (seq, type, attempt, data), in order.
    `inputs` and `results`: by id, parsed. `checkpoints`: ids of tasks that keep some. `owed`: what is not delivered.
    """

    tasks: dict = field(default_factory=dict)
    histories: dict = field(default_factory=lambda: defaultdict(list))
    inputs: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    checkpoints: set = field(default_factory=set)
    owed: list = field(default_factory=list)
    crashes: int = 0

    @property
    def settled(self):
        """Whether nothing waits, runs, or is owed."""
        return not any(status in ("started", "processing") for status, _, _ in self.tasks.values()) and not self.owed


def of_sqlite(path):
    """Read the SQLite store."""
    left, ids = Remains(), {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
        rows = db.execute("SELECT request_id, number, status, attempt, seq, crashes FROM bgtasks_tasks")
        for request_id, number, status, attempt, seq, crashes in rows:
            ids[number] = request_id
            left.tasks[request_id] = (status, attempt, seq)
            left.crashes += crashes
        for number, seq, kind, attempt, data in db.execute(
            "SELECT task, seq, type, attempt, data FROM bgtasks_events ORDER BY task, seq"
        ):
            left.histories[ids.get(number)].append((seq, kind, attempt, json.loads(data)))
        for number, part, body in db.execute("SELECT task, part, body FROM bgtasks_payloads"):
            _add_part(left, ids.get(number), part, body)
        for row in db.execute("SELECT request_id, seq, dead, error FROM bgtasks_deliveries"):
            left.owed.append(row)
    return left


def of_firestore(client):
    """Read the Firestore store."""
    left = Remains()
    for task in client.collection("bgtasks_tasks").stream():
        found = task.to_dict()
        left.tasks[task.id] = (found["status"], found["attempt"], found["seq"])
        left.crashes += found["crashes"]
        for event in task.reference.collection("events").order_by("seq").stream():
            one = event.to_dict()
            left.histories[task.id].append((one["seq"], one["type"], one["attempt"], json.loads(one["data"])))
        for part in task.reference.collection("parts").stream():
            _add_part(left, task.id, part.id, part.to_dict()["body"])
    for letter in client.collection("bgtasks_deliveries").stream():
        one = letter.to_dict()
        left.owed.append((one["request_id"], one["seq"], one["dead"], one["error"]))
    return left


def _add_part(left, request_id, part, body):
    if part == "input":
        left.inputs[request_id] = json.loads(body)
    elif part == "result":
        with contextlib.suppress(ValueError):  # a failed view's answer may be HTML: nothing to compare
            left.results[request_id] = json.loads(body)
    elif part.startswith("checkpoint:"):
        left.checkpoints.add(request_id)
