"""Devices, preferences and marks in Firestore: a document each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ...devices import Device
from ...firestore.client import ONCE, field
from ..contacts import superseded
from . import rows
from .database import DEVICES, MARKS, PREFERENCES, FirestorePart


class FirestoreContacts(FirestorePart):
    """Whom to tell."""

    # -- devices -------------------------------------------------------------------------------------------------------

    def save_device(self, device: Device, *, most: int, replaces: str | None = None) -> Device:
        with self._calls():
            known, now = self._found(device.id), self.now()
            created = known.created_at if known is not None else None
            stored = device.at(created=created or now, seen=now)
            batch = self._firestore.client.batch()
            for other in superseded(stored, self._rivals(device), most=most, replaces=replaces):
                batch.delete(self._collection(DEVICES).document(other.id))
            batch.set(self._collection(DEVICES).document(device.id), rows.device_values(stored))
            batch.commit(**ONCE)
        return stored

    def _rivals(self, device: Device) -> list[Device]:
        """Those that a registration may supersede: of the same task; or of the same owner or installation."""
        if device.request_id is not None:
            found = self._matching("request_id", device.request_id)
        else:
            found = [] if device.owner is None else self._matching("owner", device.owner)
            found += [] if device.installation is None else self._matching("installation", device.installation)
        return [other for other in {other.id: other for other in found}.values() if other.id != device.id]

    def _matching(self, name: str, value: str) -> list[Device]:
        query = self._collection(DEVICES).where(filter=field(name, "==", value))
        return [rows.device(snapshot.to_dict()) for snapshot in query.stream(**ONCE)]

    def _found(self, device_id: str) -> Device | None:
        snapshot = self._collection(DEVICES).document(device_id).get(**ONCE)
        return rows.device(snapshot.to_dict()) if snapshot.exists else None

    def devices(self, *, owner: str | None = None, request_id: str | None = None) -> Sequence[Device]:
        with self._calls():
            if request_id is not None:
                found = self._matching("request_id", request_id)
            else:
                own = [] if owner is None else self._matching("owner", owner)
                found = [device for device in own if device.request_id is None]
        return sorted(found, key=lambda device: device.seen_at or rows.EPOCH, reverse=True)

    def find_device(self, device_id: str) -> Device | None:
        with self._calls():
            return self._found(device_id)

    def forget_device(self, device_id: str) -> bool:
        reference = self._collection(DEVICES).document(device_id)
        with self._calls():
            there = bool(reference.get(**ONCE).exists)
            if there:
                reference.delete(**ONCE)
        return there

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
            snapshot = self._collection(PREFERENCES).document(rows.hashed(owner)).get(**ONCE)
        return json.loads(snapshot.get("document")) if snapshot.exists else None

    def save_preferences(self, owner: str, document: Mapping[str, Any]) -> None:
        with self._calls():
            reference = self._collection(PREFERENCES).document(rows.hashed(owner))
            reference.set({"owner": owner, "document": json.dumps(document)}, **ONCE)

    # -- marks ---------------------------------------------------------------------------------------------------------

    def take_mark(self, key: str, span: timedelta) -> bool:
        reference = self._collection(MARKS).document(rows.hashed(key))

        def attempt() -> bool:
            snapshot, now = reference.get(**ONCE), self.now()
            if not snapshot.exists:
                reference.create({"key": key, "until": now + span}, **ONCE)
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
            reference = self._collection(MARKS).document(rows.hashed(key))
            reference.set({"key": key, "until": self.now() + span}, **ONCE)
