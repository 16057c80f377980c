"""The form in which a request is kept: JSON, enough to call the view again later, on any machine.

Method, path, query, body and harmless headers. Cookies, Authorization and the like are never stored; the owner is.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from typing import Any

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.test import EnvironBuilder

from .errors import PayloadTooLarge

KEPT_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "content-language",
        "content-type",
        "content-encoding",
        "user-agent",
        "x-request-id",
        "traceparent",
        "tracestate",
    }
)
"""Headers that say what is wanted and in which language, and those that tie a run to its trace (W3C Trace Context).

An allow list: a header that carries a credential is known only to the app, so what is not named here is not stored.
"""


def capture(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """What of a request is stored.

    :param max_bytes: the largest body that is stored, in bytes.
    :raises PayloadTooLarge: the body is larger. A body beyond the app's own limits raises as Werkzeug does.
    """
    length = request.content_length
    if length is not None and length > max_bytes:
        raise _too_large(length, max_bytes)
    # Kept by Werkzeug (cache=True), and form data is parsed from it: the view finds both as before.
    body = request.get_data(cache=True, parse_form_data=False)
    content_type = request.headers.get("Content-Type")
    if not body and (request.form or request.files):
        body, content_type = _form_again(request)
    if len(body) > max_bytes:
        raise _too_large(len(body), max_bytes)
    stored: dict[str, Any] = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "root_path": request.root_path,
        "path": request.path,
        "query": request.query_string.decode("latin-1"),
        "headers": [[k, v] for k, v in request.headers.items() if k.lower() in KEPT_HEADERS - {"content-type"}],
    }
    if content_type is not None:
        stored["headers"].append(["Content-Type", content_type])
    try:
        stored["text"] = body.decode("utf-8")
    except UnicodeDecodeError:
        stored["base64"] = base64.b64encode(body).decode("ascii")
    return stored


def _form_again(request: Request) -> tuple[bytes, str]:
    """The body of a form that something before the view has read already: its bytes are gone, its fields are not."""
    data: dict[str, list[Any]] = {key: list(values) for key, values in request.form.lists()}
    for key, uploads in request.files.lists():
        for upload in uploads:
            upload.stream.seek(0)
            copy = FileStorage(io.BytesIO(upload.stream.read()), upload.filename, headers=upload.headers)
            data.setdefault(key, []).append(copy)
            upload.stream.seek(0)
    builder = EnvironBuilder(method="POST", data=data, content_type=request.mimetype)
    try:
        again = builder.get_environ()
        return again["wsgi.input"].read(), again["CONTENT_TYPE"]
    finally:
        builder.close()


def fingerprint(stored: Mapping[str, Any]) -> str:
    """What makes two captured requests the same: method, path, query, body. SHA-256, hexadecimal."""
    digest = hashlib.sha256()
    for part in (stored["method"], stored["path"], stored["query"], stored.get("text"), stored.get("base64")):
        data = (part or "").encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def environ(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The WSGI environment of a captured request, to run its view in."""
    if "base64" in stored:
        body = base64.b64decode(stored["base64"])
    else:
        body = stored["text"].encode("utf-8")
    builder = EnvironBuilder(
        base_url=f"{stored['scheme']}://{stored['host']}{stored['root_path']}/",
        method=stored["method"],
        headers=[(k, v) for k, v in stored["headers"]],
        data=body,
    )
    try:
        made: dict[str, Any] = builder.get_environ()
    finally:
        builder.close()
    # As the server gave them, not as the builder would quote them again (PEP 3333: bytes as latin-1).
    made["PATH_INFO"] = stored["path"].encode("utf-8").decode("latin-1")
    made["QUERY_STRING"] = stored["query"]
    return made


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        "the request body",
        size=size,
        limit=limit,
        setting="BGTASKS_MAX_REQUEST_BYTES",
        mend="Send less, or upload the file elsewhere and send its address.",
    )
