"""Devices, preferences and marks in Firestore: a document each."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ...core.devices import Device, superseded
from ...firebase.firestore.client import ONCE, field
from ..conversions import EPOCH
from ..keys import can_exist
from . import rows
from .database import DEVICES, MARKS, PREFERENCES, FirestorePart

GUARDED = timedelta(minutes=1)  # how long the document is kept that lets one register at a time


class FirestoreContacts(FirestorePart):
    """Whom to tell."""

    # -- devices -------------------------------------------------------------------------------------------------------

    def save_device(self, device: Device, *, max_devices: int, replaces: str | None = None) -> Device:
        client, reference = self._firestore.client, self._keyed(DEVICES, device.id)
        # One installation, or one task's devices, register at a time: else two that are new would not see each other.
        guarded = f"device:{device.request_id or device.installation or device.id}"
        guard = self._keyed(MARKS, guarded)

        def attempt() -> Device:
            held, known, now = guard.get(**ONCE), self._found(device.id), self.now()
            created = known.created_at if known is not None else None
            stored = device.at(created=created or now, seen=now)
            rivals = {snapshot.get("id"): snapshot for snapshot in self._rivals(device)}
            others = [rows.device(snapshot.to_dict()) for snapshot in rivals.values()]
            batch = client.batch()
            # New each time: a write that changes nothing leaves the update time, by which another attempt is refused.
            mark = {"app": self.app_id, "key": guarded, "until": now + GUARDED, "by": uuid.uuid4().hex}
            if held.exists:
                batch.update(guard, mark, option=client.write_option(last_update_time=held.update_time))
            else:
                batch.create(guard, mark)
            for other in superseded(stored, others, max_devices=max_devices, replaces=replaces):
                found = rivals[other.id]  # refused if somebody else has registered it meanwhile
                batch.delete(found.reference, option=client.write_option(last_update_time=found.update_time))
            batch.set(reference, {**rows.device_values(stored), "app_id": self.app_id})
            batch.commit(**ONCE)
            return stored

        saved: Device = self._attempted(attempt)
        return saved

    def _rivals(self, device: Device) -> list[Any]:
        """Snapshots of those that a registration may supersede: of the same task; or of its owner or installation."""
        if device.request_id is not None:
            found = self._matching("request_id", device.request_id)
        else:
            found = [] if device.owner is None else self._matching("owner", device.owner)
            found += [] if device.installation is None else self._matching("installation", device.installation)
        return [other for other in found if other.get("id") != device.id]

    def _matching(self, name: str, value: str) -> list[Any]:
        own = self._collection(DEVICES).where(filter=field("app_id", "==", self.app_id))
        return list(own.where(filter=field(name, "==", value)).stream(**ONCE))

    def _found(self, device_id: str) -> Device | None:
        snapshot = self._keyed(DEVICES, device_id).get(**ONCE)
        return rows.device(snapshot.to_dict()) if snapshot.exists else None

    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        with self._calls():
            if request_id is not None:
                matching = self._matching("request_id", request_id)
            else:
                matching = [] if owner is None else self._matching("owner", owner)
        every = [rows.device(snapshot.to_dict()) for snapshot in matching]
        found = [device for device in every if device.request_id == request_id]
        return sorted(found, key=lambda device: device.seen_at or EPOCH, reverse=True)

    def find_device(self, device_id: str) -> Device | None:
        if not can_exist(device_id):
            return None
        with self._calls():
            return self._found(device_id)

    def forget_device(self, device_id: str) -> bool:
        if not can_exist(device_id):
            return False
        reference = self._keyed(DEVICES, device_id)
        with self._calls():
            if not reference.get(**ONCE).exists:
                return False
            try:
                reference.delete(option=self._firestore.client.write_option(exists=True), **ONCE)
            except Exception as error:
                if type(error).__name__ != "NotFound":
                    raise
                return False  # another process was quicker
        return True

    def prune_devices(self, *, unseen_for: timedelta, limit: int = 100) -> int:
        with self._calls():
            now = self.now()
            over = self._collection(MARKS).where(filter=field("until", "<=", now)).limit(limit).select([])
            old = (
                self._collection(DEVICES).where(filter=field("seen_at", "<", now - unseen_for)).limit(limit).select([])
            )
            self._erase([snapshot.reference for snapshot in over.stream(**ONCE)])
            found = [snapshot.reference for snapshot in old.stream(**ONCE)]
            self._erase(found)
        return len(found)

    # -- preferences ---------------------------------------------------------------------------------------------------

    def load_preferences(self, owner: str) -> Mapping[str, Any] | None:
        with self._calls():
            snapshot = self._keyed(PREFERENCES, owner).get(**ONCE)
        return json.loads(snapshot.get("document")) if snapshot.exists else None

    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        with self._calls():
            found = {"app": self.app_id, "owner": owner, "document": json.dumps(document)}
            self._keyed(PREFERENCES, owner).set(found, **ONCE)

    # -- marks ---------------------------------------------------------------------------------------------------------

    def take_mark(self, key: str, span: timedelta) -> bool:
        reference = self._keyed(MARKS, key)

        def attempt() -> bool:
            snapshot, now = reference.get(**ONCE), self.now()
            if not snapshot.exists:
                reference.create({"app": self.app_id, "key": key, "until": now + span}, **ONCE)
                return True
            if snapshot.get("until") > now:
                return False
            option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
            reference.update({"until": now + span}, option=option, **ONCE)
            return True

        taken: bool = self._attempted(attempt)
        return taken

    def set_mark(self, key: str, span: timedelta) -> None:
        with self._calls():
            self._keyed(MARKS, key).set({"app": self.app_id, "key": key, "until": self.now() + span}, **ONCE)
