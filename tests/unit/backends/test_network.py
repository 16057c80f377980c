"""The networks of the tests: each fault does what its name says, and a good network changes nothing."""

import contextlib
import gc
import http.client
import json
import socket
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.backends.network import Chaos, Network
from tests.support.waiting import PATIENCE, until

QUICKLY = 0.2  # silence that is long enough to be meant


class Server(ThreadingHTTPServer):
    """Answers what it was asked; `/stream` goes on as long as there is something to say."""

    def __init__(self, name="server"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.asked, self.left = name, [], threading.Event()
        self.said, self.more = [], threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def say(self, words):
        with self.more:
            self.said.append(words)
            self.more.notify_all()

    def close(self):
        self.say(None)
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, *args):
        """Be quiet: clients that leave are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def log_message(self, *args):
        """Be quiet."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body))
        if self.path == "/stream":
            return self._stream()
        status = int(self.path[1:]) if self.path[1:].isdigit() else 200
        answer = json.dumps({"by": self.server.name, "host": self.headers["Host"], "body": body.decode()}).encode()
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if status not in (204, 304) and self.command != "HEAD":
            self.wfile.write(answer)
        return None

    do_GET = do_HEAD = do_OPTIONS = do_POST  # noqa: N815 -- http.server's names

    def _stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told = 0
        while True:
            with self.server.more:
                while len(self.server.said) == told and not self._has_left():
                    self.server.more.wait(0.02)
                words = self.server.said[told] if len(self.server.said) > told else None
            if words is None:
                break
            told += 1
            data = words.encode()
            with contextlib.suppress(OSError):
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if self._has_left():
            self.server.left.set()
        self.close_connection = True

    def _has_left(self):
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(PATIENCE)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def network(server):
    with Network(server.server_port) as network:
        yield network


@pytest.fixture
def chaos(server):
    """Makes a chaos that hurts by nothing but what is named."""
    with contextlib.ExitStack() as stack:
        yield lambda **given: stack.enter_context(Chaos.only(server.server_port, **given))


@contextlib.contextmanager
def streaming(proxy):
    """A client that has asked for the stream and reads nothing by itself."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        yield client


def hear(client, words):
    """Read until something was said; how long it took."""
    heard, began = b"", time.monotonic()
    while words.encode() not in heard:
        piece = client.recv(4096)
        assert piece, f"it ended after {heard}"
        heard += piece
    return time.monotonic() - began


def hears_nothing(client):
    """Nothing arrives and nothing fails."""
    client.settimeout(QUICKLY)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(PATIENCE)
    return True


def hears_the_end(client):
    """It ends, by whatever the operating system calls it."""
    with contextlib.suppress(ConnectionError):
        while client.recv(4096):
            pass
    return True


def connected(proxy):
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE))


def fate(proxy, body="", method="POST", path="/"):
    """What became of one request: a status, "lost" or "refused"."""
    with connected(proxy) as client:
        try:
            return ask(client, body, method, path)[0]
        except ConnectionRefusedError:
            return "refused"
        except (ConnectionError, http.client.IncompleteRead):
            return "lost"


def ask(client, body="", method="POST", path="/"):
    """Send one request over a connection; the status, and the server's words."""
    client.request(method, path, body)
    answer = client.getresponse()
    said = answer.read()
    return answer.status, json.loads(said or "null")


def bodies(server):
    return [body.decode() for _, _, body in server.asked]


# -- a wire --------------------------------------------------------------------------------------------------------


def test_a_good_network_changes_nothing(network):
    body = "x" * 300_000

    with connected(network) as client:
        status, said = ask(client, body)

    assert (status, said) == (200, {"by": "server", "host": f"127.0.0.1:{network.port}", "body": body})


def test_a_connection_is_kept_alive_and_counted_once(network):
    with connected(network) as client:
        for _ in range(3):
            ask(client)

        assert (network.open, network.connections) == (1, 1)
    until(lambda: network.open == 0)


def test_a_stream_passes_as_it_is_written(server, network):
    with streaming(network) as client:
        server.say("one")
        hear(client, "one")
        server.say("two")
        hear(client, "two")


def test_a_cut_ends_what_is_open_for_both_and_new_connections_work(server, network):
    with streaming(network) as client:
        server.say("one")
        hear(client, "one")

        network.cut()

        assert hears_the_end(client)
    assert server.left.wait(PATIENCE)
    assert (network.open, fate(network)) == (0, 200)


def test_a_network_that_refuses_does_so_as_a_port_without_a_listener(network):
    with streaming(network) as client:
        network.refuse()

        assert hears_the_end(client)
    assert fate(network) == "refused"


def test_a_network_that_refused_heals_on_the_same_port(network):
    network.refuse()
    network.heal()

    assert fate(network) == 200


def test_a_stall_raises_nothing_on_an_open_stream_and_what_it_held_back_arrives(server, network):
    with streaming(network) as client:
        server.say("one")
        hear(client, "one")

        network.stall()
        server.say("two")
        assert hears_nothing(client)

        network.heal()
        hear(client, "two")


def test_a_stall_holds_new_connections_too_and_they_reach_nobody(server, network):
    network.stall()
    with streaming(network) as client:
        assert hears_nothing(client)
        assert server.asked == []

        network.heal()
        server.say("one")
        hear(client, "one")


def test_a_stall_hides_the_death_of_the_server(server, network):
    with streaming(network) as client:
        server.say("one")
        hear(client, "one")
        network.stall()
        server.close()

        assert hears_nothing(client)

        network.heal()
        assert hears_the_end(client)


def test_a_stranded_connection_never_moves_again_while_new_ones_do(server, network):
    with streaming(network) as stranded:
        server.say("one")
        hear(stranded, "one")
        network.strand()
        server.say("two")
        with streaming(network) as client:
            hear(client, "two")
        network.heal()

        assert hears_nothing(stranded)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone lets a socket lose what it is sent")
def test_what_is_swallowed_is_not_even_acknowledged_and_new_connections_work_after_it(server, network):
    with streaming(network) as lost:
        server.say("one")
        hear(lost, "one")
        lost.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)  # milliseconds
        network.swallow()
        lost.settimeout(PATIENCE)
        lost.sendall(b"more")
        with pytest.raises(TimeoutError, match="Connection timed out"):
            lost.recv(1)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", network.port), timeout=QUICKLY)

        network.heal()
        with streaming(network) as client:
            hear(client, "one")


def test_a_stalled_connection_can_be_cut(network):
    with streaming(network) as client:
        network.stall()

        network.cut()

        assert hears_the_end(client)


def test_cutting_again_and_again_lets_no_connection_grow_old_until_it_is_healed(server, network):
    network.cut_every(0.05)
    for _ in range(3):
        with streaming(network) as client:
            assert hears_the_end(client)

    network.heal()

    with streaming(network) as client:
        server.say("one")
        hear(client, "one")
        assert hears_nothing(client)


def test_slow_is_late_and_narrow_also_for_several_connections_together(network):
    network.slow(bytes_per_second=100_000, latency=0.05)
    body = "x" * 10_000  # each of two: there and back, 0.1 s each way
    began = time.monotonic()

    together = [threading.Thread(target=fate, args=(network, body)) for _ in range(2)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()

    assert time.monotonic() - began > 0.35


def test_a_killed_server_is_noticed_through_the_network(server, network):
    with streaming(network) as client:
        server.say("one")
        hear(client, "one")

        server.close()

        assert hears_the_end(client)
    assert fate(network) == "lost"


def test_a_server_that_was_started_elsewhere_is_found_again(server, network):
    server.close()
    elsewhere = Server("elsewhere")
    network.retarget(elsewhere.server_port)

    with contextlib.closing(elsewhere), connected(network) as client:
        assert ask(client)[1]["by"] == "elsewhere"


def test_a_network_that_is_closed_leaves_no_thread_and_no_socket(server):
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Network(server.server_port) as network, streaming(network) as client:
            server.say("one")
            hear(client, "one")
            network.stall()
        del network
        gc.collect()  # a socket that nobody closed warns when it is collected

    assert server.left.wait(PATIENCE)
    until(lambda: threading.active_count() == before)


def test_a_fault_of_the_network_itself_fails_the_test(server, monkeypatch):
    async def broken(self, size, way):
        raise ZeroDivisionError

    monkeypatch.setattr(Network, "_travel", broken)
    network = Network(server.server_port)
    fate(network)

    with pytest.raises(ZeroDivisionError):
        network.close()


# -- chaos ---------------------------------------------------------------------------------------------------------


def test_a_lost_request_reaches_nobody(server, chaos):
    proxy = chaos(lose_request=1)

    assert fate(proxy) == "lost"
    assert (server.asked, proxy.log) == ([], {"lose_request": 1})


def test_a_lost_answer_is_one_to_what_the_server_did(server, chaos):
    proxy = chaos(lose_answer=1)

    assert fate(proxy, "once") == "lost"
    assert (bodies(server), proxy.log) == (["once"], {"lose_answer": 1})


def test_a_request_that_is_sent_twice_is_answered_once(server, chaos):
    proxy = chaos(twice=1)

    assert fate(proxy, "again") == 200
    assert (bodies(server), proxy.log) == (["again", "again"], {"twice": 1})


def test_a_refusal_is_the_proxys_own(server, chaos):
    proxy = chaos(refuse=1)

    assert {fate(proxy) for _ in range(20)} == {502, 503}
    assert server.asked == []


def test_a_late_request_arrives(server, chaos):
    proxy = chaos(delay=1, longest_delay=0.05)

    assert (fate(proxy), proxy.log) == (200, {"pass": 1, "delay": 1})


def test_a_cut_stream_ends_in_its_middle(server, chaos):
    proxy = chaos(cut=1, longest_cut=20_000)
    server.say("x" * 100_000)

    with streaming(proxy) as client:
        assert hears_the_end(client)
    assert server.left.wait(PATIENCE)


def test_a_stream_passes_as_it_is_written_and_the_server_is_told_when_its_reader_leaves(server, chaos):
    proxy = chaos()
    with streaming(proxy) as client:
        server.say("one")
        hear(client, "one")
        server.say("two")
        hear(client, "two")

    assert server.left.wait(PATIENCE)


def test_a_proxy_that_buffers_holds_a_stream_back_until_there_is_enough_of_it(server, chaos):
    proxy = chaos(buffer=2000)
    with streaming(proxy) as client:
        hear(client, "event-stream")
        server.say("one")
        assert hears_nothing(client)
        server.say("x" * 2000)
        hear(client, "one")

    assert fate(proxy) == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 200), ("HEAD", "/", 200), ("OPTIONS", "/", 200), ("POST", "/204", 204), ("GET", "/304", 304)],
)
def test_every_kind_of_answer_gets_through(chaos, method, path, status):
    assert fate(chaos(), "body" * 5000, method, path) == status


def test_a_client_that_keeps_connections_alive_is_told_not_to(chaos):
    proxy = chaos()
    with connected(proxy) as client:
        answers = [ask(client, "body") for _ in range(3)]

    assert [said["body"] for _, said in answers] == ["body"] * 3
    assert proxy.connections == 3


def test_the_same_seed_hurts_the_same_requests(chaos):
    def fates(seed):
        proxy = chaos(seed=seed, lose_request=0.3, lose_answer=0.2, twice=0.1, refuse=0.2)
        return [fate(proxy) for _ in range(20)]

    assert fates(7) == fates(7) != fates(8)


def test_calm_hurts_nobody_until_the_next_storm(chaos):
    proxy = chaos(refuse=1)
    proxy.calm()
    calm = fate(proxy)
    proxy.storm()

    assert (calm, fate(proxy) in (502, 503)) == (200, True)
