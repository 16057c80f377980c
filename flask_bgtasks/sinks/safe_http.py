"""HTTP client for untrusted URLs (webhooks, browsers' push services); blocks requests into private networks.

Anyone who can name a URL could otherwise make the server call into its own network (server-side request forgery;
OWASP, "Server Side Request Forgery Prevention"). So a host is looked up once, all of its addresses are checked, and
the connection goes to a checked address; redirects are not followed; and every call has a time limit.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..core.text.redaction import origin
from ..errors import ConfigurationError, EndpointUnreachable, Undeliverable
from ..runtime.background_thread import ended_within

DEADLINE_SECONDS = 10.0
"""Of one call, all of it: looking the host up, connecting, sending, reading. Standard Webhooks asks for 15 to 30 s at
most of a receiver that is slow; who is slower has it again later."""

MAX_ANSWER_BYTES = 64 * 1024  # what else comes is not read, nor what comes after the deadline

MAX_HOST = 253  # characters of a name; RFC 1035, section 2.3.4, less the root

_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What was answered, as far as it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GuardedClient:
    """Calls to the outside.

    :param private: networks in private ranges that may be called all the same.
    """

    def __init__(self, private: Iterable[str] = (), *, setting: str = "BGTASKS_PRIVATE_TARGETS") -> None:
        self._private = [_network(text, setting) for text in private]
        self._tls = ssl.create_default_context()

    def check(self, url: str) -> None:
        """Look at an address as far as that needs no network. :raises Undeliverable: it may not be called."""
        self._parsed(url)

    def look_up(self, url: str, *, seconds: float = DEADLINE_SECONDS) -> None:
        """Look at an address, and at where its host is. :raises Undeliverable: it may not be called."""
        self._checked(self._parsed(url), seconds)

    def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float = DEADLINE_SECONDS
    ) -> HttpResponse:
        """Post to an address. Any status is an answer.

        :param seconds: for all of it.
        :raises Undeliverable: it may not be called. :raises EndpointUnreachable: nothing answered in time.
        """
        end = time.monotonic() + seconds
        target = self._parsed(url)
        connection = _connected(target, self._checked(target, seconds), end)
        try:
            if target.secure:
                # Its handshake is begun below, where the deadline holds. The plain socket is an empty shell after this.
                connection = self._tls.wrap_socket(
                    connection, server_hostname=target.host, do_handshake_on_connect=False
                )
            with _cut_off(connection, end):
                return self._spoken(connection, target, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise EndpointUnreachable(f"{target.host} does not answer: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def _spoken(
        self, connection: socket.socket, target: _Target, body: bytes, headers: Mapping[str, str]
    ) -> HttpResponse:
        if isinstance(connection, ssl.SSLSocket):
            connection.do_handshake()
        spoken = http.client.HTTPConnection(target.host, target.port)
        spoken.sock = connection
        try:
            spoken.request("POST", target.path, body, {**headers, "Host": target.authority, "Connection": "close"})
            with spoken.getresponse() as answer:  # it keeps the socket open where its body has no end
                return HttpResponse(answer.status, _lower(answer.getheaders()), answer.read(MAX_ANSWER_BYTES))
        finally:
            spoken.close()

    def _parsed(self, url: str) -> _Target:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Undeliverable(f"{origin(url)} is not a URL: {error}") from None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in ("http", "https") or not host:
            raise Undeliverable(f"{origin(url)}: expected an https URL")
        if parts.username is not None or parts.password is not None:
            raise Undeliverable(f"{origin(url)}: a URL with a user name in it is not called")
        if len(host) > MAX_HOST:  # before it is encoded, which takes long for a long one
            raise Undeliverable(f"{origin(url)}: a host's name has at most {MAX_HOST} characters")
        try:
            name = host if ":" in host else host.encode("idna").decode("ascii")
        except UnicodeError:
            raise Undeliverable(f"{origin(url)}: {host!r} is no host's name") from None
        if not _HOST.fullmatch(name):
            raise Undeliverable(f"{origin(url)}: {host!r} is no host's name")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if any(character <= " " or character > "~" for character in path):
            raise Undeliverable(f"{origin(url)}: the path must be percent-encoded")
        return _Target(name, port or (443 if parts.scheme == "https" else 80), parts.scheme == "https", path)

    def _checked(self, target: _Target, seconds: float) -> Sequence[Address]:
        """The addresses of a host, if all of them may be called."""
        found = _looked_up(target, seconds)
        for address in found:
            if self._is_named(address):
                continue
            if not _public(address):
                raise Undeliverable(
                    f"{target.host} is {address}, in a network that is not public: it is not called. If it is meant, "
                    "name it in BGTASKS_PRIVATE_TARGETS"
                )
            if not target.secure:
                raise Undeliverable(f"{target.host}: expected an https URL, since this crosses the open network")
        return found

    def _is_named(self, address: Address) -> bool:
        """Whether an address, or the one that it is translated to, is in a network that the app has named."""
        meant = [address]
        if isinstance(address, ipaddress.IPv6Address) and any(address in network for network in _TRANSLATED):
            meant += _wrapped(address)
        return any(one in network for one in meant for network in self._private if network.version == one.version)


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    port: int
    secure: bool
    path: str

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def _looked_up(target: _Target, seconds: float) -> Sequence[Address]:
    """All addresses of a host, in a thread of its own: the system's resolver has no deadline."""
    found: list[Address] = []
    failed: list[Exception] = []

    def look() -> None:
        try:
            for _, _, _, _, place in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
                found.append(ipaddress.ip_address(str(place[0]).partition("%")[0]))
        except (OSError, ValueError, UnicodeError) as error:
            failed.append(error)

    if not ended_within(seconds, look, name="bgtasks-lookup") or failed or not found:
        raise EndpointUnreachable(f"{target.host} is not found: {failed[0] if failed else 'no answer in time'}")
    return found


def _connected(target: _Target, addresses: Sequence[Address], end: float) -> socket.socket:
    """A connection to the first address that takes one. :raises EndpointUnreachable: none did in time."""
    failed: Exception = TimeoutError("not in time")
    for number, address in enumerate(addresses):
        left = end - time.monotonic()
        if left <= 0 and number > 0:
            break
        share = max(0.1, left / (len(addresses) - number))  # one that is silent leaves time for the next
        try:
            connection = socket.create_connection((str(address), target.port), timeout=share)
        except OSError as error:
            failed = error
            continue
        connection.settimeout(max(0.1, end - time.monotonic()))
        return connection
    raise EndpointUnreachable(f"{target.host} does not answer: {failed}") from failed


@contextmanager
def _cut_off(connection: socket.socket, end: float) -> Iterator[None]:
    """End in time whatever the other side drips, byte by byte, within each single deadline of the socket."""
    watchdog = threading.Timer(max(0.1, end - time.monotonic()), _cut, (connection,))
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _cut(connection: socket.socket) -> None:
    try:
        # Below TLS: the socket's own `shutdown` drops its cipher first, and who reads then gets what was encrypted.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        connection.close()


def _public(address: Address) -> bool:
    """Whether an address is of the open internet, and so is what is wrapped in it."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = _wrapped(address)
        if not all(_public(inside) for inside in wrapped):
            return False
        if wrapped and any(address in network for network in (*_TRANSLATED, _SIX_TO_FOUR)):
            return True  # the address inside is the one that is called
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _wrapped(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for, or leads through."""
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    number = int(address)
    last = ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address in _NAT64 or address in _COMPATIBLE or number >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(last)
    if address in _LOCAL_NAT64:
        found.append(last)
        if number >> 32 & 0xFFFFFFFF_FFFF:  # or its network has chosen a shorter prefix: which one cannot be known
            found += [_embedded(number, length) for length in (48, 56, 64)]
    return [inside for inside in found if inside is not None]


def _embedded(number: int, length: int) -> ipaddress.IPv4Address:
    """The IPv4 address behind a prefix of so many bits; bits 64 to 71 are left out (RFC 6052, section 2.2)."""
    before = 64 - length  # bits of it that stand before the gap
    high = number >> 64 & ((1 << before) - 1)
    low = number >> (56 - (32 - before)) & ((1 << (32 - before)) - 1)
    return ipaddress.IPv4Address(high << (32 - before) | low)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # RFC 4291, section 2.5.5.1: deprecated
_TRANSLATED = (_NAT64, _LOCAL_NAT64, ipaddress.IPv6Network("::ffff:0:0/96"))
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")  # RFC 3056; from Python 3.13 on it is private, whatever is inside
_ISATAP = (0x00005EFE, 0x02005EFE)  # what stands before an IPv4 address in an interface's name: RFC 5214, section 6.1

_SPECIAL = tuple(
    ipaddress.ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16", "fec0::/10")
)
"""Special networks (IANA, "Special-Purpose Address Registry"; RFC 3879 for fec0::/10) which :mod:`ipaddress` takes for
global in some of the Pythons that we run on."""


def _network(text: str, setting: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {error}. Expected a network (10.1.0.0/16) or an address") from None


def _lower(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
