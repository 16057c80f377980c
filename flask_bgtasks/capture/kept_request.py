"""The form in which a request is kept: JSON, enough to call the view again later, on any machine.

Method, path, query, body and harmless headers. Cookies, Authorization and the like are never stored; the owner is.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlencode

from flask import Request
from werkzeug.datastructures import FileStorage
from werkzeug.http import parse_options_header
from werkzeug.wsgi import LimitedStream

from ..errors import PayloadTooLarge
from ..stores.base import PRIVATE
from . import headers as kept

PROXY_FIX = "werkzeug.proxy_fix.orig"
"""Where Werkzeug's ``ProxyFix`` keeps what it has replaced."""

KEPT_ENVIRON = (
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",  # gunicorn, Werkzeug
    "REQUEST_URI",  # uWSGI, Werkzeug, mod_wsgi
    "HTTP_HOST",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "REMOTE_ADDR",
    "REMOTE_HOST",
    "REMOTE_PORT",
    "REMOTE_USER",
    "AUTH_TYPE",
    "HTTPS",
    "SSL_PROTOCOL",
    "SSL_CLIENT_VERIFY",
    "SSL_CLIENT_S_DN",
    "SSL_CLIENT_I_DN",
    "SSL_CLIENT_M_SERIAL",
    "wsgi.url_scheme",
    PROXY_FIX,
)
"""What a server, and the middleware in front of the app, say of a request, beside its headers (PEP 3333; RFC 3875).

As it is when the view is called: ``ProxyFix`` has put the client's address in the place of the proxy's.
"""

MAX_DROPPED = 20
"""Names of headers that are not kept, to say in an error what a run may have lacked."""

LIMITS = ("max_content_length", "max_form_memory_size", "max_form_parts")
"""What a guard may have set for one request (Flask 3.1); else they are the app's, there as here."""


def capture(request: Request, *, max_bytes: int, private: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What of a request is stored. Afterwards its body can be read from the start, by whatever reads it.

    :param max_bytes: the largest body that is stored, in bytes.
    :param private: what of its login the run is given (:meth:`~flask_bgtasks.auth.credentials.Credentials.of`).
    :raises PayloadTooLarge: the body is larger. A body beyond the app's own limits raises as Werkzeug does.
    """
    body = _body(request, max_bytes)
    content_type = request.headers.get("Content-Type")
    if not body and "form" in request.__dict__ and (request.form or request.files):
        # Read as a form before we came (a CSRF check does that), so that no bytes are left: the form still says it all.
        body, content_type = _form_again(request)
    elif body or not request.content_length:  # what the app has read away before is as gone as without us
        _rewind(request, body)
    if len(body) > max_bytes:
        raise _too_large(len(body), max_bytes)
    headers = [[k, v] for k, v in request.headers.items() if _is_kept(k, request.method) and k != "Content-Type"]
    if content_type is not None:
        headers.append(["Content-Type", content_type])
    stored: dict[str, Any] = {
        "method": request.method,
        "scheme": request.scheme,
        "host": request.host,
        "root_path": request.root_path,
        "path": request.path,
        "query": request.query_string.decode("latin-1"),
        "headers": headers,
        "environ": _kept_environ(request.environ),
    }
    limits = {name: value for name in LIMITS if (value := request.__dict__.get(f"_{name}")) is not None}
    if limits:
        stored["limits"] = limits
    dropped = [k for k in request.headers.keys() if k.lower() not in kept.REQUEST and k.lower() not in kept.HOP_BY_HOP]  # noqa: SIM118 - pairs
    if dropped:
        stored["dropped"] = dropped[:MAX_DROPPED]
    if private:
        stored[PRIVATE] = dict(private)
    try:
        stored["text"] = body.decode("utf-8")
    except UnicodeDecodeError:
        stored["base64"] = base64.b64encode(body).decode("ascii")
    return stored


def fingerprint(stored: Mapping[str, Any]) -> str:
    """What makes two captured requests the same: method, path, query, body. SHA-256, hexadecimal.

    The boundary of multipart form data is left out: a browser takes a new one whenever it sends the same form.
    """
    body = _stored_body(stored)
    content_type = next((value for name, value in stored["headers"] if name == "Content-Type"), "")
    mimetype, options = parse_options_header(content_type)
    if mimetype == "multipart/form-data" and options.get("boundary"):
        body = body.replace(options["boundary"].encode("utf-8", "replace"), b"")
    digest = hashlib.sha256()
    for text in (stored["method"], stored["path"], stored["query"]):
        _add(digest, text.encode("utf-8", "surrogatepass"))
    _add(digest, body)
    return digest.hexdigest()


def environ(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The WSGI environment of a captured request (PEP 3333), to run its view in."""
    body = _stored_body(stored)
    made: dict[str, Any] = {
        **(stored.get("environ") or _environ_of_old(stored)),
        "REQUEST_METHOD": stored["method"],
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for header, value in stored["headers"]:
        key = header.upper().replace("-", "_")
        made[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    return made


def restore_limits(request: Request, stored: Mapping[str, Any]) -> None:
    """Set the limits that the request had of its own on the run's: what it let in is read there too."""
    for name, value in stored.get("limits", {}).items():
        setattr(request, name, value)


# -- what a server says ------------------------------------------------------------------------------------------------


def _is_kept(name: str, method: str) -> bool:
    name = name.lower()
    return name in kept.REQUEST and not (method in ("GET", "HEAD") and name in kept.CONDITIONAL)


def _kept_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a WSGI environment that is kept, as JSON."""
    found = {name: environ[name] for name in KEPT_ENVIRON if _is_plain(environ.get(name))}
    original = environ.get(PROXY_FIX)
    if isinstance(original, dict):
        found[PROXY_FIX] = {name: value for name, value in original.items() if value is None or _is_plain(value)}
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int))


def _environ_of_old(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier version has kept of a task that still waits."""
    name, port = _name_and_port(stored["host"], stored["scheme"])
    return {
        "SCRIPT_NAME": _wsgi_text(stored["root_path"]),
        "PATH_INFO": _wsgi_text(stored["path"]),
        "QUERY_STRING": stored["query"],
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": stored["host"],
        "wsgi.url_scheme": stored["scheme"],
    }


# -- reading the body --------------------------------------------------------------------------------------------------


def _body(request: Request, max_bytes: int) -> bytes:
    """The request's body. Werkzeug keeps it and parses forms from what it kept: the view finds both as before."""
    length = request.content_length
    if length is not None and length > max_bytes:
        raise _too_large(length, max_bytes)
    own = request.max_content_length
    unsized = length is None and request.environ.get("wsgi.input_terminated") and "stream" not in request.__dict__
    if unsized and (own is None or own > max_bytes):
        # Chunked: nobody has said how long it is, so it is read with a limit.
        unlimited = request.environ["wsgi.input"]
        request.environ["wsgi.input"] = LimitedStream(unlimited, max_bytes + 1, is_max=True)  # ends there
    return request.get_data(cache=True, parse_form_data=False)


def _rewind(request: Request, body: bytes) -> None:
    """Put the body back where it came from, for code that reads ``wsgi.input`` or ``request.stream`` itself."""
    environ = request.environ
    environ["wsgi.input"] = io.BytesIO(body)
    environ["wsgi.input_terminated"] = True
    environ["CONTENT_LENGTH"] = str(len(body))
    request.__dict__.pop("stream", None)  # Werkzeug's: it is made anew from the environment


def _form_again(request: Request) -> tuple[bytes, str]:
    """The body, and its content type, of a form that was parsed already. The same form makes the same bytes."""
    fields = [(name, value) for name, values in request.form.lists() for value in values]
    if request.mimetype != "multipart/form-data":
        return urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded"
    parts = [(_disposition(name), value.encode("utf-8")) for name, value in fields]
    parts += [(_file_head(name, file), _whole(file)) for name, files in request.files.lists() for file in files]
    digest = hashlib.sha256()
    for head, content in parts:
        _add(digest, head)
        _add(digest, content)
    boundary = f"bgtasks-{digest.hexdigest()}"  # made from what it separates, so it does not occur there
    return b"".join(_encoded(parts, boundary.encode("ascii"))), f"multipart/form-data; boundary={boundary}"


def _encoded(parts: list[tuple[bytes, bytes]], boundary: bytes) -> Iterator[bytes]:
    """Multipart form data (RFC 7578)."""
    for head, content in parts:
        yield b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    yield b"--" + boundary + b"--\r\n"


def _disposition(name: str, filename: str | None = None) -> bytes:
    head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
    if filename is not None:
        head += f'; filename="{_quoted(filename)}"'
    return head.encode("utf-8", "replace")


def _file_head(name: str, file: FileStorage) -> bytes:
    content_type = re.sub(r"[\r\n]", " ", file.content_type or "application/octet-stream")
    return _disposition(name, file.filename or "") + b"\r\nContent-Type: " + content_type.encode("utf-8", "replace")


def _quoted(text: str) -> str:
    """A name as browsers write it (WHATWG HTML, "multipart/form-data encoding algorithm"); Werkzeug takes both back."""
    return text.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _whole(file: FileStorage) -> bytes:
    """An upload's bytes; its stream stands afterwards where it stood."""
    stream = cast(io.BufferedIOBase, file.stream)
    place = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(place)
    return content


# -- helpers -----------------------------------------------------------------------------------------------------------


def _stored_body(stored: Mapping[str, Any]) -> bytes:
    if "base64" in stored:
        return base64.b64decode(stored["base64"])
    return cast(str, stored["text"]).encode("utf-8")


def _wsgi_text(text: str) -> str:
    """UTF-8 bytes in the form in which WSGI passes them (PEP 3333, "Unicode Issues")."""
    return text.encode("utf-8", "replace").decode("latin-1")


def _name_and_port(host: str, scheme: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(?::(\d+))?", host)
    name, port = match.groups() if match else (host, None)
    return name, port or ("443" if scheme == "https" else "80")


def _add(digest: Any, data: bytes) -> None:
    """Take a part into a digest, its length first, so that parts cannot flow into each other."""
    digest.update(len(data).to_bytes(8, "big"))
    digest.update(data)


def _too_large(size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        "the request body",
        size=size,
        limit=limit,
        setting="BGTASKS_MAX_REQUEST_BYTES",
        mend="Send less, or upload the file elsewhere and send its address.",
    )
