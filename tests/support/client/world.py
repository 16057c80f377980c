"""A world for the client in which time is virtual: a server, a network and a mirror that do what a test says."""

from __future__ import annotations

import json
import random
import uuid
from dataclasses import dataclass, field

from flask_bgtasks.client import Unreachable
from flask_bgtasks.client.flows.session import Session
from flask_bgtasks.client.io.effects import Answer, Call, Close, Emit, Open, Read, Request, Sleep, Tell
from flask_bgtasks.client.pending.registry import PendingRegistry

TERMINAL = {"completed", "failed", "cancelled"}


@dataclass
class ServerTask:
    """A task as the server has it."""

    request_id: str
    key: str | None = None
    events: list = field(default_factory=list)  # (seq, type, attempt, data)
    attempt: int = 1
    percentage: float = 0.0

    @property
    def seq(self):
        return self.events[-1][0] if self.events else 0

    @property
    def status(self):
        types = [type for _, type, _, _ in self.events]
        if types and types[-1] in TERMINAL:
            return types[-1]
        return "processing" if "started" in types else "started"

    def add(self, type, **data):
        if type == "reopened":
            self.attempt += 1
        self.percentage = max(self.percentage, data.get("progress_percentage", 0))
        self.events.append((self.seq + 1, type, self.attempt, data))

    def document(self):
        done = self.status in TERMINAL
        return {
            "request_id": self.request_id,
            "status": self.status,
            "seq": self.seq,
            "attempt": self.attempt,
            "error_message": "no" if self.status == "failed" else None,
            "done": done,
            "poll_after_ms": None if done else 1000,
            "progress": {"progress_percentage": 100.0 if done else self.percentage, "step": None},
        }


class World:
    """Carries effects out, without a socket and without waiting.

    Things that happen at some time are put on the agenda with :meth:`at`.
    """

    def __init__(self, *, mirror=False, seed=1, **session):
        self.now = 1000.0
        self.calendar = 1_700_000_000.0
        self.tasks = {}
        self.results = {}
        self.log = []  # (time since the beginning, what was asked)
        self.backend = True  # whether it can be reached
        self.streams = True  # whether it has streams
        self.mirror_up = True
        self.unauthorised = set()  # values of the Authorization header that are refused
        self.lose_answers = 0
        self.unreachable = None  # the end of a path that cannot be reached
        self.silent = False  # streams say nothing any more, pings included
        self.told, self.given = [], []
        self.resumed = []  # the Last-Event-ID of each stream
        self.generation = 0  # of connections
        self._agenda = []
        self.registry = PendingRegistry(":memory:", server="s", now=lambda: self.calendar)
        self.session = Session(
            registry=self.registry,
            clock=self,
            random=random.Random(seed),
            mirror=self if mirror else None,
            on_outcome=self.told.append,
            **session,
        )

    # -- time ----------------------------------------------------------------------------------------------------------

    def monotonic(self):
        return self.now

    def time(self):
        return self.calendar

    def at(self, seconds, happen):
        """Let something happen so many seconds after the beginning."""
        self._agenda.append((1000.0 + seconds, happen))
        self._agenda.sort(key=lambda entry: entry[0])

    def _pass(self, until):
        """Let time pass, and what is due happen. Stops after an event, so that a stream tells of it at once."""
        while self._agenda and self._agenda[0][0] <= until:
            when, happen = self._agenda.pop(0)
            self._to(max(self.now, when))
            happen()
        self._to(max(self.now, until))

    def _to(self, when):
        self.calendar += when - self.now
        self.now = when

    def cut(self):
        """End all streams that are open."""
        self.generation += 1

    # -- driving -------------------------------------------------------------------------------------------------------

    def run(self, flow, *, most=20_000):
        """Carry a flow out to its end; what it returns."""
        step, value = flow.send, None
        for _ in range(most):
            try:
                effect = step(value)
            except StopIteration as end:
                return end.value
            try:
                step, value = flow.send, self.perform(effect)
            except BaseException as error:
                step, value = flow.throw, error
        raise AssertionError("it goes on and on")

    def perform(self, effect):
        match effect:
            case Call(function, arguments):
                return function(*arguments)
            case Tell(function, argument):
                return function(argument)
            case Emit(event):
                return self.given.append(event)
            case Sleep(seconds):
                return self._pass(self.now + seconds)
            case Request():
                return self.request(effect)
            case Open():
                return self.open(effect)
            case Read(stream):
                return stream.read(self)
            case Close():
                return None

    def asked(self, what):
        """When something was asked, in seconds since the beginning."""
        return [at for at, asked in self.log if asked.startswith(what)]

    # -- the server ----------------------------------------------------------------------------------------------------

    def accept(self, *, key=None, request_id=None):
        """A task begins."""
        task = ServerTask(request_id or str(uuid.uuid4()), key=key)
        task.add("accepted")
        task.add("started")
        self.tasks[task.request_id] = task
        return task

    def request(self, effect):
        path, _, query = effect.path.partition("?")
        self.log.append((round(self.now - 1000, 3), f"{effect.method} {path}"))
        if not self.backend or (self.unreachable and path.endswith(self.unreachable)):
            raise Unreachable("refused")
        answer = self._answer(effect, path, query)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unreachable("the answer was lost")
        return answer

    def _answer(self, effect, path, query):
        if effect.headers.get("Authorization") in self.unauthorised:
            return Answer(401)
        if path == "/process":
            key = effect.headers["idempotency-key"]
            task = next((t for t in self.tasks.values() if t.key == key), None) or self.accept(key=key)
            return _json(202, {"request_id": task.request_id}, {"task-id": task.request_id})
        if path == "/tasks":
            ids = query.removeprefix("ids=").split(",")
            found = [self.tasks[i].document() for i in ids if i in self.tasks]
            etag = f'"{[(d["request_id"], d["seq"]) for d in found]}"'
            if effect.headers.get("if-none-match") == etag:
                return Answer(304)
            return _json(200, {"tasks": found, "missing": [i for i in ids if i not in self.tasks]}, {"etag": etag})
        request_id, _, what = path.removeprefix("/tasks/").partition("/")
        if what == "seen":
            return Answer(204)
        if what == "result":
            return _json(200, {"n": request_id}, {"task-id": request_id})
        if what == "events":
            after = int(query.partition("=")[2])
            events = [_event(request_id, e) for e in self.tasks[request_id].events if e[0] > after]
            return _json(200, {"events": events, "next": self.tasks[request_id].seq})
        if what == "retry":
            self.tasks[request_id].add("reopened")
            return _json(202, self.tasks[request_id].document())
        return Answer(404)

    def open(self, effect):
        path, _, query = effect.path.partition("?")
        self.log.append((round(self.now - 1000, 3), f"STREAM {path}"))
        if not self.backend:
            raise Unreachable("refused")
        if not self.streams:
            return _Refused(503)
        self.resumed.append(effect.headers.get("last-event-id"))
        places = dict(p.rsplit(":", 1) for p in effect.headers.get("last-event-id", "").split(",") if p)
        ids = query.removeprefix("ids=").split(",")
        lifetime = float("inf") if effect.lifetime is None else self.now + effect.lifetime
        return _Stream({i: int(places.get(i, 0)) for i in ids}, effect.silence, lifetime, self.generation)

    # -- the mirror ----------------------------------------------------------------------------------------------------

    def task(self, request_id):
        self.log.append((round(self.now - 1000, 3), "MIRROR"))
        if not self.mirror_up:
            raise OSError("no network")
        return self.tasks[request_id].document() if request_id in self.tasks else None

    def progress(self, request_id):
        return {"progress_percentage": self.tasks[request_id].percentage}

    def result(self, request_id):
        if not self.mirror_up:
            raise OSError("no network")
        return {"mirrored": request_id}


class _Refused:
    def __init__(self, status):
        self.status = status
        self.headers = {}


class _Stream:
    """Tells events as they come; pings every 15 s; ends when all tasks have ended."""

    status = 200
    headers = {"content-type": "text/event-stream; charset=utf-8"}  # noqa: RUF012

    def __init__(self, places, silence, lifetime, generation):
        self.places = places
        self.generation = generation
        self.silence = silence
        self.lifetime = lifetime

    def read(self, world):
        began = world.now
        while True:
            if not world.backend or world.generation != self.generation:
                raise Unreachable("cut")
            if not world.silent:
                chunk = self.news(world)
                if chunk:
                    return chunk
                if all(i in world.tasks and world.tasks[i].status in TERMINAL for i in self.places):
                    return b""
                if world.now - began >= 15:
                    return b"event: ping\ndata: {}\n\n"
            if world.now - began >= self.silence or world.now >= self.lifetime:
                raise Unreachable("silence")
            world._pass(world.now + 0.1)

    def news(self, world):
        chunk = b""
        for request_id, place in self.places.items():
            task = world.tasks.get(request_id)
            for event in task.events if task else ():
                if event[0] > place:
                    self.places[request_id] = event[0]
                    data = json.dumps(_event(request_id, event))
                    chunk += f"id: {request_id}:{event[0]};c.{event[0]}\nevent: {event[1]}\ndata: {data}\n\n".encode()
        return chunk


def _event(request_id, event):
    seq, type, attempt, data = event
    return {"request_id": request_id, "seq": seq, "type": type, "attempt": attempt, **data}


def _json(status, document, headers=None):
    return Answer(status, {"content-type": "application/json", **(headers or {})}, json.dumps(document).encode())
