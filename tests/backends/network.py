"""Bad networks, between clients and a server that both are well: what `set_offline` of a browser cannot do.

:class:`Network` is a wire: it knows bytes, and can be cut, refused, stalled and slowed down. :class:`Chaos` knows
requests, and loses, repeats and delays them by a seeded random. Each runs an event loop in one thread of its own.
"""

import asyncio
import contextlib
import ctypes
import functools
import random
import re
import socket
import struct
import threading
from collections import Counter

PIECE = 8192
PATIENCE = 10.0

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h; not in the module socket
BPF_RETURN = 0x06  # BPF_RET | BPF_K of linux/filter.h: return a number, of bytes to keep

# WebPageTest's "3G Slow", 400 kbit/s each way and 400 ms of round trip:
# github.com/WPO-Foundation/webpagetest/blob/master/www/settings/connectivity.ini.sample
SLOW_3G_BYTES_PER_SECOND = 400_000 / 8
SLOW_3G_LATENCY = 0.4 / 2


class _Proxy:
    """Listens on a port of the loopback, and carries each connection in a task that can be cancelled."""

    def __init__(self, target_port):
        self._target = target_port
        self._carrying = set()
        self._faults = []
        self._lost = set()  # of which nothing is heard any more, not even their end
        self._listener = None
        # Bound, never listening: the port stays ours while nobody listens on it, and connections are really refused.
        self._holder = _bound(0)
        self.port = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.connections = 0
        """How many there have been."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._do(self._listen())

    @property
    def open(self):
        """How many connections there are now. One that its client left while it was stalled is still one."""
        return len(self._carrying)

    def retarget(self, port):
        """New connections go to another port: the server was started elsewhere."""
        self._target = port

    def close(self):
        if not self._thread.is_alive():
            return
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
        for lost in self._lost:
            lost.close()
        self._holder.close()
        for fault in self._faults:  # of the proxy itself, not of the network: the test must not pass
            raise fault

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _do(self, coroutine):
        """Run it in the thread of the loop, where all state is changed, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _end(self):
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _listen(self):
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen(128)
            # Not sock_accept(): a connection that was just taken would be lost if that were cancelled.
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self):
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = self._listener.accept()
            self.connections += 1
            task = self._loop.create_task(self._serve(client))
            self._carrying.add(task)
            task.add_done_callback(functools.partial(self._carried, client))

    async def _serve(self, client):
        with contextlib.suppress(OSError):
            _at_once(client)
            await self._carry(client)

    def _carried(self, client, task):
        if client not in self._lost:
            client.close()  # here, since a task that is cancelled before it began never enters its function
        self._carrying.discard(task)
        if not task.cancelled() and task.exception():
            self._faults.append(task.exception())

    async def _carry(self, client):
        """Carry one connection until it ends; the caller closes it."""
        raise NotImplementedError

    async def _cut(self):
        await _stop(*self._carrying)

    @contextlib.asynccontextmanager
    async def _server(self):
        with socket.socket() as server:
            _at_once(server)
            await self._loop.sock_connect(server, ("127.0.0.1", self._target))
            yield server


class Network(_Proxy):
    """A wire between clients and one port of the loopback.

    What was done to it holds until :meth:`heal`.
    """

    def __init__(self, target_port):
        self._gate = asyncio.Event()  # shared by the connections of one generation: see strand()
        self._gate.set()
        self._rate = self._latency = None
        self._busy_until = {"up": 0.0, "down": 0.0}
        self._cutter = None
        self._connections = {}  # by the client's socket, the task that carries it
        self._swallowing = False
        super().__init__(target_port)

    def cut(self):
        """End every connection that is open; new ones are taken."""
        self._do(self._cut())

    def refuse(self):
        """End every connection that is open, and refuse new ones as a port does on which nobody listens."""
        self._do(self._end())

    def stall(self):
        """Nothing arrives any more and nothing fails, on connections that are open and on new ones."""
        self._do(_call(self._gate.clear))

    def strand(self):
        """As :meth:`stall`, for ever, for the connections that are open; new ones work.

        So a phone finds its connections after it changed networks: half-open, and nobody tells.
        """
        self._do(_call(self._strand))

    def swallow(self):
        """Lose every packet from now on, and have nobody told; after :meth:`heal` new connections work, old ones never.

        Not even this side's kernel acknowledges what is sent, so TCP's own time-outs can tell, as they can where a
        router forgot a connection: to :meth:`stall` and :meth:`strand` they are blind. Linux only.
        """
        self._do(_call(self._swallow))

    def slow(self, *, bytes_per_second=SLOW_3G_BYTES_PER_SECOND, latency=SLOW_3G_LATENCY):
        """Let all connections together have this much each way, each piece that late. By default: slow 3G."""
        self._rate, self._latency = bytes_per_second, latency

    def cut_every(self, seconds):
        """End every connection that is open, again and again."""
        self._do(self._cut_from_now_on(seconds))

    def heal(self):
        """Be a good network again. What a stall held back arrives now."""
        self._do(self._heal())

    async def _end(self):
        await self._stop_cutting()
        await super()._end()

    async def _heal(self):
        await self._stop_cutting()
        self._rate = self._latency = None
        self._gate.set()
        if self._swallowing:
            self._swallowing = False
            await _stop(*(self._connections[client] for client in self._lost if client in self._connections))
            if self._listener is not None:
                self._listener.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        await self._listen()

    def _swallow(self):
        self._swallowing = True
        self._strand()
        for client in self._connections:
            _lose_packets(client)
            self._lost.add(client)
        if self._listener is not None:
            _lose_packets(self._listener)

    def _strand(self):
        self._gate.clear()
        self._gate = asyncio.Event()
        self._gate.set()

    async def _cut_from_now_on(self, seconds):
        await self._stop_cutting()
        self._cutter = asyncio.ensure_future(self._keep_cutting(seconds))

    async def _keep_cutting(self, seconds):
        while True:
            await asyncio.sleep(seconds)
            await self._cut()

    async def _stop_cutting(self):
        if self._cutter is not None:
            await _stop(self._cutter)
            self._cutter = None

    async def _carry(self, client):
        gate = self._gate
        self._connections[client] = asyncio.current_task()
        try:
            await gate.wait()
            async with self._server() as server:
                await _first(self._pump(client, server, gate, "up"), self._pump(server, client, gate, "down"))
        finally:
            del self._connections[client]

    async def _pump(self, source, sink, gate, way):
        while True:
            try:
                piece = await self._loop.sock_recv(source, PIECE)
            except OSError:
                piece = b""  # an end, and a stall holds ends back as well
            await self._travel(len(piece), way)
            await gate.wait()
            if not piece:
                return
            await self._loop.sock_sendall(sink, piece)

    async def _travel(self, size, way):
        if self._rate is None:
            return
        now = self._loop.time()
        self._busy_until[way] = max(now, self._busy_until[way]) + size / self._rate
        await asyncio.sleep(self._busy_until[way] - now + self._latency)


class Chaos(_Proxy):
    """Passes HTTP requests on to one port of the loopback, and hurts some of them, by a seeded random.

    One connection carries one request, whatever the client would like: a browser sends a request again by itself if a
    connection that it has used before ends without an answer, and would hide what was lost. Answers are passed on as
    the bytes that they are, as they come (but see `buffer`).

    :param lose_request: the part of requests that never reach the server.
    :param lose_answer: the part that the server answers and the client never hears of.
    :param twice: the part that reaches the server twice; the client gets the second answer.
    :param refuse: the part that is answered with 502 or 503 here.
    :param cut: the part whose answer is cut off, after at most `longest_cut` bytes. A short answer gets through.
    :param delay: the part of all these that is late, by at most `longest_delay` seconds.
    :param buffer: so many bytes of an event stream are collected before they are passed on, as some proxies do; always.
    """

    def __init__(
        self,
        target_port,
        *,
        seed,
        lose_request=0.15,
        lose_answer=0.15,
        twice=0.1,
        refuse=0.05,
        cut=0.1,
        delay=0.2,
        longest_delay=0.5,
        longest_cut=4096,
        buffer=1,
    ):
        self._random = random.Random(seed)
        self._hurts = {
            "lose_request": lose_request,
            "lose_answer": lose_answer,
            "twice": twice,
            "refuse": refuse,
            "cut": cut,
        }
        self._hurts["pass"] = 1 - sum(self._hurts.values())
        self._delay, self._longest_delay, self._longest_cut = delay, longest_delay, longest_cut
        self._buffer = buffer
        self._calm = False
        self.log = Counter()
        """How often it did what, by the names of the parameters; and "pass"."""
        super().__init__(target_port)

    @classmethod
    def only(cls, target_port, *, seed=1, **hurts):
        """One that hurts by nothing but what is named."""
        nothing = dict.fromkeys(("lose_request", "lose_answer", "twice", "refuse", "cut", "delay"), 0)
        return cls(target_port, seed=seed, **{**nothing, **hurts})

    def calm(self):
        """Pass everything on from now on."""
        self._calm = True

    def storm(self):
        """Hurt again."""
        self._calm = False

    async def _carry(self, client):
        request = await self._request(client)
        # Before anything waits: what the random says depends on the order of requests alone.
        hurt = "pass" if self._calm else self._random.choices([*self._hurts], [*self._hurts.values()])[0]
        late = not self._calm and self._random.random() < self._delay
        how_late = self._random.uniform(0, self._longest_delay)
        length = self._random.randint(1, self._longest_cut) if hurt == "cut" else None
        self.log[hurt] += 1
        if late:
            self.log["delay"] += 1
            await asyncio.sleep(how_late)
        if hurt in ("twice", "lose_answer"):
            await self._ask_in_vain(request)
        if hurt == "refuse":
            await self._loop.sock_sendall(client, self._random.choice(REFUSALS))
        elif hurt not in ("lose_request", "lose_answer"):
            async with self._server() as server:
                await self._loop.sock_sendall(server, request)
                await _first(self._left(client), self._answer(server, client, length))

    async def _request(self, client):
        """One request with its body, so changed that the server ends the connection after it."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += await self._more(client, PIECE)
        head, _, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            body += await self._more(client, PIECE)
        return re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n") + b"Connection: close\r\n\r\n" + body

    async def _more(self, connection, size):
        if piece := await self._loop.sock_recv(connection, size):
            return piece
        raise ConnectionResetError("it ended in the middle of what was needed")

    async def _ask_in_vain(self, request):
        """Have the server do it: until its answer begins."""
        async with self._server() as server:
            await self._loop.sock_sendall(server, request)
            await self._loop.sock_recv(server, 1)

    async def _answer(self, server, client, length):
        read = b""
        while b"\r\n\r\n" not in read:
            read += await self._more(server, PIECE)
        head, _, body = read.partition(b"\r\n\r\n")
        await self._loop.sock_sendall(client, head + b"\r\nConnection: close\r\n\r\n")
        least = self._buffer if b"text/event-stream" in head else 1
        async for piece in self._pieces(server, body, least):
            if length is not None:
                piece = piece[:length]
                length -= len(piece)
            await self._loop.sock_sendall(client, piece)
            if length == 0:
                return

    async def _pieces(self, server, read, least):
        """What the server sends, in pieces of `least` bytes or more; at its end, what is left."""
        while True:
            if len(read) >= least:
                yield read
                read = b""
            if not (piece := await self._loop.sock_recv(server, PIECE)):
                break
            read += piece
        yield read

    async def _left(self, client):
        while await self._loop.sock_recv(client, PIECE):
            pass


REFUSALS = [
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n",
]


def _bound(port):
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the holder and the listener have one port
    bound.bind(("127.0.0.1", port))
    return bound


def _lose_packets(connection):
    """Attach a filter that takes nothing (socket(7), SO_ATTACH_FILTER)."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", BPF_RETURN, 0, 0, 0))
    filter = struct.pack("HL", 1, ctypes.addressof(program))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter)


def _at_once(connection):
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _call(function):
    function()


async def _stop(*tasks):
    """Cancel them and wait: a socket may be closed only when nobody waits for it any more."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _first(*coroutines):
    """Run them side by side until one ends; the others are stopped."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for ended in await _stop(*tasks):
            if isinstance(ended, Exception) and not isinstance(ended, OSError):
                raise ended
