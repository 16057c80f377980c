"""Every ``BGTASKS_*`` setting: its name, default, meaning and check, in one place.

Read once, in ``init_app``; a wrong one is a :class:`~flask_bgtasks.errors.ConfigurationError` that says how to fix it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from ..errors import ConfigurationError
from ..wording import unknown_name
from . import checks

PREFIX = "BGTASKS_"

MIB = 2**20

DEFAULT_STORE = "sqlite:///bgtasks.sqlite3"


def _setting(default: Any, check: Callable[[str, Any], Any], doc: str) -> Any:
    metadata = {"check": check, "doc": doc}
    if isinstance(default, dict):
        return field(default_factory=lambda: MappingProxyType(dict(default)), metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked settings of one app. Times in seconds unless they are a :class:`~datetime.timedelta`."""

    store: str = _setting(
        DEFAULT_STORE,
        checks.string,
        "Where tasks are kept: an SQLAlchemy URL (a relative SQLite path is in the app's instance folder), "
        "`firestore://project`, `memory://`, or a scheme that a plugin adds.",
    )
    auto_upgrade: bool = _setting(
        True,
        checks.flag,
        "Whether the first process that opens the database makes our tables, and upgrades those of an older version. "
        "`False`: only `flask bgtasks db upgrade` does, and until then processes answer `503`.",
    )
    announcements: str = _setting(
        "auto",
        checks.announcements,
        "How processes tell each other at once what they stored, so that they need not poll: `auto` (by PostgreSQL's "
        "LISTEN and NOTIFY, with a PostgreSQL store), the URL of a Redis (`redis://host/0`; extra `redis`), the "
        "database's own address where `BGTASKS_STORE` names a pooler's, or `off`.",
    )
    app_id: str = _setting(
        "",
        checks.app_id,
        "The app that the tasks belong to: 1 to 100 printable characters, the same in every process of the app. An app "
        "sees and runs only its own tasks in the store. Default: the app's import name (`app.name`).",
    )
    runner: str = _setting(
        "threads",
        checks.string,
        "What runs tasks: `threads` of this process, `external` (`flask bgtasks worker` processes), `celery`, `rq`, "
        "`dramatiq` or `huey` (the workers of these), `http` (calls from Google Cloud Tasks, for Cloud Run), `inline` "
        "(tests), or one that a plugin adds.",
    )
    celery: Any = _setting(
        None, checks.anything, 'The Celery instance of `RUNNER=celery`. Default: `app.extensions["celery"]`.'
    )
    rq: Any = _setting(
        None,
        checks.anything,
        "The RQ queue of `RUNNER=rq`, or the address of its Redis (`redis://localhost/0`). Default: "
        '`app.extensions["rq"]`.',
    )
    dramatiq: Any = _setting(
        None,
        checks.anything,
        'The Dramatiq broker of `RUNNER=dramatiq`. Default: `app.extensions["dramatiq"]`, else that of '
        "`dramatiq.set_broker`.",
    )
    huey: Any = _setting(
        None,
        checks.anything,
        "The Huey instance of `RUNNER=huey`, or several by the names of the tasks' queues, `default` among them. "
        'Default: `app.extensions["huey"]`.',
    )
    cloud_tasks_queue: Mapping[str, str] | None = _setting(
        None,
        checks.optional(checks.cloud_queues),
        "The Cloud Tasks queue of `RUNNER=http`, `projects/P/locations/L/queues/Q`; or a mapping from each `queue=` of "
        "tasks to one, with `default` for all others.",
    )
    cloud_tasks_deadline: float = _setting(
        1800, checks.dispatch_deadline, "Seconds after which Cloud Tasks gives up a call and repeats it: 15 to 1800."
    )
    cloud_tasks_endpoint: str | None = _setting(
        None,
        checks.optional(checks.host_and_port),
        "Host and port of a stand-in for Cloud Tasks (gRPC). It is called without TLS and credentials.",
    )
    run_url: str | None = _setting(
        None,
        checks.optional(checks.address),
        "The service's own base address, which Cloud Tasks calls: `https://app-abc123-ew.a.run.app`.",
    )
    run_service_account: str | None = _setting(
        None,
        checks.optional(checks.service_account),
        "The service account in whose name Cloud Tasks and Cloud Scheduler call. Calls of anybody else are refused.",
    )
    run_audience: str | None = _setting(
        None,
        checks.optional(checks.string),
        "The audience of the tokens that these calls carry. Default: `BGTASKS_RUN_URL`.",
    )
    run_certs_url: str = _setting(
        "https://www.googleapis.com/oauth2/v1/certs",  # of the public keys of Google's ID tokens, as certificates
        checks.address,
        "Where the certificates are that these tokens are verified with. Only a stand-in needs another address.",
    )
    workers: int = _setting(4, checks.number(1), "Threads per process that run tasks.")
    sinks: tuple[Any, ...] = _setting(
        [], checks.listed, "Plugins that are told of changes: instances, or names (`memory`, or an installed plugin's)."
    )
    endpoints: Mapping[str, Mapping[str, Any]] = _setting(
        {},
        checks.endpoints,
        "Existing views to wrap, by endpoint name: a list of names, or a mapping from each name to the options of its "
        "task.",
    )
    url_prefix: str = _setting("/tasks", checks.prefix, "URL prefix of the blueprint.")
    lease_seconds: float = _setting(
        30, checks.number(1, whole=False), "How long a running attempt's claim holds; renewed at a third of it."
    )
    unknown_task_seconds: float | None = _setting(
        604_800,
        checks.optional(checks.number(60, whole=False)),
        "Seconds until a task fails whose name no process knows (its function was renamed or removed); by default a "
        "week. `None`: never. After a minute `/tasks/health`, `flask bgtasks doctor` and `list` show such a task.",
    )
    progress_interval: float = _setting(
        0.25, checks.number(0.01, whole=False), "Seconds between two progress writes of one task."
    )
    max_queued: int = _setting(10_000, checks.number(1), "Tasks that may wait in all; beyond that, `503`.")
    max_queued_per_owner: int = _setting(100, checks.number(1), "Tasks of one owner that may wait; beyond that, `429`.")
    max_queued_anonymous: int = _setting(
        1000,
        checks.number(1),
        "Tasks without an owner that may wait, in an app that names owners; beyond that, such requests get `503`.",
    )
    max_streams: int | None = _setting(
        None,
        checks.optional(checks.number(0)),
        "Event streams and long polls that may be open in one process; beyond that, `503`. "
        "Default: half of what the server's threads allow, at least 2.",
    )
    max_streams_per_owner: int | None = _setting(
        None,
        checks.optional(checks.number(1)),
        "How many of these one owner may have, or one remote address without an owner; beyond that, `503`. "
        "Default: half of them, at least 2.",
    )
    stream_seconds: float = _setting(
        300, checks.number(1, whole=False), "Lifetime of one event stream; the client resumes with the next."
    )
    max_wait: float = _setting(
        60,
        checks.number(0, whole=False),
        "The longest `Prefer: wait=N` or `?wait=N`, in seconds; larger values are cut.",
    )
    max_request_bytes: int = _setting(
        16 * MIB, checks.number(1), "The largest request body that is stored; else `413`."
    )
    keep_headers: tuple[str, ...] = _setting(
        [],
        checks.headers,
        "Request headers that the task's run gets back (`Authorization`, `Cookie`, `X-Api-Key`): kept with the task, "
        "encrypted with the app's `SECRET_KEY`, and erased when it ends. Needs `flask-bgtasks[headers]`.",
    )
    max_result_bytes: int = _setting(
        16 * MIB, checks.number(1), "The largest result that is stored; with a larger one the task fails."
    )
    max_events: int = _setting(
        10_000, checks.number(100), "Rows of history kept per task; a client whose cursor is older gets a `snapshot`."
    )
    expires_after: timedelta = _setting(
        timedelta(days=7),
        checks.duration,
        "How long a finished task is kept (seconds or a timedelta); after that, `410`.",
    )
    show_errors: bool | tuple[type[Exception], ...] | None = _setting(
        None,
        checks.optional(checks.shown),
        "Whether clients see the texts of unexpected exceptions: `True`, `False` (they see the class; the text is in "
        "the log), or the exception classes whose texts they see. Default: only with `app.debug` or `app.testing`. "
        "Texts of `abort()`, and of flask-bgtasks' own errors, are always shown.",
    )
    shutdown_grace: float = _setting(
        25, checks.number(0, whole=False), "Seconds that running tasks get to finish when the process ends."
    )
    sqlite_synchronous: str = _setting(
        "FULL", checks.synchronous, "`FULL`: stored tasks survive a power cut. `NORMAL`: they survive a killed process."
    )
    firebase_credentials: str | None = _setting(
        None,
        checks.optional(checks.string),
        "A service account's key file, relative to the app's root. Default: `firebase-service-account.json` there, "
        "else Application Default Credentials.",
    )
    firebase_project: str | None = _setting(
        None, checks.optional(checks.string), "The Firebase project. Default: the one that the credentials name."
    )
    firestore_tasks: str = _setting("background_tasks", checks.collection, "The Firestore collection of tasks.")
    firestore_progress: str = _setting(
        "request_progress", checks.collection, "The Firestore collection of their progress."
    )
    notify: str = _setting(
        "always",
        checks.choice("always", "unseen", "never"),
        "When a task's notification is sent: `always` (at once), `unseen` (after a grace period, if no client has "
        "shown the outcome), or `never`.",
    )
    notify_grace: float = _setting(
        10, checks.number(0, whole=False), "The grace period of `BGTASKS_NOTIFY='unseen'`, in seconds."
    )
    notification_link: str | None = _setting(
        None,
        checks.optional(checks.link),
        "What a notification opens: an address with `{request_id}` and `{name}` in it, "
        "e.g. `https://app.example.com/lessons/{request_id}`.",
    )
    max_devices_per_owner: int = _setting(
        20, checks.number(1), "Devices kept for one owner; beyond that, the one unseen for longest is removed."
    )
    push_concurrency: int = _setting(
        16, checks.number(1), "Notifications that one process sends at the same time, for each sink that sends them."
    )
    progress_push_seconds: float | None = _setting(
        None,
        checks.optional(checks.number(60, whole=False)),
        "Send a task's progress in silent pushes, at most one per device in this many seconds (20 minutes on iOS, "
        "where Apple allows two or three an hour). Default: no such pushes.",
    )
    android_channel: str | None = _setting(
        None,
        checks.optional(checks.string),
        "The id of the Android notification channel in which FCM pushes are shown, as the app has created it. "
        "Default: the one that the app's manifest names.",
    )
    fcm_dry_run: bool = _setting(False, checks.flag, "FCM validates every message and delivers none.")
    fcm_endpoint: str | None = _setting(
        None,
        checks.optional(checks.string),
        "The address of a stand-in for Google's FCM HTTP v1 API, e.g. `http://127.0.0.1:9099`. "
        "It is called without credentials.",
    )
    vapid_private_key: str | None = _setting(
        None,
        checks.optional(checks.string),
        "The key that signs Web Push messages: a PEM file, relative to the app's root, or the key itself in base64url. "
        "`flask bgtasks vapid` makes one.",
    )
    vapid_subject: str | None = _setting(
        None,
        checks.optional(checks.string),
        "The contact for push services, in case of trouble with the messages: `mailto:…` or `https://…`.",
    )
    webhooks: tuple[Any, ...] = _setting(
        [],
        checks.listed,
        "Where the `webhook` sink posts to: a list of mappings with `url`, `secret` and, to choose events and tasks, "
        "`events` and `names`.",
    )
    private_targets: tuple[str, ...] = _setting(
        [],
        checks.listed,
        "Private networks (`10.0.0.0/8`) or addresses that webhooks and Web Push may call. Default: none, since they "
        "could be used to reach into the server's own network.",
    )
    alert_urls: tuple[str, ...] = _setting(
        [], checks.listed, "Where the `alerts` sink sends alerts: Apprise URLs, such as `mailto://…` or `slack://…`."
    )
    alert_failures: int = _setting(
        1, checks.number(1), "Failures of one task name within `BGTASKS_ALERT_WINDOW` that trigger an alert."
    )
    alert_window: float = _setting(300, checks.number(1, whole=False), "Seconds in which failures are counted.")
    alert_silence: float = _setting(
        3600, checks.number(1, whole=False), "Seconds after an alert in which the same alert is not sent again."
    )
    access_token_seconds: int = _setting(
        3600, checks.number(1), "Seconds for which a signed `?access_token=` of one task can be used to read it."
    )
    cors_origins: tuple[str, ...] = _setting(
        [], checks.listed, "Origins whose pages may call the blueprint, e.g. `https://app.example.com`; `*` for any."
    )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **overrides: Any) -> Settings:
        """Read and check the ``BGTASKS_*`` keys of ``app.config``.

        :param overrides: settings by lower-case name, which win over the config.
        :raises ConfigurationError: an unknown setting, or a value of the wrong kind.
        """
        known = {PREFIX + f.name.upper(): f for f in fields(cls)}
        given = {key: value for key, value in config.items() if key.startswith(PREFIX)}
        given.update({PREFIX + name.upper(): value for name, value in overrides.items()})
        values: dict[str, Any] = {}
        for key, value in given.items():
            if key not in known:
                raise ConfigurationError(f"{key}: there is no such setting. {unknown_name(key, known)}")
            setting = known[key]
            values[setting.name] = setting.metadata["check"](key, value)
        return cls(**values)

    @property
    def lease(self) -> timedelta:
        """:attr:`lease_seconds` as a time span."""
        return timedelta(seconds=self.lease_seconds)


def described() -> list[tuple[str, Any, str]]:
    """Name, default and meaning of every setting: what the reference page is made from."""
    rows = []
    for f in fields(Settings):
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        rows.append((PREFIX + f.name.upper(), default, str(f.metadata["doc"])))
    return rows
