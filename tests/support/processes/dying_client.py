"""A Python client as a process of its own, which dies where a test says.

``python -m tests.support.processes.dying_client URL FOLDER DIE BODY``. It writes down each outcome that
it is told, in a file that survives it.
"""

import json
import os
import signal
import subprocess
import sys

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

WHERE = ("before sending", "before the answer", "while following", "before telling", "before seen")


def start(folder, url, *, die=None, body=None):
    """Start a client that submits, if there is a body, and follows all that is pending; the process."""
    words = [url, str(folder), die or "", "" if body is None else json.dumps(body)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.processes.dying_client", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for it to end; its exit code, negative for a signal."""
    error = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode in (0, -signal.SIGKILL), error
    return process.returncode


def told(folder):
    """What was told to the clients of a folder."""
    path = folder / "told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _main(url, folder, die, body):
    from flask_bgtasks.client import Client
    from flask_bgtasks.client.io import transport

    def at(where):
        if die == where:
            os.kill(os.getpid(), signal.SIGKILL)

    class Doomed(transport.BlockingTransport):
        def request(self, request):
            sends, sees = request.headers.get("idempotency-key"), request.path.endswith("/seen")
            if sends:
                at("before sending")
            if sees:
                at("before seen")
            answer = super().request(request)
            if sends:
                at("before the answer")
            return answer

    def tell(outcome):
        at("before telling")
        line = json.dumps([outcome.key, outcome.status, outcome.result]) + "\n"
        out = os.open(f"{folder}/told.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(out, line.encode())
        os.close(out)

    transport.BlockingTransport = Doomed
    with Client(url, store=f"{folder}/pending.sqlite3", on_outcome=tell) as client:
        if body:
            client.submit("/process", json=json.loads(body))
        for event in client.events(timeout=PATIENCE):
            if event.type == "output":
                at("while following")


if __name__ == "__main__":
    _main(*sys.argv[1:])
