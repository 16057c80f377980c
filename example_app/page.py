"""What the page needs to know of the server: where pushes go, and which mirror it may read."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask


def page_config(app: Flask, *, has_phone: bool) -> dict[str, Any]:
    """The page's configuration, JSON.

    :param has_phone: whether the demo has a phone of its own (:mod:`example_app.phone`).
    """
    return {"phone": "here" if has_phone else "fcm", "firestore": mirror(app)}


def mirror(app: Flask) -> dict[str, str] | None:
    """Where the page reads the Firestore mirror, None where it may not.

    Only of the emulator: real ones are read with a login, by the security rules, and the demo has no login.
    """
    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    project = app.config.get("BGTASKS_FIREBASE_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if "firestore" not in app.config["BGTASKS_SINKS"] or not host or not project:
        return None
    return {"projectId": project, "host": f"http://{host}"}
