"""Reads what is left after a run, and says what contradicts the promises. Knows nothing of the library's code.

Reads what the store holds, the app's own logs (what was done, what the sinks were told) and the clients' journal (what
was accepted, refused, and shown), and gives a list of sentences: empty if all is well. What comes of the logs and the
journal is in :mod:`tests.chaos.witnesses`.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

from tests.chaos.witnesses import of_bursts, of_clients, of_shown, of_sink, of_threads

TERMINAL = ("completed", "failed", "cancelled")
OUTSIDE = ("accepted", "cancel_requested", "reopened")  # events that belong to no attempt
DEADLY = ("poison",)  # tasks that kill their process, and so may fail for it
UNKNOWN = ("removed",)  # tasks that no process knows, and so may fail for it
MODEST_STEPS = 16  # checkpoints of a modest task, as the app has them


def check(left, folder, journal):
    """All violations.

    :param left: what the store holds, as :mod:`tests.chaos.remains` reads it.
    :param folder: where the app's logs are.
    :param journal: what clients saw, a :class:`tests.chaos.journal.Journal`.
    """
    found = [*journal.wrong, *of_clients(journal, left)]
    for request_id, (status, attempt, seq) in left.tasks.items():
        history = left.histories[request_id]
        of_task = (
            *_of_ends(history, status, seq),
            *_of_blame(left, request_id, status),
            *_of_attempts(history, attempt),
            *_of_progress(history),
            *_of_output(left, request_id, history, status),
            *_of_pairs(history, status),
            *_of_results(left, request_id, status),
        )
        name = left.names.get(request_id, "?")
        found += [f"task {request_id} ({name}): {sentence}" for sentence in of_task]
    histories = {request_id: left.histories[request_id] for request_id in left.tasks}
    stored = {request_id: _stored(history) for request_id, history in histories.items()}
    found += _of_steps(stored, _lines(folder, "steps.log"))
    found += of_shown(journal.shown, left)
    for name in ("sink.log", "hostile.log"):
        found += of_sink(name, histories, _lines(folder, name))
    found += of_bursts(left, _lines(folder, "bursts.log"))
    found += of_threads(_lines(folder, "census.log", whole=True))
    found += _of_outbox(left.pending)
    return found


def digest(violations):
    """The kinds of violations, each with how many there are and one of them."""
    kinds = defaultdict(list)
    for sentence in violations:
        kinds[re.sub(r"[0-9a-f]{8}-[-0-9a-f]{27}|[0-9a-f]{32}|\[.*\]|\d+(\.\d+)?", "…", sentence)].append(sentence)
    return [f"{len(found)} x {min(found, key=len)}" for found in sorted(kinds.values(), key=len, reverse=True)]


def _lines(folder, name, *, whole=False):
    path = Path(folder) / name
    lines = path.read_text().splitlines() if path.exists() else []
    return lines if whole else [line.split() for line in lines]


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


def _of_blame(left, request_id, status):
    """A task fails for what it did: for nothing that was done to it, or by its neighbours."""
    name, error = left.names.get(request_id), left.errors.get(request_id) or ""
    if status != "failed" or name in DEADLY or name in UNKNOWN:
        return
    by_chance = name == "plain" and "ByChance" in error  # the app's own fault, which is not tried again
    if not by_chance and not (name == "urgent" and "timeout" in error.lower()):
        yield f"it failed though it did nothing wrong: {error}"


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


def _of_output(left, request_id, history, status):
    """Each attempt's output is without a hole, and that of the attempt that ended it is all there is to emit."""
    chunks = defaultdict(list)
    for seq, kind, attempt, data in history:
        if kind == "output":
            if data["offset"] != len(chunks[attempt]):
                yield f"event {seq}: output {data['offset']} of attempt {attempt} comes after {len(chunks[attempt])}"
            chunks[attempt] += [None] * (data["offset"] - len(chunks[attempt])) + data["chunks"]
    if status == "completed" and left.names.get(request_id) in ("view", "plain", "narrow", "urgent", "modest"):
        n, last = _asked(left, request_id), max(attempt for _, _, attempt, _ in history)
        wanted = [f"{key} " for key, value in _plan(left.names[request_id], n) if value % 2 == 0]
        if chunks[last] != wanted:
            missing = sorted((Counter(wanted) - Counter(chunks[last])).elements())
            yield f"its output is not what its steps emitted: {chunks[last]}, and {missing} are missing"


def _of_pairs(history, status):
    """Whatever step an attempt began that ended its task, it ended."""
    if status != "completed":
        return
    last = max(attempt for _, _, attempt, _ in history)
    open_steps = Counter()
    for _, kind, attempt, data in history:
        if attempt == last and kind in ("step_started", "step_finished") and "path" in data:
            open_steps["/".join(data["path"])] += 1 if kind == "step_started" else -1
    lost = sorted(path for path, count in open_steps.items() if count)
    if lost:
        yield f"the beginning or the end of its steps {lost} is not in its history"


def _of_results(left, request_id, status):
    if status != "completed" or left.names.get(request_id) == "meet":
        return
    if request_id not in left.results:
        yield "it is completed, and has no result"
        return
    asked, answered = _asked(left, request_id), left.results[request_id]
    values = [value for key, value in _plan(left.names.get(request_id), asked) if "/" not in key]
    if answered != {"n": asked, "values": values}:
        yield f"its result is not what its steps returned: {answered}"
    if request_id in left.checkpoints:
        yield "it is completed, and its checkpoints are kept"


def _asked(left, request_id):
    return json.loads(left.inputs[request_id]["text"])["n"]


def _plan(name, n):
    """The keys and values of a task's steps, in the order in which they work."""
    if name == "modest":
        return [(f"S{place}", n + place) for place in range(1, MODEST_STEPS + 1)]
    steps = []
    for place in range(1, 6 + n % 4):
        halves = ["/a", "/b"] if place % 3 == 2 else []
        steps += [(f"S{place}{half}", n + place) for half in [*halves, ""]]
    return steps


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


def _of_outbox(pending):
    for request_id, seq, dead, error in pending:
        yield f"task {request_id}: event {seq} is {'a dead letter' if dead else 'still pending'} ({error})"
