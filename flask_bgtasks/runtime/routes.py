"""Compares the app's routes with the library's: two for the same URL would silently shadow each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flask import Flask
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException, Rule

from ..errors import ConfigurationError

BLUEPRINT = "bgtasks"
"""The name of the library's blueprint, which its endpoints begin with."""

_VARIABLE = re.compile(r"<[^<>]*>")


@dataclass(frozen=True)
class Conflict:
    """A route of the app and one of ours that answer the same address."""

    theirs: Rule
    ours: Rule

    def __str__(self) -> str:
        methods = ", ".join(sorted((self.theirs.methods or set()) & (self.ours.methods or set())))
        return (
            f"the app's route {self.theirs.rule!r} (endpoint {self.theirs.endpoint!r}) and flask-bgtasks' route "
            f"{self.ours.rule!r} (endpoint {self.ours.endpoint!r}) answer the same requests ({methods}): one of them "
            "is never reached. Move the latter with BGTASKS_URL_PREFIX='/background-tasks', or the app's own route"
        )


def is_ours(endpoint: str) -> bool:
    """Whether this is an endpoint of the library's blueprint."""
    return endpoint.startswith(BLUEPRINT + ".")


def conflicts(theirs: Iterable[Rule], ours: Iterable[Rule]) -> Iterator[Conflict]:
    """Pairs of rules that answer the same address: one for each of the app's rules that has any.

    Hosts are not compared: ours answer on every host. Nor is a rule a conflict that is merely more general, such as a
    page for whatever has no other.
    """
    known: dict[str, list[Rule]] = {}
    for rule in ours:
        known.setdefault(_address(rule), []).append(rule)
    for rule in theirs:
        if rule.websocket or rule.build_only:
            continue
        for other in known.get(_address(rule), ()):
            if (rule.methods or set()) & (other.methods or set()):
                yield Conflict(rule, other)
                break


def in_app(app: Flask, ours: Iterable[Rule] | None = None) -> list[Conflict]:
    """The conflicts in an app.

    :param ours: the library's rules, where the app does not have them yet.
    """
    rules = list(app.url_map.iter_rules())
    if ours is None:
        ours = [rule for rule in rules if is_ours(rule.endpoint)]
    return list(conflicts([rule for rule in rules if not is_ours(rule.endpoint)], ours))


def hidden_hosts(app: Flask, path: str) -> Iterator[str]:
    """Sentences about hosts or subdomains on which a route of the app answers for whatever has no other: for ours too.

    That is where they were named for the first time after ours were added; see :func:`domains`.

    :param path: an address of ours.
    """
    names, url_map = app.config["SERVER_NAME"], app.url_map
    for where in domains(app):
        host, subdomain = where.get("host"), where.get("subdomain")
        if not where or "<" in (host or subdomain or ""):
            continue
        adapter = url_map.bind(host or names or "localhost", subdomain=subdomain)
        try:
            rule, _ = adapter.match(path, "GET", return_rule=True)
        except (HTTPException, RoutingException):
            continue
        if not is_ours(rule.endpoint):
            yield (
                f"on host {(host or subdomain)!r} the app's route {rule.rule!r} (endpoint {rule.endpoint!r}) answers "
                f"requests for {path!r}, an address of flask-bgtasks: call init_app after the routes of that host are "
                "registered"
            )


def check(app: Flask, ours: Iterable[Rule]) -> None:
    """:raises ConfigurationError: the app has a route of its own at an address of ours."""
    for conflict in in_app(app, ours):
        raise ConfigurationError(str(conflict))


def domains(app: Flask) -> list[dict[str, str]]:
    """Where in the app's hosts or subdomains our routes are to be added: options of ``add_url_rule``.

    Werkzeug tries a host that is written out before one that is a variable, and does not come back once a path has
    matched there. So ours are added to each host that the app has named, besides all others.
    """
    if app.url_map.host_matching:
        named = {rule.host for rule in app.url_map.iter_rules() if rule.host}
        return [{"host": host} for host in (*sorted(named), "<bgtasks_host>")]
    if app.subdomain_matching:
        named = {rule.subdomain for rule in app.url_map.iter_rules() if rule.subdomain}
        return [{"subdomain": subdomain} for subdomain in ("", *sorted(named), "<bgtasks_subdomain>")]
    return [{}]


def _address(rule: Rule) -> str:
    return _VARIABLE.sub("<>", rule.rule).rstrip("/")
