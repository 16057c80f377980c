"""The description of the blueprint (OpenAPI 3.1), written by hand and held against the running blueprint by the suite.

``paths`` says what each call takes and answers, ``schemas`` how the documents look; here they are put together.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...settings import Settings
from . import paths, schemas

DESCRIPTION = """\
What clients ask about background tasks. A task begins with a request to one of the app's own addresses, which is
answered with `202 Accepted`, a `Location` and a `Task-Id`, or with the view's own answer, as its `Prefer` header asks
(RFC 7240: `respond-async`, `wait=N`). With an `Idempotency-Key` the same request sent again is the same task
({days} after the task's end, and while it runs).

Who may see a task is decided by the app's own login. Another owner's task is `404`, as one that does not exist.
Errors are problem details (RFC 9457); their types are described at {problems}.
"""


def document(settings: Settings, *, root: str) -> dict[str, Any]:
    """The description of one app's blueprint.

    :param root: the path under which the app is mounted.
    """
    days = settings.expires_after.total_seconds() / 86400
    description = DESCRIPTION.format(days=f"for {days:g} days", problems=schemas.PROBLEMS_PAGE)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Background tasks", "version": _version(), "description": description},
        "servers": [{"url": root or "/"}],
        "paths": {settings.url_prefix + path: item for path, item in paths.PATHS.items()},
        "components": schemas.COMPONENTS,
    }


def _version() -> str:
    try:
        return version("flask-bgtasks")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
