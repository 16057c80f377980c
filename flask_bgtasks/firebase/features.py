"""The features of the installed firebase-admin that are newer than the oldest supported version.

Detected in the SDK itself, not by its version number, so that patched or renamed versions are recognised.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that not every supported firebase-admin can do.

    :param what: it is, as the subject of a sentence in the plural. :param since: the version to ask for.
    :param found: whether the installed one can.
    """

    what: str
    since: str
    found: Callable[[], bool]

    @property
    def lacking(self) -> str | None:
        """What is missing and how to mend it; None where the feature is there."""
        if self.found():
            return None
        import firebase_admin

        return (
            f"{self.what} need firebase-admin {self.since}, and {firebase_admin.__version__} is installed: "
            f"pip install -U 'firebase-admin>={self.since}'"
        )

    def require(self, who: str) -> None:
        """:raises ConfigurationError: the installed version lacks this. :param who: wants it."""
        lacking = self.lacking
        if lacking is not None:
            raise ConfigurationError(f"{who}: {lacking}")


def _knows_fids() -> bool:
    from firebase_admin import messaging

    return _takes(messaging.Message, "fid")


def _knows_activities() -> bool:
    from firebase_admin import messaging

    return _takes(messaging.APNSConfig, "live_activity_token")


def _allows_skew() -> bool:
    from firebase_admin import auth

    return _takes(auth.verify_id_token, "clock_skew_seconds")


def _takes(function: Callable[..., object], name: str) -> bool:
    return name in inspect.signature(function).parameters


FIDS = Feature("Firebase Installation IDs", "7.7", _knows_fids)
LIVE_ACTIVITIES = Feature("Live Activities", "6.9", _knows_activities)
CLOCK_SKEW = Feature("Clocks that differ by some seconds", "6.3", _allows_skew)
