"""Every ``BGTASKS_*`` setting: its name, default, meaning and check, in one place.

Read once, in ``init_app``; a wrong one is a :class:`~flask_bgtasks.errors.ConfigurationError` that says how to fix it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from .core.notifications import check_link
from .errors import ConfigurationError, unknown_name

PREFIX = "BGTASKS_"

MIB = 2**20

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")  # a token; RFC 9110, section 5.6.2
ANNOUNCING = ("redis", "rediss", "unix", "postgresql")  # the schemes of BGTASKS_ANNOUNCEMENTS
DEFAULT_STORE = "sqlite:///bgtasks.sqlite3"

CLOUD_QUEUE = re.compile(r"projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/queues/[A-Za-z0-9-]{1,100}")
"""A queue's full name; "Resource: Queue" of Cloud Tasks' REST reference."""

SERVICE_ACCOUNT = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+\.gserviceaccount\.com")

HOST_AND_PORT = re.compile(r"[^/\s:]{1,255}:\d{1,5}")  # a name's length: RFC 1035, section 2.3.4

MAX_APP_ID_LENGTH = 100  # characters; our choice: it stands in every row, and in its indexes


def _setting(default: Any, check: Callable[[str, Any], Any], doc: str) -> Any:
    metadata = {"check": check, "doc": doc}
    if isinstance(default, dict):
        return field(default_factory=lambda: MappingProxyType(dict(default)), metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}={value!r}: expected a non-empty string")
    return value.strip()


def check_app_id(name: str, value: Any) -> str:
    """An app's id. :raises ConfigurationError: it cannot be one; ``name`` says where it came from."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.strip()) <= MAX_APP_ID_LENGTH:
        raise ConfigurationError(f"{name}={value!r}: expected 1 to {MAX_APP_ID_LENGTH} printable characters")
    return value.strip()


def _number(minimum: float, *, whole: bool = True) -> Callable[[str, Any], Any]:
    kinds = (int,) if whole else (int, float)
    noun = "whole number" if whole else "number"

    def check(name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, kinds) or not minimum <= value < float("inf"):
            raise ConfigurationError(f"{name}={value!r}: expected a {noun} of at least {minimum:g}")
        return value

    return check


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _duration(name: str, value: Any) -> timedelta:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    seconds = _number(1, whole=False)(name, value)
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ConfigurationError(f"{name}={value!r}: that many seconds are beyond what a date can hold") from None


def _names(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Sequence):
        raise ConfigurationError(f"{name}={value!r}: expected a list (or names separated by commas)")
    return tuple(value)


def _endpoints(name: str, value: Any) -> Mapping[str, Mapping[str, Any]]:
    names = tuple(value) if isinstance(value, Mapping) else _names(name, value)
    for item in names:
        if not isinstance(item, str):
            raise ConfigurationError(
                f"{name}: {item!r} is not the name of an endpoint. Name views as url_for does, "
                "e.g. 'process' or 'blueprint.process'"
            )
    options = value if isinstance(value, Mapping) else {item: {} for item in names}
    for item, given in options.items():
        if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
            raise ConfigurationError(
                f"{name}[{item!r}]={given!r}: expected a mapping of the task's options, e.g. {{'steps': ['Write']}}"
            )
    return MappingProxyType({item: dict(given) for item, given in options.items()})


def _headers(name: str, value: Any) -> tuple[str, ...]:
    names = _names(name, value)
    for item in names:
        if not isinstance(item, str) or not HEADER_NAME.fullmatch(item):
            raise ConfigurationError(f"{name}: {item!r} is not the name of a header, as 'Authorization' is")
    return names


def _prefix(name: str, value: Any) -> str:
    text = _text(name, value)
    if not text.startswith("/") or text == "/":
        raise ConfigurationError(f"{name}={value!r}: expected a path such as '/tasks'")
    return text.rstrip("/")


def _anything(name: str, value: Any) -> Any:
    return value


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        text = _text(name, value).lower()
        if text not in choices:
            raise ConfigurationError(f"{name}={value!r}: expected one of {', '.join(choices)}")
        return text

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r}: expected True or False")
    return value


def _shown(name: str, value: Any) -> bool | tuple[type[Exception], ...]:
    if isinstance(value, bool):
        return value
    classes = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise ConfigurationError(
                f"{name}: {item!r} is not an exception class. Expected True, False, or the classes of exceptions whose "
                "texts clients may see, e.g. (ValueError,)"
            )
    return classes


def _link(name: str, value: Any) -> str:
    text = _text(name, value)
    check_link(text, name)
    return text


def _address(name: str, value: Any) -> str:
    """Where a service is reached: ``https``, or ``http`` on this machine, since what is sent there is confidential."""
    text = _text(name, value).rstrip("/")
    parts = urlsplit(text)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.query or parts.fragment or parts.scheme not in ("https", "http" if local else ""):
        raise ConfigurationError(f"{name}={value!r}: expected an address such as 'https://app-abc123-ew.a.run.app'")
    return text


def _cloud_queues(name: str, value: Any) -> str | Mapping[str, str]:
    given = dict(value) if isinstance(value, Mapping) else {"default": value}
    for queue, path in given.items():
        if not isinstance(queue, str) or not isinstance(path, str) or not CLOUD_QUEUE.fullmatch(path):
            raise ConfigurationError(
                f"{name}={value!r}: expected 'projects/PROJECT/locations/REGION/queues/QUEUE', or a mapping from names "
                "of queues (queue=…) to such names"
            )
    if "default" not in given:
        raise ConfigurationError(f"{name}={value!r}: expected an entry 'default', for all queues that are not named")
    return MappingProxyType(given)


def _service_account(name: str, value: Any) -> str:
    text = _text(name, value)
    if not SERVICE_ACCOUNT.fullmatch(text):
        raise ConfigurationError(
            f"{name}={value!r}: expected the address of a service account, e.g. 'tasks@PROJECT.iam.gserviceaccount.com'"
        )
    return text


def _host_and_port(name: str, value: Any) -> str:
    text = _text(name, value)
    if not HOST_AND_PORT.fullmatch(text):
        raise ConfigurationError(f"{name}={value!r}: expected a host and a port, e.g. '127.0.0.1:8123'")
    return text


def _dispatch_deadline(name: str, value: Any) -> Any:
    if _number(15, whole=False)(name, value) > 1800:
        raise ConfigurationError(f"{name}={value!r}: expected at most 1800, Cloud Tasks' longest")
    return value


def _collection(name: str, value: Any) -> str:
    text = _text(name, value)
    if "/" in text or text in (".", "..") or (text.startswith("__") and text.endswith("__")):
        raise ConfigurationError(f"{name}={value!r}: expected the name of a collection, without slashes")
    return text


def _announcements(name: str, value: Any) -> str:
    text = _text(name, value)
    scheme, found, _ = text.partition("://")
    if text.lower() in ("auto", "off"):
        return text.lower()
    if not found or scheme.partition("+")[0] not in ANNOUNCING:
        raise ConfigurationError(
            f"{name}={text.rpartition('@')[2]!r}: expected 'auto', 'off', the URL of a Redis (redis://host/0), or "
            "that of the PostgreSQL database (postgresql+psycopg://host/app)"
        )
    return text


def _synchronous(name: str, value: Any) -> str:
    text = _text(name, value).upper()
    if text not in ("FULL", "NORMAL"):
        raise ConfigurationError(f"{name}={value!r}: expected FULL (survives a power cut) or NORMAL (a killed process)")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The checked settings of one app. Times in seconds unless they are a :class:`~datetime.timedelta`."""

    store: str = _setting(
        DEFAULT_STORE,
        _text,
        "Where tasks are kept: an SQLAlchemy URL (a relative SQLite path is in the app's instance folder), "
        "`firestore://project`, `memory://`, or a scheme that a plugin adds.",
    )
    auto_upgrade: bool = _setting(
        True,
        _flag,
        "Whether the first process that opens the database makes our tables, and upgrades those of an older version. "
        "`False`: only `flask bgtasks db upgrade` does, and until then processes answer `503`.",
    )
    announcements: str = _setting(
        "auto",
        _announcements,
        "How processes tell each other at once what they stored, so that they need not poll: `auto` (by PostgreSQL's "
        "LISTEN and NOTIFY, with a PostgreSQL store), the URL of a Redis (`redis://host/0`; extra `redis`), the "
        "database's own address where `BGTASKS_STORE` names a pooler's, or `off`.",
    )
    app_id: str = _setting(
        "",
        check_app_id,
        "The app that the tasks belong to: 1 to 100 printable characters, the same in every process of the app. An app "
        "sees and runs only its own tasks in the store. Default: the app's import name (`app.name`).",
    )
    runner: str = _setting(
        "threads",
        _text,
        "What runs tasks: `threads` of this process, `external` (`flask bgtasks worker` processes), `celery`, `rq`, "
        "`dramatiq` or `huey` (the workers of these), `http` (calls from Google Cloud Tasks, for Cloud Run), `inline` "
        "(tests), or one that a plugin adds.",
    )
    celery: Any = _setting(
        None, _anything, 'The Celery instance of `RUNNER=celery`. Default: `app.extensions["celery"]`.'
    )
    rq: Any = _setting(
        None,
        _anything,
        "The RQ queue of `RUNNER=rq`, or the address of its Redis (`redis://localhost/0`). Default: "
        '`app.extensions["rq"]`.',
    )
    dramatiq: Any = _setting(
        None,
        _anything,
        'The Dramatiq broker of `RUNNER=dramatiq`. Default: `app.extensions["dramatiq"]`, else that of '
        "`dramatiq.set_broker`.",
    )
    huey: Any = _setting(
        None,
        _anything,
        "The Huey instance of `RUNNER=huey`, or several by the names of the tasks' queues, `default` among them. "
        'Default: `app.extensions["huey"]`.',
    )
    cloud_tasks_queue: Mapping[str, str] | None = _setting(
        None,
        _optional(_cloud_queues),
        "The Cloud Tasks queue of `RUNNER=http`, `projects/P/locations/L/queues/Q`; or a mapping from each `queue=` of "
        "tasks to one, with `default` for all others.",
    )
    cloud_tasks_deadline: float = _setting(
        1800, _dispatch_deadline, "Seconds after which Cloud Tasks gives up a call and repeats it: 15 to 1800."
    )
    cloud_tasks_endpoint: str | None = _setting(
        None,
        _optional(_host_and_port),
        "Host and port of a stand-in for Cloud Tasks (gRPC). It is called without TLS and credentials.",
    )
    run_url: str | None = _setting(
        None,
        _optional(_address),
        "The service's own base address, which Cloud Tasks calls: `https://app-abc123-ew.a.run.app`.",
    )
    run_service_account: str | None = _setting(
        None,
        _optional(_service_account),
        "The service account in whose name Cloud Tasks and Cloud Scheduler call. Calls of anybody else are refused.",
    )
    run_audience: str | None = _setting(
        None, _optional(_text), "The audience of the tokens that these calls carry. Default: `BGTASKS_RUN_URL`."
    )
    run_certs_url: str = _setting(
        "https://www.googleapis.com/oauth2/v1/certs",  # of the public keys of Google's ID tokens, as certificates
        _address,
        "Where the certificates are that these tokens are verified with. Only a stand-in needs another address.",
    )
    workers: int = _setting(4, _number(1), "Threads per process that run tasks.")
    sinks: tuple[Any, ...] = _setting(
        [], _names, "Plugins that are told of changes: instances, or names (`memory`, or an installed plugin's)."
    )
    endpoints: Mapping[str, Mapping[str, Any]] = _setting(
        {},
        _endpoints,
        "Existing views to wrap, by endpoint name: a list of names, or a mapping from each name to the options of its "
        "task.",
    )
    url_prefix: str = _setting("/tasks", _prefix, "URL prefix of the blueprint.")
    lease_seconds: float = _setting(
        30, _number(1, whole=False), "How long a running attempt's claim holds; renewed at a third of it."
    )
    unknown_task_seconds: float | None = _setting(
        604_800,
        _optional(_number(60, whole=False)),
        "Seconds until a task fails whose name no process knows (its function was renamed or removed); by default a "
        "week. `None`: never. After a minute `/tasks/health`, `flask bgtasks doctor` and `list` show such a task.",
    )
    progress_interval: float = _setting(
        0.25, _number(0.01, whole=False), "Seconds between two progress writes of one task."
    )
    max_queued: int = _setting(10_000, _number(1), "Tasks that may wait in all; beyond that, `503`.")
    max_queued_per_owner: int = _setting(100, _number(1), "Tasks of one owner that may wait; beyond that, `429`.")
    max_queued_anonymous: int = _setting(
        1000,
        _number(1),
        "Tasks without an owner that may wait, in an app that names owners; beyond that, such requests get `503`.",
    )
    max_streams: int | None = _setting(
        None,
        _optional(_number(0)),
        "Event streams and long polls that may be open in one process; beyond that, `503`. "
        "Default: half of what the server's threads allow, at least 2.",
    )
    max_streams_per_owner: int | None = _setting(
        None,
        _optional(_number(1)),
        "How many of these one owner may have, or one remote address without an owner; beyond that, `503`. "
        "Default: half of them, at least 2.",
    )
    stream_seconds: float = _setting(
        300, _number(1, whole=False), "Lifetime of one event stream; the client resumes with the next."
    )
    max_wait: float = _setting(
        60, _number(0, whole=False), "The longest `Prefer: wait=N` or `?wait=N`, in seconds; larger values are cut."
    )
    max_request_bytes: int = _setting(16 * MIB, _number(1), "The largest request body that is stored; else `413`.")
    keep_headers: tuple[str, ...] = _setting(
        [],
        _headers,
        "Request headers that the task's run gets back (`Authorization`, `Cookie`, `X-Api-Key`): kept with the task, "
        "encrypted with the app's `SECRET_KEY`, and erased when it ends. Needs `flask-bgtasks[headers]`.",
    )
    max_result_bytes: int = _setting(
        16 * MIB, _number(1), "The largest result that is stored; with a larger one the task fails."
    )
    max_events: int = _setting(
        10_000, _number(100), "Rows of history kept per task; a client whose cursor is older gets a `snapshot`."
    )
    expires_after: timedelta = _setting(
        timedelta(days=7), _duration, "How long a finished task is kept (seconds or a timedelta); after that, `410`."
    )
    show_errors: bool | tuple[type[Exception], ...] | None = _setting(
        None,
        _optional(_shown),
        "Whether clients see the texts of unexpected exceptions: `True`, `False` (they see the class; the text is in "
        "the log), or the exception classes whose texts they see. Default: only with `app.debug` or `app.testing`. "
        "Texts of `abort()`, and of flask-bgtasks' own errors, are always shown.",
    )
    shutdown_grace: float = _setting(
        25, _number(0, whole=False), "Seconds that running tasks get to finish when the process ends."
    )
    sqlite_synchronous: str = _setting(
        "FULL", _synchronous, "`FULL`: stored tasks survive a power cut. `NORMAL`: they survive a killed process."
    )
    firebase_credentials: str | None = _setting(
        None,
        _optional(_text),
        "A service account's key file, relative to the app's root. Default: `firebase-service-account.json` there, "
        "else Application Default Credentials.",
    )
    firebase_project: str | None = _setting(
        None, _optional(_text), "The Firebase project. Default: the one that the credentials name."
    )
    firestore_tasks: str = _setting("background_tasks", _collection, "The Firestore collection of tasks.")
    firestore_progress: str = _setting("request_progress", _collection, "The Firestore collection of their progress.")
    notify: str = _setting(
        "always",
        _choice("always", "unseen", "never"),
        "When a task's notification is sent: `always` (at once), `unseen` (after a grace period, if no client has "
        "shown the outcome), or `never`.",
    )
    notify_grace: float = _setting(
        10, _number(0, whole=False), "The grace period of `BGTASKS_NOTIFY='unseen'`, in seconds."
    )
    notification_link: str | None = _setting(
        None,
        _optional(_link),
        "What a notification opens: an address with `{request_id}` and `{name}` in it, "
        "e.g. `https://app.example.com/lessons/{request_id}`.",
    )
    max_devices_per_owner: int = _setting(
        20, _number(1), "Devices kept for one owner; beyond that, the one unseen for longest is removed."
    )
    push_concurrency: int = _setting(
        16, _number(1), "Notifications that one process sends at the same time, for each sink that sends them."
    )
    progress_push_seconds: float | None = _setting(
        None,
        _optional(_number(60, whole=False)),
        "Send a task's progress in silent pushes, at most one per device in this many seconds (20 minutes on iOS, "
        "where Apple allows two or three an hour). Default: no such pushes.",
    )
    android_channel: str | None = _setting(
        None,
        _optional(_text),
        "The id of the Android notification channel in which FCM pushes are shown, as the app has created it. "
        "Default: the one that the app's manifest names.",
    )
    fcm_dry_run: bool = _setting(False, _flag, "FCM validates every message and delivers none.")
    fcm_endpoint: str | None = _setting(
        None,
        _optional(_text),
        "The address of a stand-in for Google's FCM HTTP v1 API, e.g. `http://127.0.0.1:9099`. "
        "It is called without credentials.",
    )
    vapid_private_key: str | None = _setting(
        None,
        _optional(_text),
        "The key that signs Web Push messages: a PEM file, relative to the app's root, or the key itself in base64url. "
        "`flask bgtasks vapid` makes one.",
    )
    vapid_subject: str | None = _setting(
        None,
        _optional(_text),
        "The contact for push services, in case of trouble with the messages: `mailto:…` or `https://…`.",
    )
    webhooks: tuple[Any, ...] = _setting(
        [],
        _names,
        "Where the `webhook` sink posts to: a list of mappings with `url`, `secret` and, to choose events and tasks, "
        "`events` and `names`.",
    )
    private_targets: tuple[str, ...] = _setting(
        [],
        _names,
        "Private networks (`10.0.0.0/8`) or addresses that webhooks and Web Push may call. Default: none, since they "
        "could be used to reach into the server's own network.",
    )
    alert_urls: tuple[str, ...] = _setting(
        [], _names, "Where the `alerts` sink sends alerts: Apprise URLs, such as `mailto://…` or `slack://…`."
    )
    alert_failures: int = _setting(
        1, _number(1), "Failures of one task name within `BGTASKS_ALERT_WINDOW` that trigger an alert."
    )
    alert_window: float = _setting(300, _number(1, whole=False), "Seconds in which failures are counted.")
    alert_silence: float = _setting(
        3600, _number(1, whole=False), "Seconds after an alert in which the same alert is not sent again."
    )
    access_token_seconds: int = _setting(
        3600, _number(1), "Seconds for which a signed `?access_token=` of one task can be used to read it."
    )
    cors_origins: tuple[str, ...] = _setting(
        [], _names, "Origins whose pages may call the blueprint, e.g. `https://app.example.com`; `*` for any."
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
