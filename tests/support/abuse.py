"""What strangers send: hostile values for every parameter, header and body of every route, generated from the app.

Run as a program it abuses an app on the given stores in its own process, and prints how much memory that took.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from werkzeug.test import EnvironBuilder, TestResponse, run_wsgi_app
from werkzeug.wrappers import Request

from flask_bgtasks.http import openapi
from flask_bgtasks.http.problems import TYPES
from tests.support.http_app import Studio, make, with_owners
from tests.support.http_calls import UNKNOWN

ANN = {"X-User": "ann"}
MAX_ANSWER_BYTES = 2 * 2**20

RAW = [
    "",
    "%00",
    "a%00b",
    "%0A",
    "%1B%5B2J",
    "%ED%A0%80",
    "%C3%28",
    "%FF",
    "%F0%9F%92%A9",
    ".",
    "..",
    "..%2F..%2Fetc%2Fpasswd",
    "a%2Fb",
    "__x__",
    "-1",
    "0",
    "1e309",
    "NaN",
    "9" * 40,
    str(2**63),
    "%D9%A1%D9%A2",  # Arabic digits
    "%EF%BC%91",  # a wide digit
    "a" * 300,
    "%2C".join(["a"] * 3000),
    "%27%20OR%201%3D1--",
    "%7B%7D",
    "true",
    "MTIzfGE%3D",
    UNKNOWN,
    UNKNOWN.upper(),
]
"""Values as they stand in an address, percent-encoded."""

HEADERS = ["Last-Event-ID", "If-None-Match", "Prefer", "Idempotency-Key", "Accept", "Accept-Language", "Range"]

HEADER_VALUES = [
    "",
    "\x7f",
    "\xff\xfe",
    "é",
    ";" * 200,
    "," * 500,
    '"' * 101,
    "wait=" + "9" * 400,
    "wait=-1",
    "1:2;3.4",
    "9" * 400,
    "*/*;q=9,a/b;q=x",
    "W/",
    "bytes=0-" + "9" * 30,
    "a" * 4000,
    "a b\tc",
]

JSON = [
    None,
    True,
    0,
    -1,
    1e308,
    10**400,
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\n\x1b[2J",
    "x" * 20_000,
    "é" * 5_000,
    [],
    [[[[]]]],
    [None] * 5_000,
    {},
    {"\x00": "\ud800"},
    {"kind": {"kind": []}},
    "__proto__",
    "javascript:alert(1)",
]

BODIES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"{",
    b"null",
    b"[]",
    b"NaN",
    b'{"a":1e999}',
    b"[" * 30_000,
    b'{"a":' * 10_000,
    b"1" * 60_000,
    b'{"via":"poll","via":["poll"]}',
    b'"\\ud800"',
    b"\xef\xbb\xbf{}",
    b"a=1&b=2",
    b"x" * 65_536,
    b"x" * 65_537,
]

FIELDS = {
    "POST /<request_id>/seen": {"via": "poll"},
    "POST /<request_id>/live-activity": {"token": "t", "device": {"kind": "fid", "value": "f"}},
    "DELETE /<request_id>/live-activity": {"token": "t"},
    "POST /devices": {
        "kind": "fid",
        "value": "f",
        "token": "f:t",
        "platform": "ios",
        "app": "a",
        "lang": "en",
        "replaces": "0" * 32,
    },
    "PUT /preferences": {
        "kinds": ["completed"],
        "muted": ["x"],
        "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "UTC", "then": "hold"},
    },
}
"""A good body of each call that takes one."""


@dataclass
class Report:
    """What came of it."""

    calls: int = 0
    faults: list[str] = field(default_factory=list)

    def look_at(self, what: str, answer: TestResponse, *, ours: bool, most: int) -> None:
        """Note what no client may be answered. :param ours: whether it is the blueprint that answers."""
        self.calls += 1
        data = answer.data
        if len(data) > most:
            self.faults.append(f"{what}: {len(data)} bytes")
        # What is no address of the blueprint is answered by the app.
        if answer.status_code < 500 and not (answer.status_code >= 400 and ours and _not_a_problem(answer)):
            return
        if answer.status_code == 503 and not _not_a_problem(answer) and "Retry-After" in answer.headers:
            return
        self.faults.append(f"{what}: {answer.status} {data[:200]!r}")


def _not_a_problem(answer: TestResponse) -> bool:
    if answer.request.method == "HEAD":
        return False
    document = answer.get_json(silent=True)
    if answer.content_type != "application/problem+json" or not isinstance(document, dict):
        return True
    name = str(document.get("type", "")).rpartition("#")[2]
    return name not in TYPES and document.get("type") != "about:blank"


def routes(studio: Studio) -> Iterator[tuple[str, str]]:
    """Method and path of every route of the blueprint, as the app's map of addresses has them."""
    prefix = studio.state.settings.url_prefix
    for rule in studio.app.url_map.iter_rules():
        if rule.endpoint.startswith("bgtasks."):
            yield from ((method, rule.rule.removeprefix(prefix)) for method in rule.methods or ())


def answered(studio: Studio) -> list[tuple[str, str]]:
    """The routes that a view answers, and not the one for the methods that there are not."""
    prefix = studio.state.settings.url_prefix
    found = set()
    for rule in studio.app.url_map.iter_rules():
        if rule.endpoint.startswith("bgtasks.") and ".other_methods" not in rule.endpoint:
            found |= {(method, rule.rule.removeprefix(prefix)) for method in rule.methods or () if method != "HEAD"}
    return sorted(found)


def make_abused(store: str, folder: Path) -> Studio:
    """An app to abuse, in which requests that wait do not, and a task ends in the request that asks for it."""
    settings: dict[str, Any] = {"runner": "inline", "max_wait": 0.01, "stream_seconds": 1}
    return with_owners(make(store, folder, config={"PROPAGATE_EXCEPTIONS": False}, **settings))


class _Endless:
    """A body without an end."""

    def read(self, size: int = -1) -> bytes:
        """As much as is asked for."""
        if size < 0:
            raise AssertionError("a body is read to its end, wherever that is")
        return b"x" * size


class Abuser:
    """Sends all of it to one app, in Ann's name: what is refused to strangers would hide what happens behind."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.report = Report()
        self.task = studio.submit(headers=ANN)

    def everything(self, *, headers: bool = True) -> Report:
        """Each of the kinds, on every route."""
        for method, path in answered(self.studio):
            self.identifiers(method, path)
            self.parameters(method, path)
            self.bodies(method, path)
            if headers:
                self.headers(method, path)
        return self.report

    def identifiers(self, method: str, path: str) -> None:
        """What stands in the path."""
        if "<" in path:
            for value in RAW:
                self._send(method, _filled(path, value))

    def parameters(self, method: str, path: str) -> None:
        """Every parameter of the address: each value, twice, and empty."""
        for name in self._parameters(method, path):
            for value in RAW:
                more = f"ids={self.task}&" if path in ("", "/events") and name != "ids" else ""
                self._send(method, self._path(path), query=f"{more}{name}={value}")
            self._send(method, self._path(path), query=f"{name}=1&{name}=2")
            self._send(method, self._path(path), query=f"{name}&{name}[]=1&{name}[x]=2")

    def headers(self, method: str, path: str) -> None:
        """Every header that is read."""
        for name in HEADERS:
            for value in HEADER_VALUES:
                self._send(method, self._path(path), headers={name: value})

    def bodies(self, method: str, path: str) -> None:
        """Whole bodies, and each of their fields."""
        if method not in ("POST", "PUT", "DELETE"):
            return
        for body in BODIES:
            self._send(method, self._path(path), data=body)
        good = FIELDS.get(f"{method} {path}", {})
        for name in good:
            for value in JSON:
                self._send(method, self._path(path), data=json.dumps({**good, name: value}).encode())
        for name, value in good.items():
            for inner in value if isinstance(value, dict) else ():
                for odd in JSON:
                    made = {**good, name: {**value, inner: odd}}
                    self._send(method, self._path(path), data=json.dumps(made).encode())

    def masses(self) -> None:
        """Bodies without an end, and what a task gives out by the megabyte."""
        for method, path in [*answered(self.studio), ("POST", "/__process")]:
            for marks in ({"CONTENT_LENGTH": str(300 * 2**20)}, {"HTTP_TRANSFER_ENCODING": "chunked"}):
                self._send(method, self._path(path), environment={"wsgi.input_terminated": True, **marks})
        self.task = self.studio.submit(headers=ANN, json={"input_text": "x" * 4 * 2**20})
        for accept in ("application/json", "text/event-stream"):
            for _ in range(5):
                self._send("GET", f"/{self.task}/events", headers={"Accept": accept}, most=6 * 2**20)
        for _ in range(200):
            self.studio.submit(headers=ANN)
        for _ in range(20):
            self._send("GET", "", query="limit=100")
            self._send("GET", f"/{self.task}")

    def _parameters(self, method: str, path: str) -> list[str]:
        """The names of what the description says that a call takes."""
        description = openapi.document(self.studio.state.settings, root="")
        described = path.replace("<", "{").replace(">", "}")
        prefix = self.studio.state.settings.url_prefix
        call = description["paths"].get(f"{prefix}{described}", {}).get(method.lower(), {})
        known = description["components"]["parameters"]
        found = [known[given["$ref"].rpartition("/")[2]] for given in call.get("parameters", [])]
        return sorted({one["name"] for one in found if one["in"] == "query"} | {"undescribed"})

    def _path(self, path: str) -> str:
        return _filled(path, self._living() if "<request_id>" in path else "x")

    def _living(self) -> str:
        """A task of Ann's that is there; some calls erase it."""
        if not self.studio.state.store.versions([self.task]):
            self.task = self.studio.submit(headers=ANN)
        return self.task

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Any = None,
        data: bytes = b"",
        environment: Any = None,
        most: int = MAX_ANSWER_BYTES,
    ) -> None:
        address = "/process" if path == "/__process" else f"{self.studio.state.settings.url_prefix}{path}"
        environ = EnvironBuilder(
            method=method,
            path=address,
            query_string=query,
            headers={**ANN, **(headers or {})},
            data=data or None,
            content_type="application/json" if data else None,
        ).get_environ()
        if environment is not None:
            environ.pop("CONTENT_LENGTH", None)
            environ.update({"wsgi.input": _Endless(), **environment})
        # Not by the client's own way: it asks the body where it ends.
        answer = TestResponse(*run_wsgi_app(self.studio.app.wsgi_app, environ, buffered=True), Request(environ))
        what = f"{method} {address}?{query[:80]} {headers or ''} {data[:60]!r}"
        ours = "%2F" not in path and not path.endswith("/") and "//" not in path
        self.report.look_at(what[:400], answer, most=most, ours=ours)
        answer.close()


def _filled(path: str, value: str) -> str:
    begin, _, rest = path.partition("<")
    if not rest:
        return path
    return f"{begin}{value}{rest.partition('>')[2]}"


def megabytes() -> float:
    """The most memory that this process has taken, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss outlives an exec: there it is the most of who started this process
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) / 2**10
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return taken / (2**20 if sys.platform == "darwin" else 2**10)


def main(stores: list[str]) -> None:
    """Abuse an app on each store; print what it took."""
    with tempfile.TemporaryDirectory() as folder:
        bare = None
        report = Report()
        for number, store in enumerate(stores):
            studio = make_abused(store, Path(folder) / str(number))
            bare = bare or megabytes()
            abuser = Abuser(studio)
            found = abuser.everything()
            abuser.masses()
            report.calls += found.calls
            report.faults += found.faults
            studio.state.close(grace=1)
    print(json.dumps({"bare": bare, "most": megabytes(), "calls": report.calls, "faults": report.faults[:20]}))


if __name__ == "__main__":
    main(sys.argv[1:])
