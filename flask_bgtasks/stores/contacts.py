"""The part of the store protocol about telling people: devices, preferences, and marks that processes share.

Stands apart from the tasks: nothing here is part of a task's transition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ..core.devices import Device


class Contacts(ABC):
    """Whom to tell. Every method is atomic and may be called from any thread."""

    @abstractmethod
    def now(self) -> datetime:
        """The store's time."""

    # -- devices -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def save_device(self, device: Device, *, most: int, replaces: str | None = None) -> Device:
        """Register a device, or note that it was seen again; under its id, whoever's it was before.

        Other devices of the same :attr:`~flask_bgtasks.core.devices.Device.installation` are forgotten where they
        are the owner's, or have the same :attr:`~flask_bgtasks.core.devices.Device.proof`; and of its owner's those
        that were unseen for longest, beyond ``most`` (what is for one task does not count). A device that is for one
        task replaces the one of the same task, kind and ``details["device"]``: Live Activity tokens rotate.

        :param replaces: the id of a device of the same owner that is forgotten with it.
        :returns: the device as it is stored: its ``created_at`` stays, its ``seen_at`` is now.
        """

    @abstractmethod
    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        """An owner's devices, or those that are for one task; the last seen first. Exactly one of the two is given."""

    @abstractmethod
    def find_device(self, device_id: str) -> Device | None:
        """A device by its id, None if there is none."""

    @abstractmethod
    def forget_device(self, device_id: str) -> bool:
        """Forget a device; whether it was there."""

    @abstractmethod
    def prune_devices(self, *, unseen_for: timedelta, limit: int = 100) -> int:
        """Forget at most ``limit`` devices that were not seen for so long; how many were."""

    # -- preferences ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def load_preferences(self, owner: str) -> Mapping[str, Any] | None:
        """An owner's preferences as they were saved, None if there are none."""

    @abstractmethod
    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        """Save an owner's preferences, JSON, in place of those there were."""

    # -- marks ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def take_mark(self, key: str, span: timedelta) -> bool:
        """Take a key for so long; False while somebody has it.

        How processes agree on who does something, and how often it is done.
        """

    @abstractmethod
    def set_mark(self, key: str, span: timedelta) -> None:
        """Have a key taken from now for so long, whoever has it; a span of 0 gives it back."""


def superseded(device: Device, others: Iterable[Device], *, most: int, replaces: str | None) -> list[Device]:
    """Which devices are forgotten with the registration of one: what adapters share.

    :param others: at least those of its owner, of its installation and of its task; itself not among them.
    """
    gone, rivals = [], []
    for other in others:
        if device.request_id is not None:
            same = other.request_id == device.request_id and other.kind == device.kind
            if same and other.details.get("device") == device.details.get("device"):
                gone.append(other)
        elif other.request_id is None:
            own = device.owner is not None and other.owner == device.owner
            if device.ousts(other) or (own and other.id == replaces):
                gone.append(other)
            elif own:
                rivals.append(other)
    rivals.sort(key=lambda other: (other.seen_at is not None, other.seen_at), reverse=True)
    return gone + rivals[most - 1 :]
