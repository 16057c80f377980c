"""Devices, preferences and marks in the memory of one process: part of the memory store, under its lock."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ...core.devices import Device, superseded
from ..protocols.contacts import Contacts
from ..protocols.marks import Marks


class MemoryContacts(Contacts, Marks):
    """Whom to tell. The lock is the store's."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._devices: dict[str, Device] = {}
        self._preferences: dict[str, str] = {}
        self._marks: dict[str, datetime] = {}  # until when each key is taken

    def save_device(self, device: Device, *, max_devices: int, replaces: str | None = None) -> Device:
        with self._lock:
            now, known = self.now(), self._devices.get(device.id)
            stored = device.at(created=known.created_at if known and known.created_at else now, seen=now)
            others = [other for other in self._devices.values() if other.id != device.id]
            for other in superseded(stored, others, max_devices=max_devices, replaces=replaces):
                del self._devices[other.id]
            self._devices.pop(device.id, None)
            self._devices[device.id] = stored
            return stored

    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        with self._lock:
            found = [
                device
                for device in reversed(self._devices.values())
                if device.request_id == request_id and (request_id is not None or device.owner == owner)
            ]
        return sorted(found, key=lambda device: device.seen_at or self.now(), reverse=True)

    def find_device(self, device_id: str) -> Device | None:
        return self._devices.get(device_id)

    def forget_device(self, device_id: str) -> bool:
        with self._lock:
            return self._devices.pop(device_id, None) is not None

    def prune_devices(self, *, unseen_for: timedelta, limit: int = 100) -> int:
        with self._lock:
            before = self.now() - unseen_for
            old = [device.id for device in self._devices.values() if device.seen_at and device.seen_at < before]
            for device_id in old[:limit]:
                del self._devices[device_id]
            return len(old[:limit])

    def _forget_devices_of(self, request_id: str) -> None:
        for device in [device for device in self._devices.values() if device.request_id == request_id]:
            del self._devices[device.id]

    def load_preferences(self, owner: str) -> Mapping[str, Any] | None:
        text = self._preferences.get(owner)
        return None if text is None else json.loads(text)

    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        text = json.dumps(document)
        with self._lock:
            self._preferences[owner] = text

    def take_mark(self, key: str, span: timedelta) -> bool:
        with self._lock:
            now = self.now()
            self._marks = {name: until for name, until in self._marks.items() if until > now}
            if key in self._marks:
                return False
            self._marks[key] = now + span
            return True

    def set_mark(self, key: str, span: timedelta) -> None:
        with self._lock:
            self._marks[key] = self.now() + span
