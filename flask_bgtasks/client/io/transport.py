"""Carries requests and streams over httpx. The one module that imports it.

No retries and no redirects: both are the business of those who know what is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

import httpx

from ...errors import Unreachable
from ...runtime.fork import after_fork_in_child
from .effects import MIN_SECONDS, Answer, Open, Request

CONNECT_SECONDS = 10.0


class HttpxStream:
    """An answer of httpx whose body is still coming.

    :param until: the monotonic time at which it is ended from here; None for never.
    """

    def __init__(self, response: httpx.Response, body: Any, until: float | None) -> None:
        self.status = response.status_code
        self.headers = _headers(response)
        self.response = response
        self.body = body
        self.until = until


class BlockingTransport:
    """Blocks while it waits.

    :param options: for :class:`httpx.Client`.
    """

    def __init__(self, base_url: str, options: Mapping[str, Any]) -> None:
        self._make = partial(httpx.Client, base_url=base_url, follow_redirects=False, **options)
        self._renew()
        after_fork_in_child(self._renew)

    def _renew(self) -> None:
        self._client = self._make()  # a child of fork has no use for its parent's connections

    def request(self, request: Request) -> Answer:
        """The whole answer. :raises Unreachable: there was none."""
        with _unreachable():
            return _answer(self._client.send(_built(self._client, request)))

    def open(self, request: Open) -> HttpxStream:
        """The answer as soon as its head is there. :raises Unreachable: there was none."""
        until = None if request.lifetime is None else time.monotonic() + request.lifetime
        with _unreachable():
            response = self._client.send(_built(self._client, request), stream=True)
        return HttpxStream(response, response.iter_bytes(), until)

    def read(self, stream: HttpxStream) -> bytes:
        """The next bytes, none at the end. :raises Unreachable: it broke, was silent, or its time is over."""
        body: Iterator[bytes] = stream.body
        with _unreachable(), _ended_at(stream):
            return next(body, b"")

    def close(self, stream: HttpxStream) -> None:
        """End an answer from here."""
        with contextlib.suppress(httpx.HTTPError):
            stream.response.close()

    def shut(self) -> None:
        """Close all connections."""
        self._client.close()


class AwaitingTransport:
    """The same, awaited.

    :param options: for :class:`httpx.AsyncClient`.
    """

    def __init__(self, base_url: str, options: Mapping[str, Any]) -> None:
        self._client = httpx.AsyncClient(base_url=base_url, follow_redirects=False, **options)

    async def request(self, request: Request) -> Answer:
        """The whole answer. :raises Unreachable: there was none."""
        with _unreachable():
            return _answer(await self._client.send(_built(self._client, request)))

    async def open(self, request: Open) -> HttpxStream:
        """The answer as soon as its head is there. :raises Unreachable: there was none."""
        until = None if request.lifetime is None else time.monotonic() + request.lifetime
        with _unreachable():
            response = await self._client.send(_built(self._client, request), stream=True)
        return HttpxStream(response, response.aiter_bytes(), until)

    async def read(self, stream: HttpxStream) -> bytes:
        """The next bytes, none at the end. :raises Unreachable: it broke, was silent, or its time is over."""
        body: AsyncIterator[bytes] = stream.body
        left = None if stream.until is None else max(0.0, stream.until - time.monotonic())
        try:
            with _unreachable():
                return await asyncio.wait_for(body.__anext__(), left)
        except StopAsyncIteration:
            return b""
        except asyncio.TimeoutError:  # not the built-in one until Python 3.11
            raise Unreachable("the stream was closed by the client: its time is over") from None

    async def close(self, stream: HttpxStream) -> None:
        """End an answer from here."""
        with contextlib.suppress(httpx.HTTPError):
            await stream.response.aclose()

    async def shut(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _built(client: httpx.Client | httpx.AsyncClient, request: Request | Open) -> httpx.Request:
    """The request with its timeouts; of a stream, the silence that a read may last is the watchdog."""
    if isinstance(request, Request):
        method, content, read = request.method, request.body, request.timeout
    else:
        method, content, read = "GET", None, request.silence
        if request.lifetime is not None:
            read = max(MIN_SECONDS, min(read, request.lifetime))
    timeout = httpx.Timeout(read, connect=min(read, CONNECT_SECONDS))
    return client.build_request(method, request.path, headers=dict(request.headers), content=content, timeout=timeout)


@contextlib.contextmanager
def _unreachable() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _ended_at(stream: HttpxStream) -> Iterator[None]:
    """End a read that blocks when the stream's time is over: httpx's timeouts begin anew with every byte."""
    network = stream.response.extensions.get("network_stream")  # none where no network is between: WSGITransport
    connection = None if network is None else network.get_extra_info("socket")
    if stream.until is None or connection is None:
        yield
        return

    def end() -> None:
        with contextlib.suppress(OSError):  # shut down, not closed: that would not wake the thread that reads
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, stream.until - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, _headers(response), response.content)


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
