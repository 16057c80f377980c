"""The example app, unchanged, whose lessons are made in other processes; these import this module.

The environment says where things are kept, and whose workers make them: ``SHOP_FOLDER``, ``SHOP_STORE``,
``SHOP_BROKER``, ``SHOP_ID``, ``SHOP_ENGINE`` (``threads`` for the library's own). What is done beside it here only
notes which steps were begun, and what was stored then.
"""

import functools
import os
from datetime import timedelta
from pathlib import Path

from example_app import create_app
from example_app.pipeline import Work
from flask_bgtasks import current_task
from flask_bgtasks.execution.finding import sweep
from tests.support.processes import queues

ENGINE, APP_ID = os.environ["SHOP_ENGINE"], os.environ["SHOP_ID"]
FOLDER = Path(os.environ["SHOP_FOLDER"])

workers = None if ENGINE == "threads" else queues.make(ENGINE, os.environ["SHOP_BROKER"], APP_ID)
publishes_to = {} if workers is None else {f"BGTASKS_{ENGINE.upper()}": workers}
app = create_app(
    {
        **publishes_to,
        "SECRET_KEY": "a key of this test",
        "LESSON_PACE": 0.05,
        "LESSON_PHONE": str(FOLDER / "phone.sqlite3"),
        "BGTASKS_APP_ID": APP_ID,
        "BGTASKS_STORE": os.environ["SHOP_STORE"],
        "BGTASKS_RUNNER": ENGINE,
        "BGTASKS_SHUTDOWN_GRACE": 0.5,
    }
)
if ENGINE == "huey":
    workers = workers["default"]
sweep.PATIENCE = timedelta(seconds=3)  # a tenth, so that a run that loses its messages takes no minutes


STEPS = ("read", "outline", "keywords", "summaries", "story", "lecture", "quizzes", "pictures")
"""Methods of the lesson's work, each a checkpoint, in their order."""


def noted(name, method):
    """A step that notes, when it begins, how many checkpoints of its task are stored."""

    @functools.wraps(method)
    def step(self, *given):
        request_id = current_task.request_id
        stored = len(app.extensions["bgtasks"].store.load_checkpoints(request_id))
        with (FOLDER / "steps.log").open("a") as log:
            log.write(f"{request_id} {name} {stored}\n")
        return method(self, *given)

    return step


for name in STEPS:
    setattr(Work, name, noted(name, getattr(Work, name)))
