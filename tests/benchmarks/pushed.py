"""Many ended tasks with several devices each, told by FCM, to a stand-in on this machine.

python -m tests.benchmarks.pushed FOLDER URL ours|send|send_each [TASKS DEVICES OWNERS]

``ours`` ends tasks and has the sink send; ``send`` and ``send_each`` are firebase-admin by itself, in a loop and in
batches of 500. Prints one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Flask

from flask_bgtasks import BackgroundTasks
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import Task, TaskKind
from flask_bgtasks.core.transitions.attempt import Claim, Complete
from flask_bgtasks.stores.sql import SqlStore


@dataclass(frozen=True)
class Size:
    """How much is told: tasks that end, in turn those of each owner, who has so many devices."""

    tasks: int = 10_000
    devices: int = 3
    owners: int = 500

    @classmethod
    def with_devices(cls, registered: int) -> Size:
        """So many devices in all, ten to an owner, each of whom one task is for."""
        owners = max(1, registered // 10)
        return cls(owners, 10, owners)

    @property
    def messages(self) -> int:
        """How many messages that makes."""
        return self.tasks * self.devices

    def __str__(self) -> str:
        return f"{self.tasks:,} ended tasks of {self.owners:,} owners with {self.devices} devices each"


ALONE = 2_000  # messages that firebase-admin by itself sends
PROJECT = "demo-bench"


def token(owner: int, device: int) -> str:
    """An address as long as FCM's."""
    return f"{owner:011d}{device:011d}:{'APA91b' * 23}"


def ours(folder: str, url: str, size: Size) -> dict[str, Any]:
    """End the tasks, then make the pending deliveries."""
    app = Flask("pushed", instance_path=folder)
    bgtasks = BackgroundTasks(app, sinks=["fcm"], fcm_endpoint=url, firebase_project=PROJECT, runner="external")
    state = app.extensions["bgtasks"]
    # Through a store of its own, whose commits nobody in this process hears of: nothing is sent before all have ended.
    store, owed = SqlStore(f"sqlite:///{folder}/bgtasks.sqlite3", app_id="pushed"), state.deliveries.for_change
    bgtasks.task(name="work", notify="Your lesson is ready")(dict)
    for owner in range(size.owners):
        for device in range(size.devices):
            store.save_device(make_device(FCM_TOKEN, token(owner, device), owner=str(owner)), max_devices=20)
    now, begun = store.now(), time.monotonic()
    for number in range(size.tasks):
        task = Task(
            str(uuid.uuid4()), "work", TaskKind.FUNCTION, now, now, timedelta(days=7), owner=str(number % size.owners)
        )
        store.create(task, input={}, deliveries=owed)
        store.transition(task.request_id, Claim("bench", timedelta(hours=1)), deliveries=owed)
        store.transition(task.request_id, Complete(1), deliveries=owed)
    ended, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state.deliveries.wake()
    while store.stats().deliveries_pending:
        time.sleep(0.25)
    sent = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    letters = len(store.dead_deliveries())
    state.close(grace=5)
    store.close()
    return {
        "ending": size.tasks / (ended - begun),
        "seconds": sent - ended,
        "messages": size.messages,
        "mib": after / 1024,
        "mib_before": before / 1024,
        "letters": letters,
    }


def alone(url: str, *, batch: int) -> dict[str, Any]:
    """firebase-admin, as its documentation shows it."""
    import warnings

    import firebase_admin
    from firebase_admin import credentials, messaging
    from google.auth.credentials import AnonymousCredentials

    class Nobody(credentials.Base):  # type: ignore[misc]
        def get_credential(self) -> Any:
            made = AnonymousCredentials()
            made.token = "stand-in"
            return made

    warnings.simplefilter("ignore")
    messaging._MessagingService.FCM_URL = f"{url}/v1/projects/{{0}}/messages:send"
    app = firebase_admin.initialize_app(Nobody(), options={"projectId": PROJECT})
    messages = [
        messaging.Message(
            token=token(number, 0),
            notification=messaging.Notification(title="Your lesson is ready"),
            data={"request_id": str(uuid.uuid4()), "status": "completed", "name": "work", "seq": "3", "attempt": "1"},
        )
        for number in range(ALONE)
    ]
    begun = time.monotonic()
    if batch == 1:
        for message in messages:
            messaging.send(message, app=app)
    else:
        for first in range(0, ALONE, batch):
            messaging.send_each(messages[first : first + batch], app=app)
    seconds = time.monotonic() - begun
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "messages": ALONE, "mib": mib}


def main(folder: str, url: str, who: str, *size: str) -> None:
    """Run, and say how it went."""
    if who == "ours":
        told = ours(folder, url, Size(*map(int, size)))
    else:
        told = alone(url, batch=500 if who == "send_each" else 1)
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
