"""The clients of a run: some ask for work and count as accepted what they are answered, others follow streams.

What was not answered is sent again with the same key, as the docs advise. But some take the server at its word: who is
answered that nothing was changed goes away, and then there must be no task of theirs.
"""

import contextlib
import json
import random
import threading
import time

import httpx

from tests.support.sse_reader import read

PATHS = {"/work": 54, "/plain": 8, "/narrow": 10, "/urgent": 8, "/modest": 14, "/odd": 6}
TERMINAL = ("completed", "failed", "cancelled")


class Client:
    """Sends what it is told to, until there is an answer that says the task's id."""

    def __init__(self, url, journal, luck):
        self._http = httpx.Client(base_url=url, timeout=20)
        self._journal, self._luck = journal, luck

    def close(self):
        self._http.close()

    def ask(self, key, path, *, seconds=60):
        """The id of the task; None if the server never said it."""
        owner = f"owner-{self._luck.randrange(5)}"
        headers = {"Idempotency-Key": f'"{key}"', "X-Owner": owner}
        body = {"n": self._luck.randrange(1000), "key": key}
        takes_its_word = self._luck.random() < 0.3
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            answer = None
            with contextlib.suppress(httpx.HTTPError):
                answer = self._http.post(path, json=body, headers=headers)
            request_id = self._read(key, path, answer)
            if request_id is not None and answer.status_code == 503:
                self._journal.doubt(key, request_id)
            elif request_id is not None:
                self._journal.accept(key, request_id, owner)
                return request_id
            if answer is not None and takes_its_word and "othing was " in answer.text:
                self._journal.refuse(key)
                return None
            # A request that was cut off may have arrived; one of which it is not known may have been stored.
            takes_its_word = takes_its_word and answer is not None and request_id is None
            threading.Event().wait(0.1)
        return None

    def _read(self, key, path, answer):
        self._journal.count("broken" if answer is None else answer.status_code)
        if answer is None:
            return None
        request_id = answer.headers.get("Task-Id")
        if answer.status_code == 503 and "Retry-After" not in answer.headers:
            self._journal.complain(f"key {key}: a 503 without Retry-After: {answer.text[:200]}")
        if answer.status_code == 500 and request_id is None:
            self._journal.complain(f"key {key}: {path} was answered with 500: {answer.text[:200]}")
        return request_id

    def cancel(self, request_id, owner):
        with contextlib.suppress(httpx.HTTPError):
            self._http.post(f"/tasks/{request_id}/cancel", headers={"X-Owner": owner})


def send(run, number):
    """Ask for work at random times until the run is over."""
    luck, n = random.Random(f"{run.seed}-sender-{number}"), 0
    client = Client(run.url, run.journal, luck)
    while not run.over.wait(luck.expovariate(run.rate / run.senders)):
        n += 1
        path = luck.choices(list(PATHS), list(PATHS.values()))[0]
        request_id = client.ask(f"{number}-{n}", path)
        if request_id is not None and luck.random() < 0.04:
            client.cancel(request_id, run.journal.owners[request_id])
    client.close()


def watch(run, number):
    """Follow one task's stream after the other until the run is over."""
    luck = random.Random(f"{run.seed}-watcher-{number}")
    with httpx.Client(base_url=run.url, timeout=20) as http:
        while not run.over.wait(0.05):
            found = run.journal.some_task(luck)
            if found is not None:
                _follow(run, http, *found)


def _follow(run, http, request_id, owner):
    """Until the task's end, over as many connections as it takes."""
    last, give_up = 0, time.monotonic() + 20
    while not run.over.is_set() and time.monotonic() < give_up:
        headers = {"X-Owner": owner, "Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last else {})}
        with (
            contextlib.suppress(httpx.HTTPError),
            http.stream("GET", f"/tasks/{request_id}/events", headers=headers) as answer,
        ):
            run.journal.count(f"stream {answer.status_code}")
            if answer.status_code == 204:
                return
            if answer.status_code == 200:
                for seen in _events(answer):
                    last = _look(run.journal, request_id, seen, last)
                    if seen.type in TERMINAL:
                        return
                    if run.over.is_set() or time.monotonic() > give_up:
                        return
        threading.Event().wait(0.1)


def _events(answer):
    kept = b""
    for piece in answer.iter_raw():
        *blocks, kept = (kept + piece).split(b"\n\n")
        for block in blocks:
            yield from read(block + b"\n\n")


def _look(journal, request_id, seen, last):
    """Note one event of a stream; the number after which the next one comes."""
    document = json.loads(seen.data) if seen.data.startswith("{") else {}
    if seen.type in ("ping", "snapshot", "message") or "seq" not in document or "attempt" not in document:
        return document.get("seq", last) if seen.type == "snapshot" else last
    if document["seq"] != last + 1:
        journal.complain(f"task {request_id}: a stream showed event {document['seq']} after event {last}")
    journal.show(request_id, document["seq"], document["type"], document["attempt"], document["at"])
    return document["seq"]
