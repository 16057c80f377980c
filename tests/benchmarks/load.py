"""Bursts of polls from a process of their own: by ``wrk`` where it is installed, else by threads and raw sockets here.

`python -m tests.benchmarks.load HOST PORT PATH,… SECONDS CONNECTIONS METHOD [HEADER]` is the second way's process.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

CONNECTIONS = 8
SECONDS = 1  # of one burst; wrk takes whole ones
PATIENCE_SECONDS = 20.0


class LoadFailed(Exception):
    """A burst was not answered as it should be."""


def tool() -> str:
    """What the load is made with."""
    return "wrk" if shutil.which("wrk") else "threads and raw sockets (wrk is not installed)"


def burst(
    url: str,
    header: str | None = None,
    *,
    connections: int = CONNECTIONS,
    method: str = "GET",
    seconds: int = SECONDS,
    paths: Sequence[str] = (),
) -> float:
    """Ask for this address as fast as it is answered; answers per second.

    :param method: ``POST`` has no body. :param paths: of that server, asked for in turn, in the place of the address's.
    :raises LoadFailed: there were errors.
    """
    parts = urlsplit(url)
    paths = paths or [parts.path]
    if shutil.which("wrk"):
        return _wrk(url, header, connections, method, seconds, paths)
    command = [sys.executable, "-m", "tests.benchmarks.load", str(parts.hostname), str(parts.port), ",".join(paths)]
    done = _run([*command, str(seconds), str(connections), method, *([header] if header else [])], seconds)
    return float(done)


def _wrk(url: str, header: str | None, connections: int, method: str, seconds: int, paths: Sequence[str]) -> float:
    asked = ["--header", header] if header else []
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "{method}"\nwrk.path = "{paths[0]}"\n')
        if len(paths) > 1:
            listed = ", ".join(f'"{path}"' for path in paths)
            script.write(f"local paths, place = {{{listed}}}, 0\n")
            script.write("request = function() place = place % #paths + 1; return wrk.format(nil, paths[place]) end\n")
        script.flush()
        options = [
            "--timeout",
            f"{PATIENCE_SECONDS:.0f}s",
            "--threads",
            "1",
            "--connections",
            str(connections),
            "--duration",
            f"{seconds}s",
            *asked,
        ]
        out = _run(["wrk", "--script", script.name, *options, url], seconds)
    wrong = re.search(r"(Non-2xx or 3xx responses.*|Socket errors.*)", out)
    found = re.search(r"Requests/sec:\s*([\d.]+)", out)
    if wrong or not found or not float(found[1]):
        raise LoadFailed(f"{url}: {wrong[0] if wrong else out}")
    return float(found[1])


def _run(command: list[str], seconds: int) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE_SECONDS)
    if done.returncode:
        raise LoadFailed((done.stderr or done.stdout).strip()[-300:])
    return done.stdout


def _ask(host: str, port: int, requests: Sequence[bytes], stop: float, counts: list[int]) -> None:
    with socket.create_connection((host, port), timeout=PATIENCE_SECONDS) as connection:
        count, buffer = 0, b""
        while time.perf_counter() < stop:
            connection.sendall(requests[count % len(requests)])
            while b"\r\n\r\n" not in buffer:
                buffer += _received(connection)
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            if head[9:12] not in (b"200", b"202", b"304"):
                raise LoadFailed(head.decode(errors="replace"))
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            size = int(length[1]) if length and head[9:12] != b"304" else 0
            while len(buffer) < size:
                buffer += _received(connection)
            buffer = buffer[size:]
            count += 1
        counts.append(count)


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise LoadFailed("the server closed the connection")
    return data


def main(
    host: str, port: str, path: str, seconds: str, connections: str, method: str, header: str = "X-Nothing: 0"
) -> None:
    """Print the answers per second of one burst."""
    requests = [
        f"{method} {each} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 0\r\n{header}\r\n\r\n".encode()
        for each in path.split(",")
    ]
    counts: list[int] = []
    begun = time.perf_counter()
    threads = [
        threading.Thread(target=_ask, args=(host, int(port), requests, begun + float(seconds), counts), daemon=True)
        for _ in range(int(connections))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) < int(connections):
        raise SystemExit("a connection failed")
    print(sum(counts) / (time.perf_counter() - begun))


if __name__ == "__main__":
    main(*sys.argv[1:])
