"""Implements every hook once: writes what it is told into a file, names owners, brings a store, a runner, a command."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import click

from flask_bgtasks import hookimpl
from flask_bgtasks.runners.inline import InlineRunner
from flask_bgtasks.stores.memory.store import MemoryStore


def _write(**row):
    path = os.environ.get("SAMPLE_PLUGIN_LOG")
    if path:
        with open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")


@hookimpl
def bgtasks_task_event(task, event):
    _write(hook="event", request_id=task.request_id, type=event.type.value, seq=event.seq)


@hookimpl
def bgtasks_task_progress(task, progress):
    _write(hook="progress", request_id=task.request_id, percentage=progress.percentage)


@hookimpl
def bgtasks_send_notification(notification):
    _write(hook="notification", title=notification.title)


@hookimpl
def bgtasks_close(context):
    _write(hook="close", app=context.app_name)


@hookimpl
def bgtasks_prepare_notification(task, notification):
    if task.name == "quiet":
        return False
    return replace(notification, title=notification.title.upper())


@hookimpl
def bgtasks_request_owner(request):
    return request.headers.get("X-Sample-Owner")


@hookimpl
def bgtasks_open_store(url):
    if url.startswith("sample:"):
        store = MemoryStore()
        store.url = url
        return store
    return None


@hookimpl
def bgtasks_make_runner(name, run):
    return InlineRunner(run) if name == "sample" else None


@hookimpl
def bgtasks_register_commands(group):
    @group.command("sample")
    def sample():
        """Say hello."""
        click.echo("hello from the sample plugin")
