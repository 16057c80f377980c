"""The OpenAPI 3.1 description of the blueprint, written by hand; the suite compares it with the running blueprint.

``paths`` has the parameters and responses of each call, ``schemas`` the documents; this module puts them together.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...settings import Settings
from . import paths, schemas

DESCRIPTION = """\
Follow and control background tasks. A task begins with a request to one of the app's own URLs. The answer is
`202 Accepted` with a `Location` and a `Task-Id`, or the view's own answer, as the `Prefer` header asks (RFC 7240:
`respond-async`, `wait=N`). A request that is sent again with the same `Idempotency-Key` gives the same task, while it
runs and {days} after its end.

The app's own login decides who may see a task. Another owner's task is answered with `404`, like one that does not
exist.
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
