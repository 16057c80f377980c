"""Looks an app over: its store, its clock, what waits, settings that do not fit together, and every plugin's service.

Changes nothing. A part that is broken or hangs is a finding, never the end of the examination: each is looked at in a
thread of its own, for a limited time.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ..app.completion import misplacement
from ..app.state import AppState
from ..app.stuck import counted_names, stuck_tasks
from ..auth import identities
from ..core.text.redaction import redact
from ..errors import BackgroundTasksError, ConfigurationError
from ..runtime import processes
from ..runtime.background_thread import ended_within
from ..settings import DEFAULT_STORE
from ..wording import counted
from .layouts import CURRENT, NEWER, described, state_of

OK, WARN, FAIL = "ok", "warn", "FAIL"

DEADLINE_SECONDS = 15.0
"""For one part. Longer than the deadlines of the calls that are made in it (2 to 8 s)."""

MAX_CLOCK_SKEW = timedelta(seconds=5)
"""More than what a clock that is set over the network is ever off: seconds count in signatures and access tokens."""

LONG_WAIT = timedelta(minutes=10)
UNSERVED_WAIT = timedelta(seconds=60)
"""A worker process looks for work every few seconds: what has waited longer, while nobody works, is met by nobody."""

RECORDER = "memory"  # the sink that sends nothing

NEEDS = {
    "webhooks": "webhook",
    "vapid_private_key": "webpush",
    "fcm_endpoint": "fcm",
    "progress_push_seconds": "fcm",
    "android_channel": "fcm",
    "alert_urls": "alerts",
}
"""Settings that nobody reads without this sink."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and how it is.

    :param level: ``ok``, ``warn`` (it works, and may not be what is meant) or ``FAIL``.
    :param mend: what is wrong, and how to mend it; None where nothing is.
    """

    level: str
    what: str
    mend: str | None = None

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.what}" + (f": {self.mend}" if self.mend else "")


Look = Callable[[AppState], Iterable[Finding]]


def examine(state: AppState, *, token: str | None = None) -> Iterator[Finding]:
    """Look at everything, one after the other.

    :param token: a device's address, for plugins that can try what a push to it would meet; none is sent.
    """
    store = _contained(state, "store", _store)
    yield from store
    if all(finding.level != FAIL for finding in store):
        yield from _contained(state, "app", _app)
        yield from _contained(state, "clock", _clock)
        yield from _contained(state, "queue", _queue)
        yield from _contained(state, "stuck", _stuck)
        yield from _contained(state, "runner", _runner)
        yield from _contained(state, "announcements", _announcements)
    yield from _contained(state, "tasks", _tasks)
    yield from _contained(state, "notifications", _notifications)
    yield from _contained(state, "settings", _settings)
    yield from _contained(state, "owners", _owners)
    yield from _contained(state, "logins", _logins)
    yield from _contained(state, "access tokens", _access_tokens)
    for name in state.plugins.implementing("bgtasks_check"):
        yield from _contained(state, name, functools.partial(_plugin, name=name, token=token))
    if token is not None:
        yield from _contained(state, "token", _token)


def _contained(state: AppState, what: str, look: Look) -> list[Finding]:
    """What a look finds, within its time; what it raises is a finding too."""
    found: list[Finding] = []

    def run() -> None:
        try:
            with state.app.app_context():
                found.extend(look(state))  # one by one: what was found before an error counts
        except BackgroundTasksError as error:
            found.append(Finding(FAIL, what, redact(str(error))))
        except BaseException as error:  # a check that ends the process would end this thread in silence
            found.append(Finding(FAIL, what, redact(f"{type(error).__name__}: {error}")))

    if not ended_within(DEADLINE_SECONDS, run, name="bgtasks-doctor"):
        return [*found, Finding(FAIL, what, f"no answer within {DEADLINE_SECONDS:g} s")]
    return found


# -- the store ---------------------------------------------------------------------------------------------------------


def _store(state: AppState) -> Iterator[Finding]:
    state.store.check()
    state.store.take_mark("doctor", timedelta(0))  # a write that keeps nothing: what is taken for no time is free
    what = f"store: {redact(state.settings.store)} can be read and written"
    if state.settings.store.startswith("memory:"):
        yield Finding(
            WARN, what, "each process has its own, and loses it when it ends: for tests, or a single serving process"
        )
    else:
        yield Finding(OK, what)
    tables = state.store.tables
    if tables is not None:
        layout = tables.layout()
        level = {CURRENT: OK, NEWER: WARN}.get(state_of(layout), FAIL)
        what = f"tables: layout {layout.found}"
        yield Finding(level, what, None if level == OK else described(layout))


def _app(state: AppState) -> Iterator[Finding]:
    """Whose the store is."""
    others, mine = dict(state.store.apps()), state.settings.app_id
    own = others.pop(mine, 0)
    what = f"app: {mine!r}, {counted(own, 'task')} in this store"
    if not others:
        yield Finding(OK, what)
        return
    what += "; here too: " + ", ".join(
        f"{app_id!r}, {counted(count, 'task')}" for app_id, count in sorted(others.items())
    )
    if not own and any(others.values()):
        yield Finding(
            WARN,
            what,
            "each app sees and runs its own tasks only: if one of them is this app under another name, set "
            "BGTASKS_APP_ID, or take over what it has by `flask bgtasks adopt NAME`",
        )
    elif state.settings.store == DEFAULT_STORE:
        yield Finding(
            WARN, what, "give each app a file of its own (BGTASKS_STORE), unless this one is shared on purpose"
        )
    else:
        yield Finding(OK, what)


def _clock(state: AppState) -> Iterator[Finding]:
    before = datetime.now(timezone.utc)
    there = state.store.now()
    after = datetime.now(timezone.utc)
    off = max(before - there, there - after, timedelta(0))
    what = f"clock: {off.total_seconds():.1f} s from the store's"
    if off <= MAX_CLOCK_SKEW:
        yield Finding(OK, what)
        return
    mend = "set this machine's clock over the network (NTP): signatures and tokens depend on it"
    yield Finding(FAIL if off > state.settings.lease else WARN, what, mend)


def _queue(state: AppState) -> Iterator[Finding]:
    figures = state.store.stats()
    waiting, oldest = figures.by_status.get("started", 0), figures.oldest_waiting
    waited = state.store.now() - oldest if oldest is not None else timedelta(0)
    what = f"queue: {waiting} waiting" + (f", the oldest for {_told(waited)}" if waiting else "")
    if waited > LONG_WAIT:
        mend = (
            "more tasks are accepted than run: raise BGTASKS_WORKERS, add processes, or start one that serves this "
            "task's queue and name"
        )
        yield Finding(WARN, what, mend)
    else:
        yield Finding(OK, what)
    failed = figures.by_status.get("failed", 0)
    if failed:
        yield Finding(
            OK, f"ended: {failed - figures.rejected} failed, {figures.rejected} rejected by their views (4xx)"
        )
    what = f"deliveries: {figures.deliveries_pending} pending, {figures.deliveries_dead} dead"
    if figures.deliveries_dead:
        mend = "`flask bgtasks dead` says why, `flask bgtasks replay` delivers them again"
        yield Finding(WARN, what, mend)
    else:
        yield Finding(OK, what)


def _stuck(state: AppState) -> Iterator[Finding]:
    """Tasks that nobody can run, as far as this process knows."""
    state.completion.complete()
    found = stuck_tasks(state.store, state.registry)
    if found:
        seconds = state.settings.unknown_task_seconds
        end = "for ever" if seconds is None else f"until they fail (BGTASKS_UNKNOWN_TASK_SECONDS, {seconds:g} s)"
        yield Finding(
            WARN,
            f"stuck: {counted_names(found)}",
            f"no function of this name is registered here, and no process has taken them: they wait {end}. If the "
            "function was renamed, keep its old name with name=; else start a worker that knows it, or cancel them "
            "(`flask bgtasks cancel ID`)",
        )


def _runner(state: AppState) -> Iterator[Finding]:
    settings = state.settings
    what = f"runner: {settings.runner}"
    if settings.runner == "threads":
        yield Finding(OK, f"{what}, {settings.workers} in each process that serves")
        return
    if not (settings.runner == "external" or state.runner.publishes):
        yield Finding(OK, what)
        return
    try:
        state.runner.check()
    except ConfigurationError as error:
        yield Finding(FAIL, what, str(error))
        return
    if settings.store.startswith("memory:"):
        mend = "a worker process does not see what is stored in another one's memory: another BGTASKS_STORE is needed"
        yield Finding(FAIL, what, mend)
        return
    for part, wrong in state.runner.examine():
        yield Finding(OK, part) if wrong is None else Finding(FAIL, part, redact(wrong))
    alive = [worker for worker in state.store.workers() if processes.alive(worker) is not False]
    oldest = state.store.stats().oldest_waiting
    if alive:
        yield Finding(OK, f"{what}, {counted(len(alive), 'process', 'processes')} at work")
    elif oldest is not None and state.store.now() - oldest > UNSERVED_WAIT:
        yield Finding(FAIL, what, f"tasks are waiting, and no process runs any: {state.runner.served_by}")
    else:
        yield Finding(OK, f"{what}, nothing to do: whether there are processes shows when there is")


def _announcements(state: AppState) -> Iterator[Finding]:
    """Whether what another process stores would be heard of at once."""
    if not state.exchange.active:
        yield Finding(OK, "announcements: none, processes find by polling what others stored")
        return
    answer = state.exchange.examine()
    if isinstance(answer, float):
        yield Finding(OK, f"announcements: heard after {answer * 1000:.0f} ms")
    else:
        yield Finding(WARN, "announcements", f"processes poll instead: {redact(str(answer))}")


# -- what does not fit together ----------------------------------------------------------------------------------------


def _tasks(state: AppState) -> Iterator[Finding]:
    state.completion.complete()
    for problem in state.completion.problems:
        yield Finding(FAIL, f"setup: {problem.brief}", problem.message)
    for definition in state.completion.misplaced:
        yield Finding(WARN, f"decorators: {definition.name}", misplacement(definition))
    for unguarded in state.completion.unguarded:
        yield Finding(WARN, f"guards: {unguarded.name}", unguarded.message)
    for name in state.declarations.unclear(state.registry):
        mend = (
            "it was declared for several apps, and nothing says which function is this app's: see the app factory guide"
        )
        yield Finding(WARN, f"tasks: {name}", mend)
    if state.registry:
        yield Finding(OK, f"tasks: {', '.join(sorted(state.registry))}")
    else:
        mend = "no view or function is a task yet: BGTASKS_ENDPOINTS, @bgtasks.background or @bgtasks.task makes it one"
        yield Finding(WARN, "tasks: none", mend)


def _notifications(state: AppState) -> Iterator[Finding]:
    senders = [name for name in state.plugins.implementing("bgtasks_send_notification") if name != RECORDER]
    telling = sorted(name for name, task in state.registry.items() if task.options.notify)
    what = f"notifications: of {', '.join(telling) or 'no task'}, sent by {', '.join(senders) or 'nobody'}"
    if state.settings.notify == "never":
        yield Finding(WARN if telling and senders else OK, what, "BGTASKS_NOTIFY is 'never': none is sent")
    elif telling and not senders:
        yield Finding(WARN, what, "name a sink that sends in BGTASKS_SINKS: fcm, webpush or your own")
    elif senders and not telling:
        yield Finding(WARN, what, "give a task notify=, unless all are sent by hand (send_push, track_request)")
    elif telling:
        yield Finding(OK, what)


def _settings(state: AppState) -> Iterator[Finding]:
    for setting, sink in NEEDS.items():
        if getattr(state.settings, setting) and state.plugins.get(sink) is None:
            name = f"BGTASKS_{setting.upper()}"
            yield Finding(WARN, f"settings: {name}", f"it has no effect without {sink!r} in BGTASKS_SINKS")


def _owners(state: AppState) -> Iterator[Finding]:
    login = state.owners.unread_login()
    if login is not None:
        mend = f"the app has a login ({login}), and who has a task's id can read it: add @bgtasks.owner_loader"
        yield Finding(WARN, "owners: not known", mend)
    elif state.owners.known:
        yield Finding(OK, "owners: each sees their own tasks")
    else:
        yield Finding(OK, "owners: none, who has a task's id can read it")


def _logins(state: AppState) -> Iterator[Finding]:
    names = ", ".join(state.settings.keep_headers)
    restored = ", ".join(identities.active(state.app))
    yield Finding(
        OK,
        f"logins: runs get {f'the headers {names} (BGTASKS_KEEP_HEADERS)' if names else 'no header of a login'}, "
        f"and what {restored or 'no extension'} knows of the user",
    )


def _access_tokens(state: AppState) -> Iterator[Finding]:
    if state.app.secret_key:
        yield Finding(OK, "access tokens: signed with the app's SECRET_KEY")
    else:
        mend = "there are none without the app's SECRET_KEY, and an EventSource cannot follow a task that has an owner"
        yield Finding(WARN, "access tokens", mend)


# -- plugins -----------------------------------------------------------------------------------------------------------


def _plugin(state: AppState, *, name: str, token: str | None) -> Iterator[Finding]:
    for answer in state.plugins.only(name, "bgtasks_check")(settings=state.settings, token=token):
        for what, wrong in answer:
            yield Finding(OK, what) if wrong is None else Finding(FAIL, what, redact(wrong))


def _token(state: AppState) -> Iterator[Finding]:
    """Whether anyone has looked at the address: a plugin whose check asks for it."""
    for name in state.plugins.implementing("bgtasks_check"):
        check = getattr(state.plugins.get(name), "bgtasks_check", None)
        if check is None or "token" in inspect.signature(check).parameters:
            return
    mend = "no sink in BGTASKS_SINKS can check an address; 'fcm' can"
    yield Finding(WARN, "token: not checked", mend)


def _told(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
