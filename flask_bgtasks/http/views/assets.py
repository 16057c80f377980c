"""Serves the browser's part: the module ``client.js`` with its parts, the web component, the service worker.

Plain files of the package, without a build step. A browser revalidates each of them with its ``ETag``, so that parts of
two versions never end up in one page.
"""

from __future__ import annotations

import re
from pathlib import Path

from flask import Response, send_from_directory

from ...errors import TaskNotFound

FOLDER = Path(__file__).parents[2] / "client" / "browser"

PART = re.compile(r"([a-z]{1,32}/)?[A-Za-z0-9_-]{1,64}\.(js|d\.ts)")

SCRIPT = "text/javascript"  # RFC 9239; for modules a browser insists on it, and the system's own list may differ
TYPES = "text/plain"  # a declaration, for people and editors


def module() -> Response:
    """``GET /tasks/client.js``."""
    return _file("client.js")


def part(name: str) -> Response:
    """``GET /tasks/client/{name}``: what ``client.js`` imports."""
    if not PART.fullmatch(name) or not (FOLDER / "client" / name).is_file():
        raise TaskNotFound("client")  # under this prefix, what is not there is a task that is not there
    return _file(f"client/{name}")


def declaration() -> Response:
    """``GET /tasks/client.d.ts``."""
    return _file("client.d.ts", TYPES)


def component() -> Response:
    """``GET /tasks/bg-task.js``."""
    return _file("bg-task.js")


def component_declaration() -> Response:
    """``GET /tasks/bg-task.d.ts``."""
    return _file("bg-task.d.ts", TYPES)


def service_worker() -> Response:
    """``GET /tasks/service-worker.js``."""
    response = _file("service-worker.js")
    # Pushes are for the whole app, not for the pages under this prefix (W3C Service Workers, section 6.1).
    response.headers["Service-Worker-Allowed"] = "/"
    return response


def _file(name: str, mimetype: str = SCRIPT) -> Response:
    response = send_from_directory(FOLDER, name, mimetype=mimetype)
    response.headers["Cache-Control"] = "no-cache"
    return response
