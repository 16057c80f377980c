"""The one door to Firestore: finds the credentials, makes a client per process on first need, and names its errors.

Every call has a short deadline and no retry of the SDK's own: the outbox is the only retry. (The SDK's defaults hold a
call for 50 s while the server is gone, and for 60 s while it hangs.) The SDKs are imported here, and only when a client
is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BackgroundTasksError, ConfigurationError, RetryLater, Undeliverable
from ..forks import after_fork_in_child

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

DEADLINE_SECONDS = 2.0
"""Of each call. A write takes 2 ms on the emulator and some tens of them in production."""

ONCE: dict[str, Any] = {"retry": None, "timeout": DEADLINE_SECONDS}
"""The arguments of every call."""

EMULATOR = "FIRESTORE_EMULATOR_HOST"
KEY_FILE = "firebase-service-account.json"
"""Found in the app's root without being named."""


@dataclass(frozen=True)
class Target:
    """Which project, which database, and how to make a client for it."""

    project: str | None
    database: str | None
    make: Callable[[], Any]
    source: str


class Firestore:
    """One app's client: made on first need, once in each process; a child of fork makes its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects _client's creation
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The client of this process."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._target.make()
        return self._client

    def close(self) -> None:
        """Close the client; the next use makes another."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __repr__(self) -> str:
        return f"<Firestore {self._target.project or '(project of the credentials)'}, by {self._target.source}>"


def connect(app: Flask, settings: Settings, *, project: str | None = None, database: str | None = None) -> Firestore:
    """Find out how to reach Firestore, as Firebase's users expect it; connects to nothing.

    In this order: the emulator that ``FIRESTORE_EMULATOR_HOST`` names, without credentials; the default app of
    firebase-admin, where the code has initialised it; ``BGTASKS_FIREBASE_CREDENTIALS``, a service account's file;
    ``firebase-service-account.json`` in the app's root; Application Default Credentials.

    :raises ConfigurationError: the extra is not installed, or there are no credentials.
    """
    try:
        import google.auth
        from google.cloud import firestore
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Firestore: {error.name!r} is not installed: pip install 'flask-bgtasks[firebase]'"
        ) from error
    project = project or settings.firebase_project

    def client(**given: Any) -> Any:
        return firestore.Client(**{"project": project, **({"database": database} if database else {}), **given})

    if os.environ.get(EMULATOR):
        named = project or os.environ.get("GOOGLE_CLOUD_PROJECT") or "demo-bgtasks"
        return Firestore(Target(named, database, lambda: client(project=named), EMULATOR))
    existing = _firebase_app()
    if existing is not None:
        credential = existing.credential.get_credential()
        named = project or existing.project_id
        make = lambda: client(project=named, credentials=credential)  # noqa: E731
        return Firestore(Target(named, database, make, "the app that firebase_admin has initialised"))
    path = _key_file(app, settings)
    if path is not None:
        from google.oauth2 import service_account

        try:
            made = service_account.Credentials.from_service_account_file(str(path))  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"BGTASKS_FIREBASE_CREDENTIALS: {str(path)!r} is no service account's key file ({error}). "
                "Download one: Firebase console, Project settings, Service accounts"
            ) from error
        named = project or str(made.project_id)
        return Firestore(Target(named, database, lambda: client(project=named, credentials=made), str(path)))
    try:
        default, found = google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise ConfigurationError(
            "Firestore: there are no credentials. Name a service account's key file in BGTASKS_FIREBASE_CREDENTIALS "
            f"(or put it into the app's root as {KEY_FILE}), set GOOGLE_APPLICATION_CREDENTIALS, or run where Google "
            f"gives them (Cloud Run, GCE). For the emulator set {EMULATOR}"
        ) from error
    named = str(project or found or "")
    if not named:
        raise ConfigurationError("Firestore: the credentials name no project. Set BGTASKS_FIREBASE_PROJECT")
    make = lambda: client(project=named, credentials=default)  # noqa: E731
    return Firestore(Target(named, database, make, "Application Default Credentials"))


def bulk_batch(client: Any) -> Any:
    """A batch whose writes succeed or are refused one by one (the ``BatchWrite`` call)."""
    from google.cloud.firestore_v1.bulk_batch import BulkWriteBatch

    return BulkWriteBatch(client)


def field(name: str, operator: str, value: Any) -> Any:
    """A condition of a query."""
    from google.cloud.firestore_v1.base_query import FieldFilter

    return FieldFilter(name, operator, value)


def refused(error: Exception) -> bool:
    """Whether a write was refused because somebody else has written the document, or made it."""
    return type(error).__name__ in ("FailedPrecondition", "AlreadyExists", "Aborted", "Conflict")


def is_error(error: Exception) -> bool:
    """Whether this comes from Firestore, and not from a defect of ours."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    return isinstance(error, (GoogleAPICallError, RetryError))


def _firebase_app() -> Any:
    """The default app of firebase-admin, if the app's own code has made one."""
    import sys

    admin = sys.modules.get("firebase_admin")
    if admin is None:
        return None
    try:
        return admin.get_app()
    except ValueError:
        return None


def _key_file(app: Flask, settings: Settings) -> Path | None:
    """The service account's file that the setting names, or that lies in the app's root."""
    if settings.firebase_credentials is not None:
        path = Path(app.root_path) / settings.firebase_credentials
        if not path.is_file():
            raise ConfigurationError(f"BGTASKS_FIREBASE_CREDENTIALS: there is no file {str(path)!r}")
        return path
    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return None  # Application Default Credentials, which are to win over a file that merely lies there
    path = Path(app.root_path) / KEY_FILE
    return path if path.is_file() else None


MENDS = {
    "PermissionDenied": "give the service account the role roles/datastore.user in this project",
    "Unauthenticated": "the credentials are refused: make a new key for the service account",
    "NotFound": "create the database in this project: gcloud firestore databases create",
    "InvalidArgument": "this is a defect of flask-bgtasks: please report it",
    "FailedPrecondition": "is the database in Datastore mode? It has to be in Native mode",
}
"""What to mend, by the error's class: what no later try can change."""


def told(error: Exception) -> BackgroundTasksError:
    """An error of Firestore as the outbox takes it: to be tried again, or never to succeed, with what to mend."""
    name = type(error).__name__
    mend = MENDS.get(name)
    if mend is not None:
        return Undeliverable(f"Firestore answered {name}: {error}. Mend: {mend}; then `flask bgtasks replay`")
    return RetryLater(f"Firestore is out of reach ({name}: {error})")
