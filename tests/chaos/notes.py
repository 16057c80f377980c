"""What the chaos app writes down outside of the store: one line and one `write` each, which no other process's mixes
with. The files are opened once, so that a process that may open no more can still say what it does.
"""

import json
import os
import random
import signal
import threading
from pathlib import Path

FOLDER = Path(os.environ["CHAOS_FOLDER"])
CALM = "CHAOS_CALM" in os.environ  # nothing fails by chance
SEED = f"{os.environ.get('CHAOS_SEED', 0)}-{os.environ.get('CHAOS_START', 0)}-{os.getpid()}"
LUCK = random.Random(SEED)

LOGS = ("steps.log", "sink.log", "hostile.log", "bursts.log", "census.log")
_OPEN = {name: os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for name in LOGS}


def note(file, *words):
    """Append a line to a log."""
    os.write(_OPEN[file], (" ".join(map(str, words)) + "\n").encode())


def answer_census():
    """Say which threads there are now, and whenever the driver asks by a signal that nobody else uses."""

    def write(number=None, frame=None):
        names = sorted(thread.name for thread in threading.enumerate())
        calm = (FOLDER / "calm").exists()
        note("census.log", json.dumps({"pid": os.getpid(), "calm": calm, "threads": names}))

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGRTMIN, write)
        write()
