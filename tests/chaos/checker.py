"""Reads what is left after a run, and says what contradicts the promises. Knows nothing of the library's code.

Reads what the store holds, the app's own logs (what was done, what the sink was told) and the driver's journal (what
was accepted), and gives a list of sentences: empty if all is well.
"""

import json
from collections import defaultdict
from pathlib import Path

TERMINAL = ("completed", "failed", "cancelled")
LIFECYCLE = ("accepted", "started", "retrying", "released", "cancel_requested", "reopened", *TERMINAL)
OUTSIDE = ("accepted", "cancel_requested", "reopened")  # events that belong to no attempt


def check(left, folder, accepted):
    """All violations.

    :param left: what the store holds, as :mod:`tests.chaos.remains` reads it.
    :param folder: where `steps.log` and `sink.log` are.
    :param accepted: the journal: from the client's key to the ids that it was answered.
    """
    found = list(_of_clients(accepted, left.tasks))
    for request_id, (status, attempt, seq) in left.tasks.items():
        history = left.histories[request_id]
        of_task = (
            *_of_ends(history, status, seq),
            *_of_attempts(history, attempt),
            *_of_progress(history),
            *_of_results(left, request_id, status),
        )
        found += [f"task {request_id}: {sentence}" for sentence in of_task]
    histories = {request_id: left.histories[request_id] for request_id in left.tasks}
    stored = {request_id: _stored(history) for request_id, history in histories.items()}
    found += _of_steps(stored, _lines(folder, "steps.log"))
    found += _of_sink(histories, _lines(folder, "sink.log"))
    found += _of_outbox(left.owed)
    return found


def _lines(folder, name):
    path = Path(folder) / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def _of_clients(accepted, tasks):
    for key, ids in accepted.items():
        if len(set(ids)) > 1:
            yield f"key {key}: answered with {len(set(ids))} tasks"
        for request_id in set(ids):
            if request_id not in tasks:
                yield f"task {request_id}: accepted, and not there"


def _of_ends(history, status, seq):
    kinds = [kind for _, kind, _, _ in history]
    if [number for number, *_ in history] != list(range(1, seq + 1)):
        yield f"its events are not numbered 1 to {seq} without a gap"
    since = len(kinds) - kinds[::-1].index("reopened") if "reopened" in kinds else 0
    ends = [kind for kind in kinds[since:] if kind in TERMINAL]
    if status not in TERMINAL:
        yield f"it is {status}, and nobody works on it"
    elif ends != [status]:
        yield f"it is {status}, and its history has the ends {ends}"
    elif kinds[-1] != status:
        yield f"after its end comes {kinds[kinds.index(status) + 1]}"


def _of_attempts(history, last):
    current = 0
    for seq, kind, attempt, _ in history:
        if kind == "started":
            if attempt <= current:
                yield f"event {seq}: attempt {attempt} begins after attempt {current}"
            current = attempt
        elif kind not in OUTSIDE and attempt != current:
            yield f"event {seq}: attempt {attempt} wrote {kind} while attempt {current} had the task"
    if current != last:
        yield f"its attempt is {last}, its history's last is {current}"


def _of_progress(history):
    shown = 0.0
    for seq, _, _, data in history:
        percentage = data.get("progress_percentage")
        if percentage is not None and percentage < shown:
            yield f"event {seq}: the percentage falls from {shown} to {percentage}"
        shown = max(shown, percentage or 0.0)


def _of_results(left, request_id, status):
    if status != "completed":
        return
    if request_id not in left.results:
        yield "it is completed, and has no result"
        return
    asked, answered = json.loads(left.inputs[request_id]["text"])["n"], left.results[request_id]
    if answered != {"n": asked, "values": [asked + place for place in range(1, 6 + asked % 4)]}:
        yield f"its result is not what its steps returned: {answered}"
    if request_id in left.checkpoints:
        yield "it is completed, and its checkpoints are kept"


def _stored(history):
    """Which attempts stored which checkpoint."""
    attempts = defaultdict(list)
    for _, kind, attempt, data in history:
        if kind == "step_finished" and data.get("checkpoint"):
            attempts["/".join(data["path"])].append(attempt)
    return attempts


def _of_steps(stored, lines):
    for request_id, checkpoints in stored.items():
        for key, attempts in checkpoints.items():
            if len(attempts) > 1:
                yield f"task {request_id}: checkpoint {key} was stored by the attempts {attempts}"
    for what, request_id, key, attempt, pid in lines:
        by = stored.get(request_id, {}).get(key)
        if what == "begin" and by and int(attempt) > by[0]:
            yield (
                f"task {request_id}: checkpoint {key} was stored by attempt {by[0]}, "
                f"and attempt {attempt} (process {pid}) ran it again"
            )


def _of_sink(histories, lines):
    told = defaultdict(list)
    for request_id, seq, *_ in lines:
        told[request_id].append(int(seq))
    for request_id, history in histories.items():
        newest, seen = 0, set()
        for seq in told[request_id]:
            if seq < newest and seq not in seen:
                yield f"task {request_id}: the sink was told of event {seq} after event {newest}"
            newest = max(newest, seq)
            seen.add(seq)
        missing = [seq for seq, kind, _, _ in history if kind in LIFECYCLE and seq not in seen]
        if missing:
            yield f"task {request_id}: the sink was never told of the events {missing}"


def _of_outbox(owed):
    for request_id, seq, dead, error in owed:
        yield f"task {request_id}: event {seq} is {'a dead letter' if dead else 'still owed'} ({error})"
