"""Tasks for tests that make them without an app."""

import uuid
from datetime import datetime, timedelta, timezone

from flask_bgtasks.core.model import Task, TaskKind

T0 = datetime(2026, 1, 1, tzinfo=timezone.utc)


def new_task(request_id=None, name="process", kind=TaskKind.FUNCTION, *, at=T0, **fields):
    """A task that waits, accepted at a time and kept for a day."""
    return Task(request_id or str(uuid.uuid4()), name, kind, at, at, **{"expires_after": timedelta(days=1), **fields})
