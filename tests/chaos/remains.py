"""What a run left in its store, read without the library: the same for every kind of store."""

import contextlib
import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone


@dataclass
class Remains:
    """Everything that the checker wants of a store.

    `tasks`: by id, their status, attempt and seq. `names` and `errors`: by id, what they are called, why they failed.
    `histories`: by id, events as (seq, type, attempt, data), in order. `times`: by id and seq, when (RFC 3339).
    `inputs` and `results`: by id, parsed. `checkpoints`: ids of tasks that keep some. `pending`: what is not delivered.
    """

    tasks: dict = field(default_factory=dict)
    names: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    times: dict = field(default_factory=dict)
    histories: dict = field(default_factory=lambda: defaultdict(list))
    inputs: dict = field(default_factory=dict)
    results: dict = field(default_factory=dict)
    checkpoints: set = field(default_factory=set)
    pending: list = field(default_factory=list)
    crashes: int = 0


@dataclass
class Unsettled:
    """What is not done yet; cheap to ask for, again and again.

    `unfinished`: the ids of tasks that have not ended. `pending`: how much is not delivered.
    """

    unfinished: set
    pending: int

    def __bool__(self):
        return bool(self.unfinished or self.pending)


UNFINISHED = ("started", "processing")


def sqlite(path):
    """The SQLite store, to be read."""
    return contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20))


def postgresql(folder, port):
    """The PostgreSQL store, by the server's socket: what is between it and the app is not in the way."""
    import psycopg

    return psycopg.connect(host=str(folder), port=port, user="postgres", dbname="postgres", connect_timeout=5)


def unsettled_of_sql(db):
    """What is not done yet in a SQL store."""
    ids = db.execute(f"SELECT request_id FROM bgtasks_tasks WHERE status IN {UNFINISHED}").fetchall()
    return Unsettled({i for (i,) in ids}, db.execute("SELECT count(*) FROM bgtasks_deliveries").fetchone()[0])


def of_sql(db):
    """Everything in a SQL store."""
    left, ids = Remains(), {}
    columns = "request_id, number, status, attempt, seq, crashes + suspicions, name, error_message"
    for request_id, number, status, attempt, seq, crashes, name, error in db.execute(
        f"SELECT {columns} FROM bgtasks_tasks"
    ):
        ids[number] = request_id
        left.tasks[request_id] = (status, attempt, seq)
        left.names[request_id], left.errors[request_id] = name, error
        left.crashes += crashes
    for number, seq, kind, attempt, data, at in db.execute(
        "SELECT task, seq, type, attempt, data, at FROM bgtasks_events ORDER BY task, seq"
    ):
        left.histories[ids.get(number)].append((seq, kind, attempt, json.loads(data)))
        at = datetime.fromtimestamp(at // 10**6, timezone.utc).replace(microsecond=at % 10**6)
        left.times[ids.get(number), seq] = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    for number, part, body in db.execute("SELECT task, part, body FROM bgtasks_payloads"):
        _add_part(left, ids.get(number), part, body)
    for row in db.execute("SELECT request_id, seq, dead, error FROM bgtasks_deliveries"):
        left.pending.append(row)
    return left


def unsettled_of_firestore(client):
    """What is not done yet in the Firestore store."""
    from google.cloud.firestore import FieldFilter

    tasks = client.collection("bgtasks_tasks").where(filter=FieldFilter("status", "in", UNFINISHED)).select([]).stream()
    pending = client.collection("bgtasks_deliveries").select([]).stream()
    return Unsettled({task.id for task in tasks}, sum(1 for _ in pending))


def of_firestore(client):
    """Everything in the Firestore store."""
    left = Remains()
    for task in client.collection("bgtasks_tasks").stream():
        found = task.to_dict()
        left.tasks[task.id] = (found["status"], found["attempt"], found["seq"])
        left.names[task.id], left.errors[task.id] = found["name"], found.get("error_message")
        left.crashes += found["crashes"] + found.get("suspicions", 0)
        for event in task.reference.collection("events").order_by("seq").stream():
            one = event.to_dict()
            left.histories[task.id].append((one["seq"], one["type"], one["attempt"], json.loads(one["data"])))
        for part in task.reference.collection("parts").stream():
            _add_part(left, task.id, part.id, part.to_dict()["body"])
    for letter in client.collection("bgtasks_deliveries").stream():
        one = letter.to_dict()
        left.pending.append((one["request_id"], one["seq"], one["dead"], one["error"]))
    return left


def _add_part(left, request_id, part, body):
    if part == "input":
        left.inputs[request_id] = json.loads(body)
    elif part == "result":
        with contextlib.suppress(ValueError):  # a failed view's answer may be HTML: nothing to compare
            left.results[request_id] = json.loads(body)
    elif part.startswith("checkpoint:"):
        left.checkpoints.add(request_id)
