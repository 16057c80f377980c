"""Status polls, each burst paired with bursts on a constant that the same app answers.

The share of requests per second is the aim's figure. The worker's processor time per poll says the same and is far less
shaken by whatever else the machine does: the app is bound by it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import load, servers
from .harness import RowFailed, Series

PEERS = {"huey": "Huey", "rq": "RQ", "celery": "Celery"}
SETTLED_SECONDS = 1.0  # without a change: what the task reported is stored

NOTES = {
    "ours, 200": "GET /tasks/<id> of a running task",
    "ours, 304": "the same with If-None-Match",
    "plain read": "a view with one sqlite3 SELECT and jsonify",
    "same bytes": "a view that answers our bytes and headers from a dict: as good as it gets",
    "Huey": "huey.result(id, preserve=True)",
    "RQ": "Job.fetch(id), status and meta",
    "Celery": "AsyncResult(id), state and info",
}


@dataclass
class Polls:
    """A running app that is asked in bursts."""

    server: servers.Gunicorn
    asked: dict[str, tuple[str, str | None]]
    """By row: the address, and a header."""

    rates: dict[str, Series] = field(default_factory=dict)
    cpu: dict[str, Series] = field(default_factory=dict)
    """Microseconds of the worker's processor time per poll."""

    cpu_share: dict[str, Series] = field(default_factory=dict)
    """The constant's processor time per poll as a percentage of the row's, paired as the rates are."""

    constant: str = "/constant"
    connections: int = load.CONNECTIONS
    method: str = "GET"
    _rate: float = 0.0  # of the constant, in the burst before

    def rows(self) -> dict[str, Callable[[], float]]:
        """What to call for one round of each row: the percentage of the constant."""
        for name in self.asked:
            with contextlib.suppress(load.LoadFailed):  # warm; whoever cannot answer says so in its turn
                self._burst(name)
        self._burst("a constant")
        self.rates.clear()
        self.cpu.clear()
        self._rate = self._burst("a constant")
        return {name: self._paired(name) for name in self.asked}

    def _paired(self, name: str) -> Callable[[], float]:
        def share() -> float:
            before = self._rate
            try:
                rate = self._burst(name)
                self._rate = self._burst("a constant")
            except load.LoadFailed as failure:
                raise RowFailed(str(failure)) from None
            if self.cpu:
                around = list(self.cpu["a constant"].values.values())[-2:]
                _note(self.cpu_share, name, 50 * sum(around) / _newest(self.cpu[name]))
            return 200 * rate / (before + self._rate)

        return share

    def _burst(self, name: str) -> float:
        address, header = self.asked.get(name, (self.server.url + self.constant, None))
        begun = self.server.cpu_seconds()
        rate = load.burst(address, header, connections=self.connections, method=self.method)
        ended = self.server.cpu_seconds()
        _note(self.rates, name, rate)
        if begun is not None and ended is not None:
            _note(self.cpu, name, (ended - begun) / (rate * load.SECONDS) * 1e6)
        return rate


def _note(all_series: dict[str, Series], name: str, value: float) -> None:
    values = all_series.setdefault(name, Series()).values
    values[len(values)] = value


def _newest(series: Series) -> float:
    return series.values[max(series.values)]


@contextlib.contextmanager
def running(folder: Path, *, redis: str | None, peers: Sequence[str]) -> Iterator[Polls]:
    """The app under gunicorn, with a running task that has reported.

    :param redis: its URL, None where there is none.
    :param peers: those whose own state of a task is asked too, where they are installed.
    """
    polled = [p for p in PEERS if p in peers and (redis or p == "huey") and importlib.util.find_spec(p)]
    environ = {"BENCH_REDIS": redis or "", "BENCH_PEERS": ",".join(polled)}
    with servers.gunicorn(f"{__package__}.polls_app:create_app()", folder, environ=environ) as server:
        request_id = _json(server.url + "/start", method="POST")["request_id"]
        status = f"{server.url}/tasks/{request_id}"
        etag = _settled_etag(status)
        plain_id = _json(server.url + "/plain")["request_id"]
        yield Polls(
            server,
            {
                "ours, 200": (status, None),
                "ours, 304": (status, f"If-None-Match: {etag}"),
                "plain read": (f"{server.url}/plain/{plain_id}", None),
                "same bytes": (f"{server.url}/same/{request_id}", None),
                **{PEERS[peer]: (f"{server.url}/{peer}/polled", None) for peer in polled},
            },
        )


def _settled_etag(url: str) -> str:
    known, since = "", time.monotonic()
    stop = since + 10
    while time.monotonic() < min(stop, since + SETTLED_SECONDS):
        with urllib.request.urlopen(url, timeout=10) as answer:
            etag = str(answer.headers["ETag"])
        if etag != known:
            known, since = etag, time.monotonic()
        time.sleep(0.1)
    return known


def _json(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return json.load(answer)
