"""The client address of a request, as far as it distinguishes clients. Pure."""

from __future__ import annotations

import ipaddress

IPV6_PREFIX = 64
"""Bits of an IPv6 address that a client does not choose itself (RFC 4291, section 2.5.1)."""


def client_network(remote_address: str | None) -> str | None:
    """The address of a client: of IPv6 its network, in which it may take any address.

    None where it tells nothing: of a proxy on this machine or in a private network, which stands there for all of its
    clients (``werkzeug.middleware.proxy_fix`` has Flask see theirs), and of a Unix socket.
    """
    try:
        address = ipaddress.ip_address((remote_address or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_private or address.is_loopback or address.is_link_local:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), IPV6_PREFIX), strict=False).network_address)
    return str(address)
