"""Starts real servers on one SQLite file, gives them work over HTTP, and injures them at random.

A client counts as accepted what it was answered; what it was not, it sends again with the same key, as the docs advise.
In the end nothing is injured any more, and everything that was accepted has to reach its end.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx

from tests.chaos.checker import check
from tests.chaos.remains import of_firestore, of_sqlite
from tests.system.gunicorn_server import ROOT, free_port

DISK_MIB = 256
KILLS = ("kill worker", "kill web worker", "kill web", "poison")
SETTLE_SECONDS = 120


@contextlib.contextmanager
def small_disk(folder):
    """A disk of its own that can be filled, where this may mount one (Linux, as root); else just the folder."""
    folder.mkdir(parents=True)
    mounted = shutil.which("mount") is not None and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


class Run:
    """One run.

    :param folder: where logs go; the store lies in a disk of its own within it.
    :param external: whether only the worker processes run tasks, and the web processes none.
    """

    def __init__(self, folder, *, seed=None, rate=6.0, external=False, workers=2, firestore=None):
        self.folder = Path(folder)
        self.seed = random.SystemRandom().randrange(2**32) if seed is None else seed
        self.luck = random.Random(self.seed)
        self.rate = rate
        self.port = free_port()
        self.accepted = defaultdict(list)
        self.injuries, self.answers = Counter(), Counter()
        self.external = external
        self.firestore = firestore  # a client of the emulator, where the store is there
        self.names = ["web", *(f"worker {n}" for n in range(workers))]
        self.processes, self.frozen = {}, set()
        self.furthest_clock = self.clock = 0.0
        self.over = threading.Event()
        self.lock = threading.Lock()  # protects accepted and answers

    # -- the run -------------------------------------------------------------------------------------------------------

    def go(self, seconds, *, kills=0, tasks=0):
        """Work and injure for so long, settle, and say what was violated.

        :param kills: go on until there were so many, whatever the dice say; as long again as ``seconds``, three times.
        :param tasks: as ``kills``, of accepted tasks.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "clock").write_bytes(struct.pack("d", 0.0))
        with small_disk(self.folder / "disk") as self.can_fill:
            self.store = self.folder / "disk" / "bgtasks.sqlite3"
            clients = [threading.Thread(target=self._send, args=(n,)) for n in range(4)]
            try:
                self._tend()
                self._until(self._answers, 60, "the server does not answer")
                for client in clients:
                    client.start()
                self._injure_for(seconds, lambda: self.kills >= kills and self.tasks >= tasks)
                self.over.set()
                for client in clients:
                    client.join(60)
                self._heal()
                self._until(self._settled, SETTLE_SECONDS, None)
            finally:
                self.over.set()
                self._stop_all()
            self.figures = self._figures()
            violations = check(self._remains(), self.folder, self.accepted)
            if violations:  # the disk goes with the run
                shutil.copytree(self.store.parent, self.folder / "evidence")
            return violations

    def _remains(self):
        return of_sqlite(self.store) if self.firestore is None else of_firestore(self.firestore)

    def summary(self):
        """One line."""
        injuries, answers = dict(self.injuries), dict(self.answers)
        return f"seed {self.seed}: {self.figures}, {self.kills} kills; injuries {injuries}; answers {answers}"

    @property
    def kills(self):
        return sum(self.injuries[name] for name in KILLS)

    @property
    def tasks(self):
        return len(self.accepted)

    def _until(self, look, seconds, complaint):
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while not look():
            self._tend()
            if time.monotonic() > deadline:
                assert complaint is None, f"{complaint}: {self.log('web')[-2000:]}"
                return  # the checker says what is left
            pause.wait(0.1)

    def _answers(self):
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{self.port}/tasks/health", timeout=2).status_code == 200
        return False

    def _settled(self):
        return self._remains().settled

    def _figures(self):
        left = self._remains()
        by_status = Counter(status for status, _, _ in left.tasks.values())
        attempts = max((attempt for _, attempt, _ in left.tasks.values()), default=0)
        return f"{len(left.tasks)} tasks {dict(by_status)}, at most {attempts} attempts, {left.crashes} died"

    # -- processes -----------------------------------------------------------------------------------------------------

    def log(self, name):
        return (self.folder / f"{name.replace(' ', '-')}.log").read_text(errors="replace")

    def _tend(self):
        """Start what is not running."""
        for name in self.names:
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.processes[name] = self._start(name)

    def _start(self, name):
        runner = "external" if self.external else "threads"
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CHAOS_FOLDER": str(self.folder),
            "CHAOS_STORE": str(self.folder / "disk"),
            "CHAOS_RUNNER": runner,
            "CHAOS_FIRESTORE": "" if self.firestore is None else self.firestore.project,
            "GUNICORN_CMD_ARGS": "",
        }
        command = [sys.executable, "-m", "flask", "--app", "tests.chaos.app", "bgtasks", "worker", "--workers", "4"]
        if name == "web":
            command = [
                *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "6"),
                *("--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", "6", "--no-control-socket"),
                "tests.chaos.app:app",
            ]
        with (self.folder / f"{name.replace(' ', '-')}.log").open("a") as out:
            return subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _signal(self, pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def _children(self, name):
        process = self.processes[name]
        found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def _stop_all(self):
        for pid in self.frozen:
            self._signal(pid, signal.SIGCONT)
        for process in self.processes.values():
            self._signal(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    # -- clients -------------------------------------------------------------------------------------------------------

    def _send(self, number):
        luck, n = random.Random(self.seed + number), 0
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20) as client:
            while not self.over.wait(luck.expovariate(self.rate / 4)):
                n += 1
                path = luck.choices(["/work", "/plain", "/narrow", "/urgent"], [70, 8, 12, 10])[0]
                body = {"n": luck.randrange(1000)}
                headers = {"Idempotency-Key": f'"{number}-{n}"', "X-Owner": f"owner-{luck.randrange(5)}"}
                request_id = self._accepted(client, path, body, headers)
                if request_id is not None and luck.random() < 0.04:
                    with contextlib.suppress(httpx.HTTPError):
                        client.post(f"/tasks/{request_id}/cancel", headers=headers)

    def _accepted(self, client, path, body, headers):
        """Send until there is an answer that says the task's id."""
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            answer = None
            with contextlib.suppress(httpx.HTTPError):
                answer = client.post(path, json=body, headers=headers)
            request_id = None if answer is None else answer.headers.get("Task-Id")
            with self.lock:
                self.answers["broken" if answer is None else answer.status_code] += 1
                if request_id is not None:
                    self.accepted[headers["Idempotency-Key"]].append(request_id)
            if answer is not None and answer.status_code == 503:
                assert "Retry-After" in answer.headers, answer.text
            if request_id is not None and answer.status_code != 503:
                return request_id
            threading.Event().wait(0.1)
        return None

    # -- injuries ------------------------------------------------------------------------------------------------------

    def _injure_for(self, seconds, enough):
        kinds = {
            "kill worker": (30, self._kill_worker),
            "kill web worker": (16, self._kill_web_worker),
            "kill web": (4, self._kill_web),
            "terminate": (7, self._terminate),
            "terminate twice": (3, self._terminate_twice),
            "reload": (5, self._reload),
            "freeze": (10, self._freeze),
            "sink down": (4, self._sink_down),
            "poison": (1, self._poison),
            **(self._of_sqlite() if self.firestore is None else {}),
        }
        begun = time.monotonic()
        while (spent := time.monotonic() - begun) < seconds or (spent < 4 * seconds and not enough()):
            threading.Event().wait(self.luck.uniform(0.5, 2.0))
            self._tend()
            name = self.luck.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
            self.injuries[name] += 1
            kinds[name][1]()

    def _of_sqlite(self):
        full = {"disk full": (4, self._fill_disk)} if self.can_fill else {}
        return {"lock": (5, self._lock_store), "clock": (5, self._move_clock), **full}

    def _some_worker(self):
        return self.processes[self.luck.choice([name for name in self.names if name != "web"])]

    def _kill_worker(self):
        self._some_worker().kill()

    def _kill_web_worker(self):
        children = self._children("web")
        if children:
            self._signal(self.luck.choice(children), signal.SIGKILL)

    def _kill_web(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes["web"].pid, signal.SIGKILL)

    def _terminate(self):
        self._some_worker().send_signal(signal.SIGTERM)

    def _terminate_twice(self):
        process = self._some_worker()
        process.send_signal(signal.SIGTERM)
        threading.Timer(self.luck.uniform(0, 0.5), process.send_signal, [signal.SIGTERM]).start()

    def _reload(self):
        self.processes["web"].send_signal(signal.SIGHUP)

    def _freeze(self):
        """Longer than the lease: it wakes up as a zombie."""
        pid = self.luck.choice([self._some_worker().pid, *self._children("web")])
        self._signal(pid, signal.SIGSTOP)
        self.frozen.add(pid)
        threading.Timer(self.luck.uniform(3.5, 6), self._thaw, [pid]).start()

    def _thaw(self, pid):
        self._signal(pid, signal.SIGCONT)
        self.frozen.discard(pid)

    def _lock_store(self):
        with contextlib.suppress(sqlite3.OperationalError):
            db = sqlite3.connect(self.store, timeout=2, isolation_level=None, check_same_thread=False)
            db.execute("BEGIN IMMEDIATE")
            threading.Timer(self.luck.uniform(0.5, 4), db.close).start()

    def _sink_down(self):
        (self.folder / "sink-is-down").touch()
        threading.Timer(self.luck.uniform(1, 5), (self.folder / "sink-is-down").unlink, [True]).start()

    def _move_clock(self):
        """By up to an hour, in both directions."""
        self._set_clock(self.luck.uniform(-3600, 3600))

    def _set_clock(self, seconds):
        self.clock, self.furthest_clock = seconds, max(self.furthest_clock, seconds)
        with (self.folder / "clock").open("r+b") as file:
            file.write(struct.pack("d", seconds))

    def _poison(self):
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"http://127.0.0.1:{self.port}/poison", timeout=5)

    def _fill_disk(self):
        ballast = self.folder / "disk" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 2**20)
        threading.Timer(self.luck.uniform(0.5, 3), ballast.unlink, [True]).start()

    def _heal(self):
        """Nothing is wrong any more; the clock is where it was furthest, so that what waits for a time gets there."""
        for pid in list(self.frozen):
            self._thaw(pid)
        (self.folder / "sink-is-down").unlink(missing_ok=True)
        (self.folder / "disk" / "ballast").unlink(missing_ok=True)
        self._set_clock(self.furthest_clock)


def main():
    """``python -m tests.chaos.driver [SECONDS [SEED]]``: a run by hand; its folder stays if something was violated."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else None
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    run = Run(folder, seed=seed)
    violations = run.go(seconds)
    print(run.summary())
    print(json.dumps(violations, indent=1))
    if not violations:
        shutil.rmtree(folder)
    else:
        print(f"see {folder}")
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
