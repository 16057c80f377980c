"""What is done to a run's processes: killed, frozen, starved, stopped, given work that kills them."""

import contextlib
import functools
import os
import random
import resource
import signal
import threading
import time

import httpx

from tests.chaos.clients import Client

KILLS = ("kill worker", "kill web worker", "kill web", "kill child", "kill whole worker", "deploys", "neighbours")


class Faults:
    """The faults of one run, each by its name. A seeded random says which and whom."""

    def __init__(self, run):
        self._run = run
        self._luck = random.Random(f"{run.seed}-faults")
        self._timers = []
        self._frozen = set()
        self._starved = {}
        self._asked = {}  # pids that were told to stop: their names, and since when

    def kinds(self):
        """By name: how often of a hundred, and what does it."""
        return {
            "kill worker": (16, lambda: self._some_worker().kill()),
            "kill web worker": (9, self._kill_web_worker),
            "kill web": (3, self._kill_web),
            "deploys": (3, self._deploys),
            "neighbours": (5, self._neighbours),
            "terminate": (6, self._terminate),
            "terminate twice": (2, self._terminate_twice),
            "reload": (4, lambda: self._run.processes["web"].send_signal(signal.SIGHUP)),
            "freeze": (9, self._freeze),
            "starve of descriptors": (6, self._starve),
            "sink down": (3, functools.partial(self._touch, "sink-is-down", 1, 5)),
            "sink hangs": (4, functools.partial(self._touch, "sink-hangs", 2, 8)),
            "burst": (4, self._burst),
            **self._run.store.faults(self._luck, self._later),
            **self._run.engine.faults(self._run, self._luck, self._later),
        }

    def heal(self):
        """Whatever was to be undone later is undone now."""
        for timer, act in self._timers:
            timer.cancel()
            timer.join()
            act()
        self._timers.clear()

    def overdue(self):
        """Sentences about processes that were told to stop and did not; they are killed."""
        for pid, (name, since) in list(self._asked.items()):
            if not os.path.exists(f"/proc/{pid}") or _state(pid) == "Z":
                del self._asked[pid]
            elif time.monotonic() - since > (seconds := self._run.engine.stop_seconds):
                del self._asked[pid]
                self._signal(pid, signal.SIGKILL)
                yield f"{name} did not stop within {seconds} s of SIGTERM"

    def _later(self, seconds, act):
        """Do it after so many seconds, or at the end of all faults. What is done twice must do no harm."""
        self._timers = [(timer, act) for timer, act in self._timers if timer.is_alive()]
        timer = threading.Timer(seconds, act)
        self._timers.append((timer, act))
        timer.start()

    def _signal(self, pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def _some_worker(self):
        return self._run.processes[self._luck.choice([name for name in self._run.names if name != "web"])]

    def _some_pid(self):
        return self._luck.choice([self._some_worker().pid, *self._run.children()])

    # -- kills -----------------------------------------------------------------------------------------------------

    def _kill_web_worker(self):
        children = self._run.children()
        if children:
            self._signal(self._luck.choice(children), signal.SIGKILL)

    def _kill_web(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._run.processes["web"].pid, signal.SIGKILL)

    def _deploys(self):
        """Three times in a row everything is killed and started, when it has just begun to work again."""
        client = Client(self._run.url, self._run.journal, self._luck)
        for n in range(4):
            client.ask(f"deploys-{time.monotonic_ns()}-{n}", "/modest", seconds=5)
        client.close()
        for _ in range(3):
            begun = self._run.begun()
            self._run.until(lambda begun=begun: self._run.begun() >= begun + 4, 5, None)
            threading.Event().wait(self._luck.uniform(0.3, 0.9))
            for process in self._run.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            self._run.until(self._run.answers, 20, None)

    def _neighbours(self):
        """Tasks that kill their process, among others that must not be blamed for it."""
        paths = ["/modest", "/modest", "/poison", "/modest", "/modest"]
        asked = [threading.Thread(target=self._ask, args=(path, n)) for n, path in enumerate(paths)]
        for thread in asked:
            thread.start()
        for thread in asked:
            thread.join()

    def _ask(self, path, number):
        luck = random.Random(f"{self._run.seed}-{path}-{number}")
        client = Client(self._run.url, self._run.journal, luck)
        client.ask(f"neighbours-{time.monotonic_ns()}-{number}", path, seconds=5)
        client.close()

    def _burst(self):
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(f"{self._run.url}/burst", json={"count": 20, "wanted": 0, "hold": 0}, timeout=5)

    # -- stops -----------------------------------------------------------------------------------------------------

    def _terminate(self):
        process = self._some_worker()
        process.send_signal(signal.SIGTERM)
        self._asked.setdefault(process.pid, ("a worker", time.monotonic()))
        return process

    def _terminate_twice(self):
        process = self._terminate()
        self._later(self._luck.uniform(0, 0.5), functools.partial(process.send_signal, signal.SIGTERM))

    # -- starvation --------------------------------------------------------------------------------------------------

    def _freeze(self):
        """Longer than the lease: it wakes up as a zombie."""
        pid = self._some_pid()
        self._signal(pid, signal.SIGSTOP)
        self._later(self._luck.uniform(3.5, 6), functools.partial(self._signal, pid, signal.SIGCONT))

    def _starve(self):
        """It may open no more files than it has now, or hardly any."""
        pid, spare = self._some_pid(), self._luck.randrange(3)
        with contextlib.suppress(OSError):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            if pid in self._starved:
                return
            self._starved[pid] = (soft, hard)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + spare, hard))
            self._later(self._luck.uniform(1, 3), functools.partial(self._feed, pid))

    def _feed(self, pid):
        limits = self._starved.pop(pid, None)
        if limits is not None:
            with contextlib.suppress(OSError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

    def _touch(self, name, least, most):
        path = self._run.folder / name
        path.touch()
        self._later(self._luck.uniform(least, most), functools.partial(path.unlink, missing_ok=True))


def _state(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(") ")[2][:1]
    return "Z"
