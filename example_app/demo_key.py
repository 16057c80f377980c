"""A ``SECRET_KEY`` for the demo, made on the first start and kept in the instance folder.

An app of your own is given one (``FLASK_SECRET_KEY``). All processes of the demo must agree on it, and it must outlive
a restart, or the links that were signed before would be refused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path


def demo_secret_key(folder: Path) -> str:
    """The key in ``folder``; the first process that asks makes it."""
    kept = folder / "secret-key"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=folder)  # readable by this user only
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another process was quicker: its key counts
            os.link(made, kept)
        os.unlink(made)
    return kept.read_text()
