"""What dies, and what becomes of its tasks: real servers, real signals."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from tests.backends import free_port
from tests.support import waiting
from tests.support.paths import ROOT
from tests.support.processes.gunicorn_server import gunicorn
from tests.support.sse_reader import read
from tests.support.waiting import PATIENCE

pytestmark = [pytest.mark.system, pytest.mark.slow]


APP = """
import os, threading, time
from pathlib import Path
from flask import Flask, request
from flask_bgtasks import BackgroundTasks, checkpoint, current_task

folder = Path({folder!r})
app = Flask(__name__, instance_path=str(folder))
bgtasks = BackgroundTasks()

def note(*words):
    line = " ".join(map(str, (*words, current_task.attempt, os.getpid()))) + "\\n"
    out = os.open(folder / "steps.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line.encode())
    os.close(out)

def work(n, hold):
    note("begin", n)
    while n == hold and not (folder / "go").exists():
        threading.Event().wait(0.02)
    note("end", n)
    return n

@app.post("/process")
@bgtasks.background(steps=[f"Step {{n}}" for n in range(1, 9)])
def process():
    hold = request.get_json()["hold"]
    return {{"steps": [checkpoint(f"Step {{n}}", work, n, hold) for n in range(1, 9)]}}

@app.post("/quick")
@bgtasks.background
def quick():
    checkpoint("Rest", threading.Event().wait, 0.2)
    return {{"n": request.get_json()["n"]}}

@app.post("/pooled")
@bgtasks.background
def pooled():
    from concurrent.futures import ThreadPoolExecutor
    while not (folder / "go").exists():
        threading.Event().wait(0.02)
    while not (folder / "stopping").exists():
        threading.Event().wait(0.02)
    time.sleep(0.5)  # the interpreter is about to end: work is handed to threads only now
    with ThreadPoolExecutor(2) as pool:
        return {{"made": list(pool.map(str, range(3)))}}

@app.post("/legacy")
def legacy():
    note("legacy")
    deadline = time.monotonic() + float(request.get_json()["seconds"])
    while time.monotonic() < deadline:
        time.sleep(0.05)
    return {{"made": "by the view"}}

@bgtasks.task
def counted(n):
    note("counted", n)
    return n

@app.cli.command()
def seed():
    print(counted.submit(7).request_id)

bgtasks.init_app(app, endpoints=["legacy"], **{settings!r})
"""


def app_code(folder, **settings):
    return APP.format(folder=str(folder), settings=settings)


def until(look, timeout=PATIENCE):
    """As :func:`tests.support.waiting.until`; a file or a server that is not there yet is no answer."""

    def tried():
        with contextlib.suppress(FileNotFoundError, httpx.TransportError):
            return look()

    return waiting.until(tried, timeout)


def steps(folder):
    return [line.split() for line in (folder / "steps.log").read_text().splitlines()]


def submit(url, path="/process", **body):
    return httpx.post(url + path, json=body, timeout=PATIENCE).raise_for_status().json()["request_id"]


def document(url, request_id):
    return httpx.get(f"{url}/tasks/{request_id}", timeout=PATIENCE).json()


def ended(url, request_id):
    found = until(lambda: (d := document(url, request_id)).get("done") and d)
    assert found["status"] == "completed", found
    return found


def history(url, request_id):
    page = httpx.get(f"{url}/tasks/{request_id}/events", headers={"Accept": "application/json"}, timeout=PATIENCE)
    return page.json()["events"]


def kill_all(server):
    """The machine goes: the master and its workers, at once."""
    children = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False)
    for pid in [server.process.pid, *map(int, children.stdout.split())]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait(10)


@contextlib.contextmanager
def flask_process(folder, *arguments, **env):
    """``flask --app served …`` as a process of its own."""
    log = folder / f"flask-{time.monotonic_ns()}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "served", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "PYTHONUNBUFFERED": "1", **env},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize(
    ("store", "preload"),
    [("sqlite", ()), ("sqlite", ("--preload",)), ("postgresql", ()), ("firestore", ("--preload",))],
    ids=["sqlite", "sqlite, preload", "postgresql", "firestore"],
)
def test_a_killed_server_goes_on_with_step_five_when_it_is_started_again(request, tmp_path, store, preload):
    settings = {}
    if store == "postgresql":
        settings["store"] = request.getfixturevalue("new_postgresql_database")()
    elif store == "firestore":
        settings["store"] = f"firestore://{request.getfixturevalue('firestore_project')}"
    code = app_code(tmp_path, **settings)
    with gunicorn(tmp_path, code, "--threads", "4", *preload) as server:
        request_id = submit(server.url, hold=5)
        until(lambda: ["begin", "5"] in [line[:2] for line in steps(tmp_path)])
        first = until(lambda: (h := history(server.url, request_id)) and h[-1]["type"] == "progress" and h)
        kill_all(server)

    (tmp_path / "go").touch()
    with gunicorn(tmp_path, code, "--threads", "4", *preload, ready=None) as server:
        until(lambda: ["begin", "5", "2"] in [line[:3] for line in steps(tmp_path)])  # nobody has asked for anything
        until(lambda: ["end", "8"] in [line[:2] for line in steps(tmp_path)])
        done = ended(server.url, request_id)
        resumed = httpx.get(
            f"{server.url}/tasks/{request_id}/events",
            headers={"Last-Event-ID": str(first[-1]["seq"])},
            timeout=PATIENCE,
        )

    assert [line[1] for line in steps(tmp_path) if line[0] == "end"] == list("12345678")
    assert [line[1] for line in steps(tmp_path) if line[0] == "begin"] == list("123455678")
    assert (done["attempt"], done["result_data"]) == (2, {"steps": list(range(1, 9))})
    numbers = [int(event.last_id) for event in read(resumed.content) if event.last_id]
    assert numbers == list(range(first[-1]["seq"] + 1, done["seq"] + 1))
    shown = [e.document["progress_percentage"] for e in read(resumed.content) if e.type == "progress"]
    assert shown == sorted(shown)


def test_a_stopped_server_gives_its_tasks_back_to_another_within_a_second(tmp_path):
    code = app_code(tmp_path, shutdown_grace=0.5)
    with gunicorn(tmp_path, code, "--threads", "4") as first:
        request_id = submit(first.url, hold=3)
        until(lambda: ["begin", "3"] in [line[:2] for line in steps(tmp_path)])
        with gunicorn(tmp_path, code, "--threads", "4") as second:
            first.process.send_signal(signal.SIGTERM)
            until(lambda: ["begin", "3", "2"] in [line[:3] for line in steps(tmp_path)])
            events = {event["type"]: event for event in history(second.url, request_id)}
            (tmp_path / "go").touch()
            done = ended(second.url, request_id)

    assert done["attempt"] == 2
    released, started = (float(events[name]["at"][17:-1]) for name in ("released", "started"))
    assert (started - released) % 60 <= 1.2  # the look-out's longest pause is 0.9 s
    assert events["released"]["details"] == "interrupted by a restart; going on shortly"


def test_a_pipeline_with_a_thread_pool_finishes_while_its_server_ends(tmp_path):
    code = app_code(tmp_path, shutdown_grace=20)
    with gunicorn(tmp_path, code, "--threads", "4") as server:
        request_id = submit(server.url, "/pooled")
        (tmp_path / "go").touch()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: "Shutting down" in server.log or "Worker exiting" in server.log)
        (tmp_path / "stopping").touch()
        server.process.wait(PATIENCE)

    with gunicorn(tmp_path, code, "--threads", "4") as server:
        done = ended(server.url, request_id)

    assert (done["attempt"], done["result_data"]) == (1, {"made": ["0", "1", "2"]})


def test_a_deploy_under_load_loses_nothing_and_refuses_only_with_retry_after(tmp_path):
    code = app_code(tmp_path, shutdown_grace=5)
    accepted, refused, broken = [], [], []

    def send(client, n):
        while True:
            try:
                answer = client.post("/quick", json={"n": n}, headers={"Idempotency-Key": f'"{n}"'})
            except httpx.TransportError as error:  # the connection was closed under the request: the client repeats it
                broken.append(error)
                continue
            if answer.status_code == 202:
                accepted.append(answer.json()["request_id"])
                return
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), answer.text
            refused.append(answer)
            threading.Event().wait(0.1)

    with gunicorn(tmp_path, code, "--workers", "2", "--threads", "4", "--keep-alive", "0") as server:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            senders, begin = [], time.monotonic()
            for n in range(160):  # 20 a second
                threading.Event().wait(max(0.0, begin + n / 20 - time.monotonic()))
                if n in (40, 100):
                    server.process.send_signal(signal.SIGHUP)
                senders.append(threading.Thread(target=send, args=(client, n)))
                senders[-1].start()
            for sender in senders:
                sender.join(PATIENCE)
        results = [ended(server.url, request_id)["result_data"]["n"] for request_id in accepted]

    assert sorted(results) == list(range(160))
    assert len(set(accepted)) == 160
    print(f"refused {len(refused)} times with 503, {len(broken)} connections broken")


def test_a_view_that_outlives_the_servers_timeout_still_completes(tmp_path):
    key = {"Idempotency-Key": '"once"'}
    with gunicorn(tmp_path, app_code(tmp_path), "--worker-class", "sync", "--timeout", "5") as server:
        with contextlib.suppress(httpx.RemoteProtocolError):  # by gunicorn's version: it breaks off, or answers 500
            first = httpx.post(server.url + "/legacy", json={"seconds": 20}, headers=key, timeout=60)
            assert first.status_code == 500
        answer = until(lambda: httpx.post(server.url + "/legacy", json={"seconds": 20}, headers=key, timeout=60))
        task = document(server.url, answer.headers["Task-Id"])
        log = server.log

    assert (answer.status_code, answer.json()) == (200, {"made": "by the view"})
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert "WORKER TIMEOUT" in log
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert [line[:2] for line in steps(tmp_path)] == [["legacy", "1"], ["legacy", "2"]]


def test_the_development_server_drains_on_sigterm_and_a_second_one_ends_it_at_once(tmp_path):
    (tmp_path / "served.py").write_text(app_code(tmp_path, shutdown_grace=60))
    port = str(free_port())
    with flask_process(tmp_path, "run", "--port", port) as (process, log):
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(url + "/tasks/health").status_code == 200)
        request_id = submit(url, hold=2)
        until(lambda: ["begin", "2"] in [line[:2] for line in steps(tmp_path)])
        process.send_signal(signal.SIGTERM)
        refusal = until(lambda: (r := httpx.post(url + "/quick", json={"n": 1})).status_code == 503 and r)
        assert document(url, request_id)["status"] == "processing"  # it still serves, and still works
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)

    assert refusal.headers["Retry-After"]
    assert process.returncode == -signal.SIGTERM, log.read_text()


def test_the_development_server_lets_its_tasks_finish(tmp_path):
    (tmp_path / "served.py").write_text(app_code(tmp_path, shutdown_grace=60))
    port = str(free_port())
    with flask_process(tmp_path, "run", "--port", port) as (process, _):
        url = f"http://127.0.0.1:{port}"
        until(lambda: httpx.get(url + "/tasks/health").status_code == 200)
        request_id = submit(url, hold=2)
        until(lambda: ["begin", "2"] in [line[:2] for line in steps(tmp_path)])
        process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        process.wait(PATIENCE)

    shown = _flask(tmp_path, "bgtasks", "show", request_id)
    assert "completed" in shown.splitlines()[0]


def test_a_web_deploy_interrupts_nothing_that_a_worker_runs(tmp_path):
    code = app_code(tmp_path, runner="external", shutdown_grace=20)
    (tmp_path / "served.py").write_text(code)
    with flask_process(tmp_path, "bgtasks", "worker", "--workers", "2") as (worker, log):
        with gunicorn(tmp_path, code, "--threads", "4") as server:
            request_id = submit(server.url, hold=4)
            until(lambda: ["begin", "4"] in [line[:2] for line in steps(tmp_path)])
            kill_all(server)
        with gunicorn(tmp_path, code, "--threads", "4") as server:
            (tmp_path / "go").touch()
            done = ended(server.url, request_id)
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE)

    assert done["attempt"] == 1
    assert {line[3] for line in steps(tmp_path)} == {str(worker.pid)}
    assert worker.returncode == 0, log.read_text()


def test_a_workers_second_signal_ends_it_at_once_and_another_one_goes_on(tmp_path):
    (tmp_path / "served.py").write_text(app_code(tmp_path, runner="external", shutdown_grace=60))
    request_id = _flask(tmp_path, "seed").strip()
    with flask_process(tmp_path, "bgtasks", "worker") as (worker, _):
        until(lambda: "completed" in _flask(tmp_path, "bgtasks", "show", request_id).splitlines()[0])
    with gunicorn(tmp_path, (tmp_path / "served.py").read_text(), "--threads", "2") as server:
        request_id = submit(server.url, hold=6)
        with flask_process(tmp_path, "bgtasks", "worker") as (worker, log):
            until(lambda: ["begin", "6"] in [line[:2] for line in steps(tmp_path)])
            worker.send_signal(signal.SIGTERM)
            until(lambda: "stopping" in log.read_text())
            worker.send_signal(signal.SIGTERM)
            worker.wait(PATIENCE)
        (tmp_path / "go").touch()
        with flask_process(tmp_path, "bgtasks", "worker"):
            done = ended(server.url, request_id)

    assert worker.returncode == 128 + signal.SIGTERM
    assert done["attempt"] == 2
    assert [line[1] for line in steps(tmp_path) if line[0] == "end"] == list("12345678")


def test_a_zombie_that_wakes_up_changes_nothing(tmp_path):
    (tmp_path / "served.py").write_text(app_code(tmp_path, runner="external", lease_seconds=1))
    with gunicorn(tmp_path, (tmp_path / "served.py").read_text(), "--threads", "2") as server:
        request_id = submit(server.url, hold=5)
        with flask_process(tmp_path, "bgtasks", "worker") as (zombie, log):
            until(lambda: ["begin", "5"] in [line[:2] for line in steps(tmp_path)])
            zombie.send_signal(signal.SIGSTOP)
            with flask_process(tmp_path, "bgtasks", "worker"):
                until(lambda: ["begin", "5", "2"] in [line[:3] for line in steps(tmp_path)])
                (tmp_path / "go").touch()
                done = ended(server.url, request_id)
                zombie.send_signal(signal.SIGCONT)
                until(lambda: ["end", "5", "1"] in [line[:3] for line in steps(tmp_path)])  # it believes it still runs
                zombie.send_signal(signal.SIGTERM)
                zombie.wait(PATIENCE)
                after = document(server.url, request_id)

    assert after == done
    assert done["attempt"] == 2
    assert [line[:3] for line in steps(tmp_path) if line[:2] == ["begin", "6"]] == [["begin", "6", "2"]]
    assert zombie.returncode == 0, log.read_text()


TAKEN_BY_ANOTHER_THREAD = """
import os, signal, threading
from flask_bgtasks.cli.worker import _Stop

stop, main = _Stop(), threading.main_thread().native_id
signal.signal(signal.SIGTERM, stop)

def take():
    while open(f"/proc/self/task/{main}/stat").read().rpartition(")")[2].split()[0] != "S":
        os.sched_yield()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=take).start()
print(stop.wait())
"""


def test_a_worker_stops_at_a_signal_that_the_kernel_hands_to_another_thread():
    """As it does where the main thread is still waking from a SIGSTOP."""
    command = [sys.executable, "-c", TAKEN_BY_ANOTHER_THREAD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert (done.stdout, done.stderr) == (f"{int(signal.SIGTERM)}\n", "")


def test_a_command_of_the_shell_stores_its_task_and_leaves_it_to_the_server(tmp_path):
    code = app_code(tmp_path)
    (tmp_path / "served.py").write_text(code)
    request_id = _flask(tmp_path, "seed").strip()
    assert not (tmp_path / "steps.log").exists()

    with gunicorn(tmp_path, code, "--threads", "2", ready=None) as server:
        until(lambda: steps(tmp_path))
        done = ended(server.url, request_id)

    assert done["result_data"] == 7


def _flask(folder, *arguments):
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = [sys.executable, "-m", "flask", "--app", "served", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
