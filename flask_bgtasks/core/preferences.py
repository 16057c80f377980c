"""An owner's notification preferences, as values that are read from a client's document.

No I/O, no clock.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..wording import unknown_name

log = logging.getLogger("flask_bgtasks")

KINDS = ("completed", "failed", "cancelled", "progress")
"""The kinds of notification: how a task ended, and its progress."""

HOLD, DROP = "hold", "drop"
FIELDS = ("kinds", "quiet_hours", "muted")
QUIET_FIELDS = ("from", "to", "time_zone", "then")
MAX_MUTED = 100  # names
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of every day in which nothing is to ring. ``then``: what comes meanwhile is held, or dropped."""

    begin: time
    end: time
    zone: str
    then: str = HOLD

    def until(self, now: datetime) -> datetime | None:
        """When the quiet that reigns ``now`` ends, None if it is not quiet. By the clock on the owner's wall."""
        zone, now = _zone(self.zone), now.astimezone(timezone.utc)  # in UTC an hour that is added is an hour
        local = now.astimezone(zone)
        if not self._reigns(local):
            return None
        wall = datetime.combine(local.date(), local.time())
        end = now + (datetime.combine(local.date(), self.end) - wall) % DAY
        if end.astimezone(zone).utcoffset() == local.utcoffset():
            return end
        # The clock is changed within the quiet: an end may come twice then, or never. The first minute without quiet.
        end = now.replace(second=0, microsecond=0) + MINUTE
        while self._reigns(end.astimezone(zone)):
            end += MINUTE
        return end

    def _reigns(self, local: datetime) -> bool:
        wall = local.time()
        if self.begin < self.end:
            return self.begin <= wall < self.end
        return wall >= self.begin or wall < self.end


@dataclass(frozen=True, slots=True)
class Preferences:
    """One owner's. Without any, everything that a task's ``notify=`` asks for is told at any time.

    :param kinds: what to notify of, out of :data:`KINDS`.
    :param muted: names of tasks about which nothing is to be told.
    """

    kinds: frozenset[str] = frozenset(KINDS)
    quiet_hours: QuietHours | None = None
    muted: frozenset[str] = frozenset()

    @classmethod
    def from_stored(cls, document: Mapping[str, Any] | None) -> Preferences:
        """What the store has of an owner; the defaults where it has nothing, or it cannot be read here."""
        if document is None:
            return cls()
        known = {name: value for name, value in document.items() if name in FIELDS}  # a newer version may have more
        if isinstance(known.get("kinds"), list):
            known["kinds"] = [kind for kind in known["kinds"] if kind in KINDS]
        try:
            return cls.from_document(known)
        except ValueError as error:  # its time zone is not known on this machine, say: told rather than lost
            log.warning("the preferences of an owner cannot be read here, so the defaults apply: %s", error)
            return cls()

    @classmethod
    def from_document(cls, document: Any) -> Preferences:
        """Read and check what a client sent; what is left out is as it is by default.

        :raises ValueError: with the field and what is expected in it.
        """
        if not isinstance(document, Mapping):
            raise ValueError("expected an object")
        unknown = min(set(document) - set(FIELDS), default=None)
        if unknown is not None:
            raise ValueError(f"{unknown!r}: no such preference. {unknown_name(unknown, FIELDS)}")
        kinds = _texts(document, "kinds", default=KINDS)
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"kinds: no such kind {kind!r}. {unknown_name(kind, KINDS)}")
        muted = _texts(document, "muted", default=())
        if len(muted) > MAX_MUTED:
            raise ValueError(f"muted: expected at most {MAX_MUTED} names")
        return cls(frozenset(kinds), _quiet_hours(document.get("quiet_hours")), frozenset(muted))

    def document(self) -> dict[str, Any]:
        """As clients read it, and as it is stored."""
        quiet = self.quiet_hours
        return {
            "kinds": [kind for kind in KINDS if kind in self.kinds],
            "quiet_hours": None
            if quiet is None
            else {
                "from": quiet.begin.strftime("%H:%M"),
                "to": quiet.end.strftime("%H:%M"),
                "time_zone": quiet.zone,
                "then": quiet.then,
            },
            "muted": sorted(self.muted),
        }

    def wants(self, kind: str, name: str) -> bool:
        """Whether a task of this name may be told about so."""
        return kind in self.kinds and name not in self.muted


def _texts(document: Mapping[str, Any], key: str, *, default: Any) -> list[str]:
    found = document.get(key, default)
    if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) and one for one in found):
        raise ValueError(f"{key}: expected a list of non-empty strings")
    return list(found)


def _quiet_hours(found: Any) -> QuietHours | None:
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise ValueError(
            'quiet_hours: expected {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"}, or null'
        )
    unknown = min(set(found) - set(QUIET_FIELDS), default=None)
    if unknown is not None:
        raise ValueError(f"quiet_hours.{unknown}: no such field. {unknown_name(unknown, QUIET_FIELDS)}")
    begin, end = _wall_time(found, "from"), _wall_time(found, "to")
    if begin == end:
        raise ValueError("quiet_hours: from and to are the same; to be notified of nothing at all, leave kinds empty")
    zone = found.get("time_zone")
    if not isinstance(zone, str):
        raise ValueError("quiet_hours.time_zone: expected a name from the IANA database, such as Europe/Berlin")
    _zone(zone)
    then = found.get("then", HOLD)
    if then not in (HOLD, DROP):
        raise ValueError(f"quiet_hours.then: expected {HOLD!r} (notified when they end) or {DROP!r} (never notified)")
    return QuietHours(begin, end, zone, then)


def _wall_time(found: Mapping[str, Any], key: str) -> time:
    try:
        return datetime.strptime(found.get(key, ""), "%H:%M").time()  # noqa: DTZ007 - a time on the wall has no zone
    except (TypeError, ValueError):
        raise ValueError(f"quiet_hours.{key}: expected a time of day as HH:MM") from None


def _zone(name: str) -> ZoneInfo:
    """:raises ValueError: there is no such zone, or this machine has no time zone database (package ``tzdata``)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"quiet_hours.time_zone: no zone {name!r} in this server's IANA database, expected e.g. Europe/Berlin"
        ) from None
