"""The only access to Firestore: finds the credentials, makes a client per process on first use, names its errors.

Every call has a short deadline and no retry of the SDK's own: the outbox is the only retry. (The SDK's defaults hold a
call for 50 s while the server is gone, and for 60 s while it hangs.) The SDKs are imported here, and only when a client
is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BackgroundTasksError, ConfigurationError, RetryLater, Undeliverable
from ...runtime.fork import after_fork_in_child
from ..credentials import find_credentials

if TYPE_CHECKING:
    from flask import Flask

    from ...settings import Settings

DEADLINE_SECONDS = 2.0
"""Of each call. A write takes 2 ms on the emulator and some tens of them in production."""


class _NoRetry:
    """What the SDK takes for a retry policy, and tries nothing again.

    Its own word for that is None, but where a query's answer breaks off in the middle it asks the policy all the same
    (``Query._retry_query_after_exception`` of google-cloud-firestore 2.34), and raises AttributeError.
    """

    def __call__(self, call: Callable[..., Any], on_error: object = None) -> Callable[..., Any]:
        return call

    def _predicate(self, error: Exception) -> bool:
        return False


ONCE: dict[str, Any] = {"retry": _NoRetry(), "timeout": DEADLINE_SECONDS}
"""The arguments of every call."""

EMULATOR = "FIRESTORE_EMULATOR_HOST"


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

    def __str__(self) -> str:
        return f"Firestore, project {self._target.project or '(of the credentials)'}, by {self._target.source}"

    def __repr__(self) -> str:
        return f"<{self}>"


def connect(app: Flask, settings: Settings, *, project: str | None = None, database: str | None = None) -> Firestore:
    """Find out how to reach Firestore, as Firebase's users expect it; connects to nothing.

    The emulator that ``FIRESTORE_EMULATOR_HOST`` names, without credentials; else with those that
    :func:`~flask_bgtasks.firebase.credentials.find_credentials` finds.

    :raises ConfigurationError: the extra is not installed, or there are no credentials.
    """
    try:
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
    found = find_credentials(
        app, settings, what="Firestore", project=project, besides=f"For the emulator set {EMULATOR}"
    )
    make = lambda: client(project=found.project, credentials=found.credentials)  # noqa: E731
    return Firestore(Target(found.project, database, make, found.source))


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


MENDS = {
    "PermissionDenied": "give the service account the role roles/datastore.user in this project",
    "Unauthenticated": "the credentials are refused: make a new key for the service account",
    "NotFound": "create the database in this project: gcloud firestore databases create",
    "InvalidArgument": "this is a defect of flask-bgtasks: please report it",
    "FailedPrecondition": "is the database in Datastore mode? It must be in Native mode",
}
"""What to mend, by the error's class: what no later try can change."""


def told(error: Exception) -> BackgroundTasksError:
    """An error of Firestore as the outbox takes it: to be tried again, or never to succeed, with what to mend."""
    name = type(error).__name__
    mend = MENDS.get(name)
    if mend is not None:
        return Undeliverable(f"Firestore answered {name}: {error}. Mend: {mend}; then `flask bgtasks replay`")
    return RetryLater(f"Firestore is unreachable ({name}: {error})")
