"""Forks a process for each line that it reads, which finishes a task and delivers: to be killed at any time.

``python -m tests.support.processes.forked_senders FOLDER FCM_URL``. A child says which task it completed as soon as
that is stored.
"""

import os
import signal
import sys
import threading

import firebase_admin.messaging  # noqa: F401 - imported once, here: a child is there in milliseconds
from flask import Flask

from flask_bgtasks import BackgroundTasks, signals
from flask_bgtasks.sinks.fcm import (
    client,  # noqa: F401 - as above
    sink,  # noqa: F401 - as above
)


def child(folder, url):
    app = Flask("senders", instance_path=folder)
    bgtasks = BackgroundTasks()

    @bgtasks.task(notify="Ready")
    def work():
        return {}

    bgtasks.init_app(app, sinks=["fcm"], fcm_endpoint=url, firebase_project="demo")

    @signals.task_completed.connect_via(app)
    def completed(sender, task, **extra):
        os.write(1, f"completed {task.request_id}\n".encode())

    with app.app_context():
        work.submit(user_token="a:token")
    bgtasks.start(app)
    threading.Event().wait()


def main(folder, url):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            child(folder, url)
        os.write(1, f"child {pid}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
