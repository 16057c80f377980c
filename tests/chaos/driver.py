"""Starts real servers on one store, gives them work over HTTP, and hurts them at random.

In the end nothing is hurt any more: everything that was accepted has to reach its end, and every process has to be as
good as new: a burst of tasks runs on all threads at once, keeps its leases, and SIGTERM is heeded.
"""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from tests.backends import free_port
from tests.chaos.checker import check
from tests.chaos.clients import send, watch
from tests.chaos.engines import STOP_SECONDS, THREADS, Own
from tests.chaos.faults import KILLS, Faults
from tests.chaos.journal import Journal
from tests.chaos.stores import Sqlite
from tests.support.paths import ROOT

REMOVED_SECONDS = 15  # for the tasks that no process knows, once somebody cancelled them
WEB_WORKERS = 2
HOLD_SECONDS = 4.0  # longer than a lease

OLD_VERSION = """
import os, time
from tests.chaos.app import FOLDER, app
client = app.test_client()
for n in range(2):
    headers, body = {"X-Owner": "owner-0", "Idempotency-Key": f'"removed-{n}"'}, {"n": n, "key": f"removed-{n}"}
    while "Task-Id" not in (answer := client.post("/removed", json=body, headers=headers)).headers:
        time.sleep(0.1)
    print(answer.headers["Task-Id"], flush=True)
while " removed " not in (FOLDER / "steps.log").read_text():
    time.sleep(0.02)
os._exit(0)
"""


class Patience:
    """Lasts as long as things get fewer: it is over when they did not for so many seconds."""

    def __init__(self, seconds, clock=time.monotonic):
        self._seconds, self._clock = seconds, clock
        self._fewest, self._since = math.inf, clock()

    def see(self, left):
        """So many are left."""
        if left < self._fewest:
            self._fewest, self._since = left, self._clock()

    @property
    def over(self):
        return self._clock() - self._since > self._seconds


class Run:
    """One run.

    :param folder: where logs go; the store lies within it.
    :param store: called with the folder; one of :mod:`tests.chaos.stores`.
    :param engine: who runs tasks; one of :mod:`tests.chaos.engines`, called with the folder.
    :param rate: tasks a second that clients ask for.
    :param hostile: whether a sink and receivers raise what ends a thread.
    :param settle: seconds without an end of anything, when nothing is wrong any more, after which it is given up. Not
        for all that is left: clients may have asked for more than there was time for.
    :param pauses: the shortest and the longest time between two faults, in seconds; None for those of the store.
    :param plant: the name of a fault that the app plants in the library, as an environment variable; None for none.
    """

    def __init__(
        self,
        folder,
        store=Sqlite,
        engine=Own,
        *,
        seed=None,
        rate=6.0,
        workers=2,
        hostile=True,
        settle=120,
        pauses=None,
        plant=None,
    ):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store, self.engine = store(self.folder), engine(self.folder)
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self.rate, self.hostile, self.settle = rate, hostile, settle
        self._pauses = pauses or self.store.pauses
        self._plant = {plant: "1"} if plant else {}
        self.senders = max(4, math.ceil(rate / 1.5))  # an answer takes a moment, and seconds while something is wrong
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = Journal()
        self.faults = Faults(self)
        self.injuries = Counter()
        self.names = ["web", *(f"worker {n}" for n in range(workers))]
        self.processes, self._starts = {}, 0
        self.over = threading.Event()

    # -- the run -------------------------------------------------------------------------------------------------------

    def go(self, seconds, *, tasks=0, surely=(), only=None, besides=()):
        """Work and hurt for so long, settle, and say what was violated.

        :param tasks: go on until so many were accepted, whatever the dice say; as long again as ``seconds``, three
            times.
        :param surely: as ``tasks``, until each of these kinds of faults was; they come first.
        :param only: these kinds of faults alone; and none of `besides`.
        """
        self._begun = time.monotonic()
        clients = [threading.Thread(target=send, args=(self, n)) for n in range(self.senders)]
        clients += [threading.Thread(target=watch, args=(self, n)) for n in range(6)]
        with self.store.running(), self.engine.running():
            try:
                self._leave_tasks_that_nobody_knows()
                self.tend()
                self.until(self.answers, 60, "the server does not answer")
                for client in clients:
                    client.start()
                self._hurt_for(seconds, tasks, surely, only, besides)
                self.over.set()
                self.faults.heal()
                self.store.heal()
                self.engine.heal()
                self._say("nothing is wrong any more")
                self.until(lambda: not any(client.is_alive() for client in clients), 90, None)
                self._say("the clients have ended")
                self._settle()
                self._say("settled, or out of patience")
                self._prove_health()
                self._say("stopping")
            finally:
                self.over.set()
                self.faults.heal()
                self._stop_all()
            left = self.store.remains()
            self.stored = len(left.tasks)
            self.figures = self._figures(left)
            violations = [*check(left, self.folder, self.journal), *self.store.complaints(), *self.engine.complaints()]
            if violations:  # it goes with the run
                self.store.keep(self.folder / "evidence")
            return violations

    def summary(self):
        """A line or two."""
        injuries, answers = dict(self.injuries.most_common()), dict(self.journal.answers)
        return (
            f"{self.store.name} {self.engine.name}, seed {self.seed}: {self.figures}; {self.kills} kills, "
            f"{sum(injuries.values())} faults {injuries}; answers {answers}; "
            f"{len(self.journal.shown)} events seen in streams"
        )

    @property
    def kills(self):
        return sum(self.injuries[name] for name in KILLS)

    @property
    def tasks(self):
        return len(self.journal.accepted)

    def until(self, look, seconds, complaint):
        """Wait until `look()` is true, and keep the processes running; whether it became true.

        :param complaint: what to fail with; None to go on without.
        """
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while not look():
            self.tend()
            if time.monotonic() > deadline:
                assert complaint is None, f"{complaint}: {self.log('web')[-2000:]}"
                return False  # the checker says what is left
            pause.wait(0.1)
        return True

    def answers(self):
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/tasks/health", timeout=2).status_code == 200
        return False

    def _hurt_for(self, seconds, tasks, surely, only, besides):
        """Every kind once, in random order, then as often as the dice say."""
        luck = random.Random(f"{self.seed}-order")
        kinds = {name: kind for name, kind in self.faults.kinds().items() if name in (only or [name])}
        for name in besides:
            kinds.pop(name, None)
        first = sorted(luck.sample(list(kinds), len(kinds)), key=lambda name: name in surely)  # the last comes first
        begun = time.monotonic()

        def enough():
            return self.tasks >= tasks and self.injuries.keys() >= {*surely}

        while (spent := time.monotonic() - begun) < seconds or (spent < 4 * seconds and not enough()):
            threading.Event().wait(luck.uniform(*self._pauses))
            self.tend()
            self._take_census()
            self.journal.wrong += self.faults.overdue()
            name = first.pop() if first else luck.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
            self.injuries[name] += 1
            self._say(name)
            kinds[name][1]()

    def _say(self, what):
        """For who looks for the reason of a violation."""
        with (self.folder / "driver.log").open("a") as log:
            log.write(f"{time.monotonic() - self._begun:7.2f} {what}\n")

    def _figures(self, left):
        by_status = Counter(status for status, _, _ in left.tasks.values())
        attempts = max((attempt for _, attempt, _ in left.tasks.values()), default=0)
        return f"{len(left.tasks)} tasks {dict(by_status)}, at most {attempts} attempts, {left.crashes} died"

    # -- the end -------------------------------------------------------------------------------------------------------

    def _settle(self):
        patience = Patience(self.settle)

        def settled(besides=frozenset()):
            left = self._unsettled()
            if left is None:
                return False
            patience.see(len(left.unfinished) + left.pending)
            return not left.pending and left.unfinished <= besides

        removed = self._removed()
        self.until(lambda: settled(removed) or patience.over, math.inf, None)
        self.until(self.answers, 20, None)
        for request_id in removed:
            with contextlib.suppress(httpx.HTTPError):
                httpx.post(f"{self.url}/tasks/{request_id}/cancel", headers={"X-Owner": "owner-0"}, timeout=20)
        self.until(settled, REMOVED_SECONDS, None)

    def _prove_health(self):
        """All threads of all processes are there: they are started anew, know little, and are asked for much."""
        (self.folder / "calm").touch()
        self._take_census()  # of the processes that went through it all
        self.until(self._censused, 5, None)
        if not self.until(self.answers, 20, None):
            self.journal.complain("the server is not healthy though nothing is wrong any more")
            return
        self._restart()
        threads = (len(self.names) - 1) * self.engine.places
        if self.engine.runner == "threads":
            threads += WEB_WORKERS * THREADS
        with contextlib.suppress(httpx.HTTPError):
            for _ in range(4):  # a thread or two of each process have run something, and wait
                self._burst(1, 1, 0.0)
            self._burst(threads + min(4, threads), threads, HOLD_SECONDS)
        self._take_census()
        self.until(self._censused, 5, None)
        self.until(self._all_is_told, self.settle, None)

    def _unsettled(self):
        """What is not done yet; None if the store cannot say: it may have been started a moment ago."""
        with contextlib.suppress(*self.store.outages):
            return self.store.unsettled()
        return None

    def _all_is_told(self):
        left = self._unsettled()
        return left is not None and not left.pending

    def _burst(self, count, wanted, hold):
        asked = {"count": count, "wanted": wanted, "hold": hold}
        ids = httpx.post(f"{self.url}/burst", json=asked, timeout=20).raise_for_status().json()

        def ended():
            left = self._unsettled()
            return left is not None and not left.unfinished & set(ids)

        self.until(ended, min(40, self.settle), None)

    def _restart(self):
        """As a deployment does that stops everything in order."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        self._wait_for_stop()
        self.tend()
        self.until(self.answers, 60, None)
        processes = (len(self.names) - 1) * self.engine.processes + WEB_WORKERS
        self.until(lambda: len(self._ready()) >= processes, 30, None)

    def _wait_for_stop(self):
        deadline = time.monotonic() + STOP_SECONDS
        for name, process in self.processes.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.journal.complain(f"{name} did not stop within {STOP_SECONDS} s of SIGTERM, with nothing wrong")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def _stop_all(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        self._wait_for_stop()

    # -- processes -----------------------------------------------------------------------------------------------------

    def log(self, name):
        return (self.folder / f"{name.replace(' ', '-')}.log").read_text(errors="replace")

    def begun(self):
        """How many steps were begun so far."""
        return (self.folder / "steps.log").read_text().count("begin ")

    def tend(self):
        """Start what is not running."""
        for name in self.names:
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.processes[name] = self._start(name)

    def children(self, name="web"):
        """The pids of what a process has forked: the web server its workers."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.processes[name].pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def _env(self, **more):
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHAOS_FOLDER": str(self.folder),
            "CHAOS_SEED": str(self.seed),
            "CHAOS_START": str(self._starts),
            "CHAOS_WORKERS": str(THREADS),
            "CHAOS_HOSTILE": "1" if self.hostile else "",
            "GUNICORN_CMD_ARGS": "",
            **self.store.env(),
            **self._plant,
            **more,
        }

    def _start(self, name):
        self._starts += 1
        more = {"CHAOS_RUNNER": self.engine.runner, "CHAOS_CLOCK": str(1 + self.names.index(name)), **self.engine.env()}
        if name == self.names[-1] and not self.over.is_set():
            more["CHAOS_POOL"] = "1"  # this one has too few connections, as long as anything is wrong
        command = self.engine.command()
        if name == "web":
            command = [
                *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", str(WEB_WORKERS)),
                *("--threads", "16", "--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "6"),
                *("--no-control-socket", "tests.chaos.app:app"),
            ]
        with (self.folder / f"{name.replace(' ', '-')}.log").open("a") as out:
            env = self._env(**more)
            return subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _leave_tasks_that_nobody_knows(self):
        """A version that is gone accepted two tasks, and began one, of a kind that the present one does not have."""
        made = subprocess.run(
            [sys.executable, "-c", OLD_VERSION],
            cwd=self.folder,
            env=self._env(CHAOS_OLD="1", CHAOS_RUNNER="threads", CHAOS_WORKERS="1", CHAOS_CALM="1"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert made.returncode == 0, made.stderr
        for n, request_id in enumerate(made.stdout.split()):
            self.journal.accept(f"removed-{n}", request_id, None)

    def _removed(self):
        return {i for n in range(2) for i in self.journal.accepted.get(f"removed-{n}", ())}

    # -- the census ----------------------------------------------------------------------------------------------------

    def _census(self):
        path = self.folder / "census.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _ready(self):
        """The pids that have said that they can answer, and still run."""
        running = {process.pid for name, process in self.processes.items() if name != "web"}
        running |= {pid for name in self.processes for pid in self.children(name)}
        return {line["pid"] for line in self._census()} & running

    def _take_census(self):
        for pid in self._ready():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGRTMIN)

    def _censused(self):
        return {line["pid"] for line in self._census() if line["calm"]} >= self._ready()
