"""The devices that an owner can be reached on: their addresses as values, and how addresses are compared.

Pure: no I/O, no clock. Knows no other module.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

FID = "fid"  # a Firebase Installation ID
FCM_TOKEN = "fcm_token"  # an FCM registration token
WEBPUSH = "webpush"  # a Web Push subscription: its endpoint
LIVE_ACTIVITY = "live_activity"  # the token of one Live Activity of one task

UNSEEN_DAYS = 270
"""After so long FCM takes an Android device to be gone (firebase.google.com/docs/cloud-messaging/manage-tokens)."""

PROOF = "proof"  # in the details of a Firebase Installation ID

_FID = re.compile(r"[A-Za-z0-9_-]{22}")
"""22 characters of base64url: 16 bytes, of which the first four bits are fixed (firebase-js-sdk,
packages/installations/src/helpers/generate-fid.ts)."""


@dataclass(frozen=True, slots=True)
class Device:
    """One address of an owner.

    :param id: its name for clients; derived from the address, and for a FID also from the owner: see :func:`device_id`.
    :param kind: ``fid``, ``fcm_token``, ``webpush``, ``live_activity``, or what a plugin serves.
    :param value: the address. Anyone who has it may be able to send to the device, so it is never logged in full.
    :param request_id: the only task that it is for; None for all of the owner's.
    :param details: other data of the address, JSON: a subscription's ``keys``, a Live Activity's ``device``, the
        ``proof`` of a FID (:func:`proof_of` its registration token).
    :param created_at: when it was first registered, in the store's time. :param seen_at: when it was last registered.
    """

    id: str
    kind: str
    value: str = field(repr=False)
    owner: str | None = None
    platform: str | None = None
    app: str | None = None
    lang: str | None = None
    request_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    created_at: datetime | None = None
    seen_at: datetime | None = None

    @property
    def installation(self) -> str | None:
        """Which installation of an app it is, where the address tells: one that registers anew replaces its old one.

        A registration token begins with the Firebase Installation ID that it was made for, and a colon.
        """
        if self.kind == FID:
            return self.value
        if self.kind == FCM_TOKEN and ":" in self.value:
            return self.value.partition(":")[0] or None
        return None

    @property
    def proof(self) -> str | None:
        """What shows that its client is on the installation: a FID is no secret, a registration token is one.

        See :func:`proof_of`; None where there is none.
        """
        if self.kind == FCM_TOKEN:
            return proof_of(self.value)
        return self.details.get(PROOF) if self.kind == FID else None

    def proved_by(self, proof: str | None) -> Device:
        """This FID with a proof; as it is without one."""
        return self if proof is None else replace(self, details={**self.details, PROOF: proof})

    def ousts(self, other: Device) -> bool:
        """Whether its registration ends another one: that of the same installation, by its owner or by its token."""
        if self.installation is None or other.installation != self.installation:
            return False
        return other.owner == self.owner or (self.proof is not None and other.proof == self.proof)

    def at(self, *, created: datetime, seen: datetime) -> Device:
        """This device with its times."""
        return replace(self, created_at=created, seen_at=seen)


def make_device(
    kind: str, value: str, *, owner: str | None = None, request_id: str | None = None, **fields: Any
) -> Device:
    """A device by its address; ``fields`` as :class:`Device` has them."""
    id = device_id(kind, value, owner=owner, request_id=request_id)
    return Device(id, kind, value, owner=owner, request_id=request_id, **fields)


def device_id(kind: str, value: str, *, owner: str | None = None, request_id: str | None = None) -> str:
    """The id of an address: the same whenever it is registered, and the address cannot be read from it.

    An address is one owner's, except for a Firebase Installation ID: who knows it need not have it, and everyone who
    registers it has a device of their own.
    """
    told = [kind, value, request_id, owner] if kind == FID else [kind, value, request_id]
    text = json.dumps(told)  # ASCII, and of no two addresses the same
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def proof_of(token: str) -> str:
    """What is kept of a registration token, to know it again: its SHA-256. It is too random to be guessed from that."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def of_user_token(user_token: str, *, kind: str | None = None, **fields: Any) -> Device:
    """The device that a request's ``user_token`` names.

    :param kind: of the address; None for either kind of FCM's, which it tells by its looks.
    """
    if kind is None:
        kind = FID if _FID.fullmatch(user_token) else FCM_TOKEN
    return make_device(kind, user_token, **fields)


def masked(value: str) -> str:
    """An address as it may stand in a log: enough to tell two apart, too little to use."""
    return f"{value[:6]}…({len(value)})" if len(value) > 12 else f"…({len(value)})"


def superseded(device: Device, others: Iterable[Device], *, max_devices: int, replaces: str | None) -> list[Device]:
    """The devices that are forgotten when one is registered.

    :param others: at least those of its owner, its installation and its task, without the device itself.
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
    return gone + rivals[max_devices - 1 :]
