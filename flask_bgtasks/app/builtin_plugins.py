"""The stores and runners that come with the library, plugged in by the same hooks as other plugins."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from flask import Flask

from ..announcements.channel import Channel
from ..errors import ConfigurationError
from ..hookspecs import hookimpl
from ..runners.base import Fetch, Run, Runner, Wake, WorkerProcess
from ..runners.external import ExternalRunner
from ..runners.inline import InlineRunner
from ..runners.threads import ThreadRunner
from ..settings import DEFAULT_STORE, Settings
from ..stores.base import Store
from .app_ids import warn_of_others

STORES = ("memory", "sqlite", "postgresql", "firestore")
"""The schemes of the stores, for messages."""

ENGINES = {"celery": "CeleryRunner", "rq": "RqRunner", "dramatiq": "DramatiqRunner", "huey": "HueyRunner"}
"""The runners over another queue: each module of :mod:`..runners` is named as its extra, its setting, and the app's
extension that it uses."""

RUNNERS = ("threads", "inline", "external", *ENGINES, "http")

SERVING_CONNECTIONS = 28
"""To PostgreSQL for what serves requests, the sinks and the look-out, besides one for each thread that runs tasks, and
one for announcements. An operation holds one for milliseconds, so that many more threads find one; it is our share of
the server's hundred."""


@hookimpl(trylast=True)
def bgtasks_open_store(app: Flask, url: str, settings: Settings) -> Store | None:
    """``memory://``, ``sqlite://``, ``postgresql://``, ``firestore://``."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "memory":
        from ..stores.memory.store import MemoryStore

        return MemoryStore(app_id=settings.app_id, max_events=settings.max_events)
    if scheme in ("sqlite", "postgresql"):
        from ..stores.sql import SqlStore

        address = sqlite_path(app, url) if scheme == "sqlite" else url
        return SqlStore(
            address,
            app_id=settings.app_id,
            synchronous=settings.sqlite_synchronous,
            max_events=settings.max_events,
            connections=SERVING_CONNECTIONS + settings.workers,
            auto_upgrade=settings.auto_upgrade,
            meet=functools.partial(warn_of_others, settings.app_id, address) if url == DEFAULT_STORE else None,
        )
    if scheme == "firestore":
        from ..firebase.firestore.client import connect
        from ..stores.firestore import FirestoreStore

        project, _, database = url.partition("://")[2].partition("/")
        firestore = connect(app, settings, project=project or None, database=database or None)
        return FirestoreStore(firestore, app_id=settings.app_id, clock=None, max_events=settings.max_events)
    return None


@hookimpl(trylast=True)
def bgtasks_make_runner(
    app: Flask, name: str, run: Run, fetch: Fetch, wake: Wake, process: WorkerProcess, settings: Settings
) -> Runner | None:
    """``threads``, ``inline``, ``external``, ``http``, and those of :data:`ENGINES`."""
    if name == "threads":
        return ThreadRunner(run, workers=settings.workers, fetch=fetch)
    if name == "inline":
        return InlineRunner(run)
    if name == "external":
        return ExternalRunner()
    if name in ENGINES:
        with _needing(f"BGTASKS_RUNNER={name!r}", extra=name):
            module = importlib.import_module(f"..runners.{name}", __package__)
        find = functools.partial(_engine, app, settings, name)
        return cast(Runner, getattr(module, ENGINES[name])(wake, process, app_id=settings.app_id, find=find))
    if name == "http":
        with _needing("BGTASKS_RUNNER='http'", extra="cloud-tasks"):
            from ..runners.http import Calls, HttpRunner
        queues, url, account = settings.cloud_tasks_queue, settings.run_url, settings.run_service_account
        if queues is None or url is None or account is None:
            raise ConfigurationError(f"BGTASKS_RUNNER='http': {_lacking(settings)}")
        calls = Calls(
            url=f"{url}{settings.url_prefix}/run",
            service_account=account,
            audience=settings.run_audience or url,
            deadline=settings.cloud_tasks_deadline,
        )
        return HttpRunner(wake, queues=queues, calls=calls, endpoint=settings.cloud_tasks_endpoint)
    return None


def _lacking(settings: Settings) -> str:
    """What the ``http`` runner cannot do without."""
    examples = {
        "cloud_tasks_queue": "the queue, 'projects/PROJECT/locations/REGION/queues/QUEUE'",
        "run_url": "the service's own address, 'https://app-abc123-ew.a.run.app'",
        "run_service_account": "who calls, 'tasks@PROJECT.iam.gserviceaccount.com'",
    }
    lacking = [f"set BGTASKS_{name.upper()} ({what})" for name, what in examples.items() if not getattr(settings, name)]
    return "; ".join(lacking)


def _engine(app: Flask, settings: Settings, name: str) -> Any:
    """What the app publishes to with this runner; None while it has nothing."""
    given = getattr(settings, name)
    return app.extensions.get(name) if given is None else given


def announcing(settings: Settings) -> Callable[[], Channel] | None:
    """What makes the channel by which the app's processes tell each other of changes; None where there is none.

    :raises ConfigurationError: its address is none, or its driver is not installed.
    """
    url = settings.announcements
    if url == "auto":
        url = settings.store if _driver(settings.store) in ("postgresql", "postgresql+psycopg") else "off"
    if url == "off" or _driver(settings.store) == "memory":  # which no other process sees
        return None
    make: Callable[[], Channel]
    if url.startswith("postgresql"):
        try:
            with _needing("BGTASKS_ANNOUNCEMENTS", extra="postgresql", package="psycopg"):
                from ..announcements.postgresql import PostgresChannel
        except ConfigurationError:
            if settings.announcements == "auto":  # the store is used by another driver
                return None
            raise

        make = functools.partial(PostgresChannel, url, app_id=settings.app_id)
    else:
        with _needing("BGTASKS_ANNOUNCEMENTS", extra="redis", package="redis"):
            from ..announcements.redis import RedisChannel

        make = functools.partial(RedisChannel, url, app_id=settings.app_id)
    make()  # connects to nothing, and says what is wrong with the address
    return make


@contextmanager
def _needing(what: str, *, extra: str, package: str | None = None) -> Iterator[None]:
    """Around the import of a module that needs an extra.

    :param what: the setting that asks for it.
    :param package: what counts as missing too where it is there and cannot be used, as psycopg without libpq.
    :raises ConfigurationError: the extra is not installed.
    """
    try:
        yield
    except ImportError as error:
        if package is None and not isinstance(error, ModuleNotFoundError):
            raise
        missing = package or error.name
        raise ConfigurationError(
            f"{what}: {missing!r} is not installed: pip install 'flask-bgtasks[{extra}]'"
        ) from error


def _driver(url: str) -> str:
    return url.partition("://")[0]


def sqlite_path(app: Flask, url: str) -> str:
    """The URL with a relative path put into the app's instance folder, which is made if it is not there.

    :raises ConfigurationError: the folder cannot be made or written.
    """
    prefix, _, path = url.partition("///")
    path, mark, query = path.partition("?")
    if not path or path == ":memory:":
        raise ConfigurationError(
            f"BGTASKS_STORE={url!r}: an SQLite database in memory is seen by one connection only. Use 'memory://'"
        )
    full = Path(app.instance_path) / path
    folder = full.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # one that is there stays as it is
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigurationError(
            f"BGTASKS_STORE={url!r}: the folder {str(folder)!r} cannot be made ({error.strerror}). "
            "Give the app an instance_path that it may write, or an absolute path: sqlite:////var/lib/app/tasks.sqlite3"
        ) from error
    if not writable:
        raise ConfigurationError(
            f"BGTASKS_STORE={url!r}: the folder {str(folder)!r} cannot be written by this user. "
            "Change its owner, or name another place: sqlite:////var/lib/app/tasks.sqlite3"
        )
    return f"{prefix}///{full}{mark}{query}"
