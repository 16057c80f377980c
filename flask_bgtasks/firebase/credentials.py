"""Finds the credentials for Firebase in the usual places. Opens no connection.

Shared by Firestore and FCM; google-auth is imported on first use.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from flask import Flask

    from ..settings import Settings

KEY_FILE = "firebase-service-account.json"
"""Found in the app's root without being named."""

SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/firebase.messaging")
"""What tokens are asked for: Firestore, and FCM (firebase.google.com/docs/cloud-messaging/send/v1-api)."""


@dataclass(frozen=True)
class FirebaseCredentials:
    """Which project, google-auth's credentials for it, and where they were found."""

    project: str
    credentials: Any
    source: str


def find_credentials(
    app: Flask, settings: Settings, *, what: str, project: str | None = None, besides: str = ""
) -> FirebaseCredentials:
    """Look for credentials.

    In this order: the default app of firebase-admin, where the code has initialised it;
    ``BGTASKS_FIREBASE_CREDENTIALS``, a service account's file; ``firebase-service-account.json`` in the app's root;
    Application Default Credentials.

    :param what: wants them; for the message. :param besides: what that says at its end.
    :param project: instead of ``BGTASKS_FIREBASE_PROJECT``, and of the one that the credentials name.
    :raises ConfigurationError: the extra is not installed, or there are no credentials.
    """
    try:
        import google.auth
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{what}: {error.name!r} is not installed: pip install 'flask-bgtasks[firebase]'"
        ) from error
    project = project or settings.firebase_project
    existing = _firebase_app()
    if existing is not None:
        credential = existing.credential.get_credential()
        named = project or existing.project_id
        return _named(named, credential, "the app that firebase_admin has initialised", what)
    path = _key_file(app, settings)
    if path is not None:
        from google.oauth2 import service_account

        try:
            made = service_account.Credentials.from_service_account_file(str(path), scopes=SCOPES)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"BGTASKS_FIREBASE_CREDENTIALS: {str(path)!r} is no service account's key file ({error}). "
                "Download one: Firebase console, Project settings, Service accounts"
            ) from error
        return _named(project or made.project_id, made, str(path), what)
    try:
        default, found = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise ConfigurationError(
            f"{what}: there are no credentials. Name a service account's key file in BGTASKS_FIREBASE_CREDENTIALS "
            f"(or put it into the app's root as {KEY_FILE}), set GOOGLE_APPLICATION_CREDENTIALS, or run where Google "
            f"gives them (Cloud Run, GCE). {besides}".rstrip()
        ) from error
    return _named(project or found, default, "Application Default Credentials", what)


def _named(project: Any, credentials: Any, source: str, what: str) -> FirebaseCredentials:
    if not project:
        raise ConfigurationError(f"{what}: the credentials name no project. Set BGTASKS_FIREBASE_PROJECT")
    return FirebaseCredentials(str(project), credentials, source)


def _firebase_app() -> Any:
    """The default app of firebase-admin, if the app's own code has made one."""
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
