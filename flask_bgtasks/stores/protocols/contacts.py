"""The part of the store protocol about users: their devices, and their notification preferences.

Independent of the tasks: nothing here is part of a task's transition.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ...core.devices import Device
from .part import StorePart


class Contacts(StorePart):
    """The users' devices and preferences."""

    # -- devices -------------------------------------------------------------------------------------------------------

    @abstractmethod
    def save_device(self, device: Device, *, max_devices: int, replaces: str | None = None) -> Device:
        """Register a device, or record that it was seen again, under its id, whoever owned it before.

        Removes other devices of the same :attr:`~flask_bgtasks.core.devices.Device.installation` that belong to the
        owner or have the same :attr:`~flask_bgtasks.core.devices.Device.proof`, and the owner's devices beyond
        ``max_devices``, unseen for longest first (devices for one task do not count). A device for one task replaces
        the one of the same task, kind and ``details["device"]``: Live Activity tokens rotate.

        :param replaces: the id of a device of the same owner to remove as well.
        :returns: the device as it is stored: its ``created_at`` stays, its ``seen_at`` is now.
        """

    @abstractmethod
    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        """An owner's devices, or the devices for one task, most recently seen first. Give exactly one of the two."""

    @abstractmethod
    def find_device(self, device_id: str) -> Device | None:
        """A device by its id; None if there is none."""

    @abstractmethod
    def forget_device(self, device_id: str) -> bool:
        """Remove a device; return whether it was there."""

    @abstractmethod
    def prune_devices(self, *, unseen_for: timedelta, limit: int = 100) -> int:
        """Remove at most ``limit`` devices that were unseen for this long, of all apps; return how many."""

    # -- preferences ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def load_preferences(self, owner: str) -> Mapping[str, Any] | None:
        """An owner's saved preferences; None if there are none."""

    @abstractmethod
    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        """Save an owner's preferences, JSON, replacing the earlier ones."""
