"""An app with the FCM sink, and what a test asks it."""

import threading
from datetime import timedelta

from flask import Flask

from flask_bgtasks import BackgroundTasks, Notification
from flask_bgtasks.core.devices import FCM_TOKEN, make_device
from flask_bgtasks.core.model import Progress
from flask_bgtasks.core.transitions.attempt import Claim
from tests.support.tasks import new_task
from tests.support.waiting import PATIENCE

FID_VALUE = "cXyZ0123456789abcdefGH"
TOKEN = f"eAbC0123456789abcdefGH:{'APA91b' * 20}"
OTHER = f"fAbC0123456789abcdefGH:{'APA91b' * 20}"
ONE_DEVICE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"subject": "device", "description": "Device message rate exceeded"}],
}


class FcmStudio:
    """An app with the sink, and what a test asks it."""

    def __init__(self, folder, **settings):
        self.app = Flask("studio", instance_path=str(folder))
        self.bgtasks = BackgroundTasks()
        self.notify = {"completed": Notification("Ready: {topic}", "{text}", link="https://app.example/l/{request_id}")}

        @self.bgtasks.task(name="work", notify={"completed": self._tell, "failed": "Failed"})
        def work(fail=False, **result):
            if fail:
                raise ValueError("no paper")
            return result

        self.work = work
        self.bgtasks.init_app(self.app, store="memory://", sinks=["fcm"], **settings)
        self.state = self.app.extensions["bgtasks"]
        self.store = self.state.store

    def _tell(self, task, result):
        return self.told(task, result)

    told = staticmethod(lambda task, result: Notification("Ready", link=f"https://app.example/{task.request_id}"))

    def register(self, value, *, kind=FCM_TOKEN, owner="anna", **fields):
        return self.store.save_device(make_device(kind, value, owner=owner, **fields), max_devices=20)

    def run(self, *, owner="anna", user_token=None, **kwargs):
        with self.app.app_context():
            handle = self.work.submit(owner=owner, user_token=user_token, **kwargs)
            handle.wait_until_done(timeout=PATIENCE)
        return handle.request_id

    def settled(self):
        pause = threading.Event()
        for _ in range(2000):
            if self.store.stats().deliveries_pending == 0:
                return True
            pause.wait(0.01)
        raise AssertionError(f"still pending: {self.store.stats()}")


class Stepping:
    """A running task, whose progress a test reports by hand."""

    def __init__(self, studio, store):
        task = new_task("11111111-1111-4111-8111-111111111111", "work", at=store.now(), owner="anna")
        store.create(task, input={})
        self.task = store.transition(task.request_id, Claim("w", timedelta(hours=1))).task
        self.studio, self.number = studio, 0

    def step(self, name):
        self.number += 1
        progress = Progress(self.studio.store.now(), 1, percentage=10.0 * self.number, step=name)
        self.studio.state.deliveries.tell_progress("fcm", self.task, progress)
