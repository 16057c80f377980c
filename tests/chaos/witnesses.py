"""What the app's logs and the clients' journal say against the promises. Part of :mod:`tests.chaos.checker`."""

import json
from collections import Counter, defaultdict

LIFECYCLE = (
    *("accepted", "started", "retrying", "released", "cancel_requested", "reopened"),
    *("completed", "failed", "cancelled"),
)
TERMINAL = LIFECYCLE[-3:]
KILLED = ["the", "store", "was", "killed"]

MAX_TELLINGS = 8
"""Of one event to one sink. Each further one is due to a fault; a storm has not so many for one delivery."""

LASTING = ("bgtasks-recovery", "bgtasks-flusher", "bgtasks-heartbeat", "bgtasks-sink-")
"""Threads that a process keeps once it has them."""


def of_clients(journal, left):
    """What clients were answered, and what the store has of it."""
    for key, ids in journal.accepted.items():
        made = {*ids, *(journal.doubtful.get(key, set()) & left.tasks.keys())}
        if len(made) > 1:
            yield f"key {key}: answered with {len(made)} tasks"
        for request_id in set(ids):
            if request_id not in left.tasks:
                yield f"task {request_id}: accepted, and not there"
    by_key = {json.loads(found["text"]).get("key"): i for i, found in left.inputs.items() if found.get("text")}
    for key in journal.refused:
        if key in by_key:
            yield f"task {by_key[key]}: it exists, and its client was told that nothing was changed"


def of_shown(shown, left):
    """An event that a stream showed stays what it was."""
    events = {
        (request_id, seq): (kind, attempt, left.times.get((request_id, seq)))
        for request_id in left.tasks
        for seq, kind, attempt, _ in left.histories[request_id]
    }
    for (request_id, seq), seen in shown.items():
        stored = events.get((request_id, seq))
        if stored is not None and stored[2] is None:  # this store was not asked when it was
            seen = {(*one[:2], None) for one in seen}
        if len(seen) > 1:
            yield f"task {request_id}: streams showed different events {seq}: {sorted(seen)}"
        elif stored is None:
            yield f"task {request_id}: a stream showed event {seq}, and it is not there"
        elif {stored} != seen:
            yield f"task {request_id}: a stream showed event {seq} as {next(iter(seen))}, and it is {stored}"


def of_sink(log, histories, lines):
    """What one sink was told: every event, in order; progress that neither goes back nor comes after the end.

    Where the store was killed it may have forgotten what was delivered, so a sink is told again from there.
    """
    events, tellings, era = defaultdict(set), Counter(), 0
    newest, ended, reached = {}, {}, {}
    for line in lines:
        if line == KILLED:
            era += 1
            continue
        what, request_id, number, value, attempt = line
        history = histories.get(request_id)
        if history is None:
            continue
        if what == "event":
            seq, before = int(number), newest.get(request_id, (0, 0))
            if before[0] == era and seq < before[1]:
                yield f"task {request_id}: {log} was told of event {seq} after event {before[1]}"
            newest[request_id] = (era, seq)
            events[request_id].add(seq)
            tellings[request_id, seq] += 1
            if value in TERMINAL:
                ended[request_id] = era
            elif ended.get(request_id) != era or value == "reopened":  # told again from there, or opened again
                ended.pop(request_id, None)
        else:
            percentage, at = float(value), (int(attempt), era)
            if request_id in ended:
                yield f"task {request_id}: {log} was told of {percentage} % after the end"
            before = reached.get(request_id)
            if before is not None and (at[0] < before[1][0] or (percentage < before[0] and at[1] == before[1][1])):
                yield (
                    f"task {request_id}: {log} was told of {percentage} % of attempt {at[0]} "
                    f"after {before[0]} % of attempt {before[1][0]}"
                )
            reached[request_id] = (percentage, at)
    for request_id, history in histories.items():
        missing = [seq for seq, kind, _, _ in history if kind in LIFECYCLE and seq not in events[request_id]]
        if missing:
            yield f"task {request_id}: {log} was never told of the events {missing}"
    for (request_id, seq), times in tellings.items():
        if times > MAX_TELLINGS:
            yield f"task {request_id}: {log} was told {times} times of event {seq}"


def of_bursts(left, lines):
    """Where nothing is wrong any more, all threads run tasks at once, and no task loses its lease."""
    for burst, wanted, together in lines:
        yield f"burst {burst}: {wanted} threads were free, and only {together} of its tasks ran at once"
    for request_id, (_, attempt, _) in left.tasks.items():
        if left.names.get(request_id) == "meet" and attempt > 1 and _held(left, request_id):
            yield f"task {request_id}: it lost its lease with nothing wrong, and needed {attempt} attempts"


def _held(left, request_id):
    """Whether it is one of those that hold on, of the burst at the end."""
    arguments = json.dumps(left.inputs.get(request_id))
    return "4.0" in arguments


def of_threads(lines):
    """A thread that a process had, it has in the end."""
    had = defaultdict(set)
    for line in map(json.loads, lines):
        lasting = {name for name in line["threads"] if name.startswith(LASTING)}
        had[line["pid"]] |= lasting
        if line["calm"]:
            for name in sorted(had[line["pid"]] - lasting):
                yield f"process {line['pid']}: its thread {name} is missing"
