"""The guarded door: what may be called, what may not, and that every call has an end."""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flask_bgtasks import ConfigurationError, Undeliverable
from flask_bgtasks.errors import EndpointUnreachable
from flask_bgtasks.sinks import safe_http as outbound_module
from flask_bgtasks.sinks.safe_http import GuardedClient

LOOPBACK = ("127.0.0.0/8", "::1")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Be quiet."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.headers["Host"], self.path, body))
        status, headers, answer = self.server.answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)


@contextmanager
def serving(context=None):
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.seen, server.answer, server.timeout = [], (200, {}, b"thanks"), 5
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.port = server.server_address[1]
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def receiver():
    with serving() as server:
        yield server


def resolve(monkeypatch, **hosts):
    """Have these hosts resolve so; each call takes the next answer, the last one for ever."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host, port, *given, **more):
        asked.append(host)
        if host not in hosts:
            return real(host, port, *given, **more)
        answers = hosts[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(outbound_module.socket, "getaddrinfo", getaddrinfo)
    return asked


NOT_PUBLIC = [
    "http://127.0.0.1/", "https://127.0.0.1/", "https://localhost/", "https://10.1.2.3/", "https://172.16.0.1/",
    "https://192.168.1.1/", "https://169.254.169.254/latest/meta-data", "https://100.64.0.1/", "https://0.0.0.0/",
    "https://224.0.0.1/", "https://255.255.255.255/", "https://[::1]/", "https://[::]/", "https://[fe80::1]/",
    "https://[fc00::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:10.0.0.1]/", "https://[2002:7f00:1::]/",
    "https://[64:ff9b::7f00:1]/", "https://[ff02::1]/",
    "https://[fec0::1]/", "https://[3fff::1]/", "https://[64:ff9b:1::7f00:1]/", "https://[2001:470::5efe:7f00:1]/",
    "https://[2001:470::200:5efe:a00:1]/", "https://192.88.99.1/",
    "https://[64:ff9b::a9fe:a9fe]/", "https://[64:ff9b:1:a00:1::]/", "https://[64:ff9b:1:a:0:100::]/",
    "https://[64:ff9b:1:0:a:0:100:0]/", "https://[::a00:1]/", "https://[2001:0:4136:e378:8000:63bf:f5ff:fffe]/",
    "https://[2002:a9fe:a9fe::1]/", "https://[::ffff:169.254.169.254]/",
    "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.0.1./",
]  # fmt: skip


@pytest.mark.parametrize(
    "address",
    ["64:ff9b::808:808", "64:ff9b:1::808:808", "64:ff9b::101:101", "::ffff:8.8.8.8",
     "2002:808:808::1", "2606:4700:4700::1111", "8.8.8.8"],
)  # fmt: skip
def test_an_address_is_judged_by_the_one_inside(address):
    assert outbound_module._public(ipaddress.ip_address(address))


def test_a_network_that_is_named_is_called_through_a_translator_too(monkeypatch):
    resolve(monkeypatch, **{"in.example": [["64:ff9b::a01:203"]], "out.example": [["64:ff9b::a09:203"]]})
    door = GuardedClient(["10.1.0.0/16"])

    door.look_up("https://in.example/")
    with pytest.raises(Undeliverable):
        door.look_up("https://out.example/")


@pytest.mark.parametrize("url", NOT_PUBLIC)
def test_what_is_not_public_is_not_called(url, monkeypatch):
    monkeypatch.setattr(outbound_module.socket, "create_connection", lambda *_, **__: pytest.fail("it was called"))

    with pytest.raises((Undeliverable, EndpointUnreachable)) as refused:
        GuardedClient().post(url, body=b"", headers={})

    assert "not public" in str(refused.value) or "not found" in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com/", "https://", "example.com", "https://user:word@example.com/", "https://example.com:99999/",
     "https://exa mple.com/", "https://example.com/a b", "https://example.com/\r\nX: y", f"https://{'a' * 254}/"],
)  # fmt: skip
def test_what_is_no_address_of_ours_is_refused_before_anything_is_looked_up(url, monkeypatch):
    asked = resolve(monkeypatch)

    with pytest.raises(Undeliverable):
        GuardedClient().post(url, body=b"", headers={})

    assert asked == []


def test_one_private_address_among_several_is_enough(monkeypatch):
    resolve(monkeypatch, **{"mixed.example": [["93.184.216.34", "10.0.0.1"]]})

    with pytest.raises(Undeliverable, match="is 10.0.0.1, in a network that is not public"):
        GuardedClient().post("https://mixed.example/", body=b"", headers={})


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch, receiver):
    """DNS rebinding: the second answer is another one; nobody asks for it."""
    asked = resolve(monkeypatch, **{"rebinding.example": [["127.0.0.1"], ["10.0.0.1"]]})

    answer = GuardedClient(LOOPBACK).post(f"http://rebinding.example:{receiver.port}/hook?a=1", body=b"x", headers={})

    assert (answer.status, answer.body) == (200, b"thanks")
    assert asked.count("rebinding.example") == 1
    assert receiver.seen == [(f"rebinding.example:{receiver.port}", "/hook?a=1", b"x")]


def test_where_one_address_does_not_answer_the_next_is_called(monkeypatch, receiver):
    resolve(monkeypatch, **{"two.example": [["127.0.0.2", "127.0.0.1"]]})  # nobody listens on the first

    answer = GuardedClient(LOOPBACK).post(f"http://two.example:{receiver.port}/", body=b"", headers={})

    assert answer.status == 200


def test_one_address_that_is_silent_leaves_time_for_the_next(monkeypatch):
    resolve(monkeypatch, **{"silent.example": [["127.0.0.2", "127.0.0.1"]]})
    waited = []

    def silent(place, timeout):
        waited.append((place[0], timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(outbound_module.socket, "create_connection", silent)

    with pytest.raises(EndpointUnreachable, match=r"silent\.example does not answer: timed out"):
        GuardedClient(LOOPBACK).post("http://silent.example/", body=b"", headers={}, seconds=4)

    (first, half), (second, rest) = waited
    assert (first, second) == ("127.0.0.2", "127.0.0.1")
    assert half <= 2
    assert rest > 3


def test_an_address_is_named_without_its_path_which_may_be_its_secret():
    for url in ("https://hooks.example/T0/B0/secret?key=secret", "https://secret:secret@hooks.example/secret"):
        with pytest.raises(Undeliverable) as refused:
            GuardedClient().check(url.replace("https", "ftp"))
        assert "ftp://hooks.example" in str(refused.value)
        assert "secret" not in str(refused.value)


def test_over_the_open_network_only_https_goes(monkeypatch):
    resolve(monkeypatch, **{"open.example": [["93.184.216.34"]]})

    with pytest.raises(Undeliverable, match="https"):
        GuardedClient().post("http://open.example/", body=b"", headers={})


def test_a_redirect_is_an_answer(receiver):
    receiver.answer = (302, {"Location": "http://169.254.169.254/"}, b"")

    answer = GuardedClient(LOOPBACK).post(f"http://127.0.0.1:{receiver.port}/", body=b"", headers={})

    assert answer.status == 302
    assert len(receiver.seen) == 1


def test_no_proxy_is_asked(receiver, monkeypatch):
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert GuardedClient(LOOPBACK).post(f"http://127.0.0.1:{receiver.port}/", body=b"", headers={}).status == 200


def test_a_long_answer_is_read_in_part(receiver):
    receiver.answer = (200, {}, b"x" * 200_000)

    answer = GuardedClient(LOOPBACK).post(f"http://127.0.0.1:{receiver.port}/", body=b"", headers={})

    assert len(answer.body) == 64 * 1024


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
TLS_RECORD = b"\x16\x03\x03\x40\x00"  # of a handshake, 16 KiB: byte by byte it takes minutes


@contextmanager
def dripping(head, context=None):
    """A server that answers one call: with ``head``, and then a byte every now and then."""
    over = threading.Event()

    def drip():
        connection, _ = listening.accept()
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with contextlib.suppress(OSError), connection:
            connection.sendall(head)
            while not over.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join(5)


@pytest.mark.parametrize(
    ("scheme", "encrypts", "head", "status"),
    [
        ("http", False, b"", None),
        ("http", False, OK, 200),
        ("https", False, TLS_RECORD, None),
        ("https", True, b"", None),
        ("https", True, OK, 200),
    ],
    ids=["headers", "body", "handshake", "headers over TLS", "body over TLS"],
)
def test_who_drips_is_cut_off(tmp_path, monkeypatch, scheme, encrypts, head, status):
    resolve(monkeypatch, **{"hooks.example": [["127.0.0.1"]]})
    door, context = GuardedClient(LOOPBACK), None
    if encrypts:
        context = serving_as(tmp_path, "hooks.example", door)
    with dripping(head, context) as port:
        begun, answered = time.monotonic(), None
        seconds = 0.5 if status is None else 3  # on a busy machine the head alone may take half a second
        with contextlib.suppress(EndpointUnreachable):
            answered = door.post(f"{scheme}://hooks.example:{port}/", body=b"", headers={}, seconds=seconds).status
        took = time.monotonic() - begun

    assert took < 20  # the whole of it would take minutes
    assert answered == status


def test_a_resolver_that_hangs_has_an_end(monkeypatch):
    let_go = threading.Event()
    monkeypatch.setattr(outbound_module.socket, "getaddrinfo", lambda *_, **__: let_go.wait(30) and [])

    with pytest.raises(EndpointUnreachable, match="no answer in time"):
        GuardedClient().post("https://slow.example/", body=b"", headers={}, seconds=0.2)
    let_go.set()


def test_where_nobody_listens_it_says_so():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(EndpointUnreachable, match="does not answer"):
            GuardedClient(LOOPBACK).post(f"http://127.0.0.1:{nobody.getsockname()[1]}/", body=b"", headers={})


def certificate(folder, name):
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + pem)
    return path


def serving_as(folder, name, door):
    """A server's TLS with a certificate of this name, which the door trusts."""
    pytest.importorskip("cryptography")
    path = certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    door._tls.load_verify_locations(path)
    return context


@pytest.mark.parametrize(("asked", "taken"), [("hooks.example", True), ("other.example", False)])
def test_the_certificate_is_of_the_name_though_the_address_is_called(tmp_path, monkeypatch, asked, taken):
    resolve(monkeypatch, **{asked: [["127.0.0.1"]]})
    door = GuardedClient(LOOPBACK)
    context = serving_as(tmp_path, "hooks.example", door)
    with serving(context) as server:
        url = f"https://{asked}:{server.port}/"
        if taken:
            assert door.post(url, body=b"", headers={}).status == 200
        else:
            with pytest.raises(EndpointUnreachable, match="Hostname mismatch"):
                door.post(url, body=b"", headers={})
            assert server.seen == []


def test_private_networks_are_named_as_networks():
    with pytest.raises(ConfigurationError, match="BGTASKS_PRIVATE_TARGETS.*Expected a network"):
        GuardedClient(["my-server"])


def test_every_address_that_is_taken_for_public_is():
    assert not outbound_module._public(ipaddress.ip_address("::ffff:192.168.0.1"))
    assert outbound_module._public(ipaddress.ip_address("::ffff:93.184.216.34"))
    assert outbound_module._public(ipaddress.ip_address("2001:470::5efe:5db8:d822"))
    assert outbound_module._public(ipaddress.ip_address("2606:2800:220:1:248:1893:25c8:1946"))
