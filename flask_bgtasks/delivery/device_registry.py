"""Keeps the addresses of owners: registers a device, and the ``user_token`` that came with a request for work.

Knows the store, and what this process has registered a moment ago; knows no request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

from ..core.devices import FCM_TOKEN, FID, Device, of_user_token
from ..core.model import Task, TokenNote
from ..runtime.fork import after_fork_in_child
from ..stores.protocols.contacts import Contacts

log = logging.getLogger("flask_bgtasks")

MOMENT_SECONDS = 60.0
"""How long an address that this process has just registered is taken for registered, without a look at the store.

Short, since another process may meanwhile have given it to somebody else, who logged in on the same device.
"""

REFRESHED = timedelta(days=1)
"""How often it is written that an address was seen which comes with every request: it is pruned after months."""

MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class TokenHints:
    """What a request says about its ``user_token``.

    :param kind: of the address; None to tell it by its looks.
    :param lang: the language of its device, as the client says.
    :param spoken: the language that the request asks for, which counts where no other is known.
    :param keep: False for an address that is used for this task only, and not registered.
    """

    kind: str | None = None
    lang: str | None = None
    spoken: str | None = None
    keep: bool = True


NO_HINTS = TokenHints()


class DeviceRegistry:
    """The addresses of one app's users.

    :param max_devices: devices that are kept for one owner.
    """

    def __init__(self, store: Contacts, *, max_devices: int) -> None:
        self._store = store
        self._max_devices = max_devices
        self._reset()
        after_fork_in_child(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # protects what is remembered
        self._recent: OrderedDict[tuple[str, str], _Moment] = (
            OrderedDict()
        )  # by installation, or by address where it tells none

    def register(
        self, device: Device, *, replaces: str | None = None, spoken: str | None = None
    ) -> tuple[Device, bool]:
        """Register a device for its owner. What it does not say stays as it was known.

        :param replaces: the id of a device of the same owner that is forgotten with it.
        :param spoken: the language that counts where no other is known.
        :returns: the device as it is stored, and whether its address was known.
        """
        known = self._known(device)
        completed = _completed(device, known, lang=device.lang, spoken=spoken)
        stored = self._store.save_device(completed, max_devices=self._max_devices, replaces=replaces)
        self._remember(stored, stored)
        return stored, known is not None and known.id == device.id

    def forget(self, device: Device) -> None:
        """Forget a device."""
        with self._lock:
            self._recent.pop(_place_of(device), None)
        self._store.forget_device(device.id)

    def note(self, task: Task, hints: TokenHints = NO_HINTS) -> TokenNote | None:
        """Register the ``user_token`` of a task that is about to be stored for its owner, unless that was just done.

        Before it is stored: it may end, and be told, the moment after. Raises nothing: the task is not to fail of it.

        :returns: what the task is to keep of its address, None if it has none.
        """
        if not task.user_token:
            return None
        known = TokenNote(hints.kind, hints.lang or hints.spoken)
        if task.owner is None or not hints.keep:
            return known
        given = of_user_token(task.user_token, kind=hints.kind, owner=task.owner)
        if self._remembers(given, hints.lang):
            return replace(known, registered=True)
        try:
            self._note(given, hints)
        except Exception as error:  # its text may hold what could not be written: the address
            log.warning(
                "the user_token of task %s could not be registered for its owner: %s",
                task.request_id,
                type(error).__name__,
            )
            return known
        return replace(known, registered=True)

    def _note(self, given: Device, hints: TokenHints) -> None:
        known = self._known(given)
        # An installation that is known by its Firebase Installation ID is not put back to the token before that.
        if known is not None and known.owner == given.owner and (known.id == given.id or known.kind == FID):
            device = replace(known, lang=hints.lang or known.lang or hints.spoken)
            if known.kind == FID and given.kind == FCM_TOKEN:
                device = device.proved_by(given.proof)
            fresh = known.seen_at is not None and known.seen_at > self._store.now() - REFRESHED
            if fresh and device == known:
                self._remember(given, device)
                return
        else:
            device = _completed(given, known, lang=hints.lang, spoken=hints.spoken)
        self._remember(given, self._store.save_device(device, max_devices=self._max_devices))

    def _known(self, device: Device) -> Device | None:
        """What is stored of an address, or of its owner's other one of the same installation of the app."""
        found = self._store.find_device(device.id)
        if found is not None or device.installation is None:
            return found
        own = self._store.devices(owner=device.owner)
        return next((other for other in own if other.installation == device.installation), None)

    def _remembers(self, device: Device, lang: str | None) -> bool:
        known = self._recent.get(_place_of(device))
        if known is None or (known.device_id, known.owner) != (device.id, device.owner):
            return False
        return lang in (None, known.lang) and time.monotonic() < known.until

    def _remember(self, given: Device, stored: Device) -> None:
        """Remember that an address was just given, and what is stored for it. One of each installation is known."""
        place = _place_of(given)
        with self._lock:
            self._recent[place] = _Moment(given.id, stored.owner, stored.lang, time.monotonic() + MOMENT_SECONDS)
            self._recent.move_to_end(place)
            while len(self._recent) > MAX_REMEMBERED:
                self._recent.popitem(last=False)


class _Moment(NamedTuple):
    """What was registered a moment ago, and until when it is taken for that."""

    device_id: str
    owner: str | None
    lang: str | None
    until: float


def _place_of(device: Device) -> tuple[str, str]:
    return ("installation", device.installation) if device.installation is not None else ("id", device.id)


def _completed(device: Device, known: Device | None, *, lang: str | None, spoken: str | None) -> Device:
    """A device with what was known of it where it says nothing itself."""
    if known is None:
        return replace(device, lang=lang or spoken)
    completed = replace(
        device,
        platform=device.platform or known.platform,
        app=device.app or known.app,
        lang=lang or known.lang or spoken,
    )
    # A FID without a proof: what is known of it is its owner's, who has shown it before.
    return completed.proved_by(known.proof) if device.kind == FID and device.proof is None else completed
