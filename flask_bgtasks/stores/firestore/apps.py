"""Whose database it is: the apps that keep their tasks in it, and what one takes over from another.

Each app has a document in a collection of its own, which its processes renew when they begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from ...errors import StoreUnavailable, StoreUnusable
from ...firebase.firestore.client import ONCE, bulk_batch, field, refused
from . import rows
from .database import (
    APPS,
    DELIVERIES,
    DEVICES,
    DURATIONS,
    MARKS,
    MAX_WRITES,
    NAMES,
    PREFERENCES,
    SCOPES,
    TASKS,
    FirestorePart,
    count,
)

LAYOUT = "layout"
"""The document beside those of the apps that says that no document is without an app any more."""

VERSION = 1
"""Of what is in that document. A newer one is refused: this version would not find all that there is."""

NOT_FOUND = 5  # google.rpc.Code

RENEWED_AFTER = timedelta(days=1)

KEYED: tuple[tuple[str, str, str, str], ...] = (
    (DEVICES, "app_id", "id", ""),
    (PREFERENCES, "app", "owner", ""),
    (MARKS, "app", "key", ""),
    (NAMES, "app", "name", DURATIONS),
)
"""The collections of what an app has once: with the fields of the app and of the key, and what a name ends in."""


class FirestoreApps(FirestorePart):
    """The apps of the database, as one of them sees it."""

    def _move_in(self) -> None:
        """Leave this app's id. The first app that opens a database of an older version adopts what is there."""
        collection = self._collection(APPS)
        own, layout = collection.document(rows.hashed(self.app_id)), collection.document(LAYOUT)
        found = {one.id: one.to_dict() for one in self._firestore.client.get_all([own, layout], **ONCE) if one.exists}
        if LAYOUT not in found:
            self._adopt("")
            layout.set({"version": VERSION}, **ONCE)
        elif found[LAYOUT]["version"] > VERSION:
            raise StoreUnusable(
                "BGTASKS_STORE: these collections were made by a newer flask-bgtasks (layout "
                f"{found[LAYOUT]['version']}, this one knows {VERSION}). Upgrade this installation, or name another "
                "database",
                "its collections were made by a newer version of flask-bgtasks",
            )
        now, known = datetime.now(timezone.utc), found.get(own.id)
        if known is None or known["opened_at"] < now - RENEWED_AFTER:
            own.set({"app": self.app_id, "opened_at": now}, **ONCE)

    def apps(self) -> dict[str, int]:
        with self._calls():
            found = [one.to_dict() for one in self._collection(APPS).stream(**ONCE)]
            ids = {self.app_id, *(one["app"] for one in found if "app" in one)}
            return {app_id: count(_of(self._collection(TASKS), "app", app_id)) for app_id in sorted(ids)}

    def adopt(self, app_id: str) -> int:
        if app_id == self.app_id:
            return 0
        with self._calls():
            moved = self._adopt(app_id)
            self._collection(APPS).document(rows.hashed(app_id)).delete(**ONCE)
        return moved

    def _adopt(self, app_id: str) -> int:
        """Make everything of another app this app's; how many tasks it had. Where both have one, this app's stays.

        With no id: what has no app. No query finds that, so every document is looked at.
        """
        moved = 0
        for page in self._pages_of(TASKS, "app", app_id):
            self._stamp(page)
            for scope in {one.to_dict().get("idempotency_scope") for one in page} - {None}:
                before = self._collection(SCOPES).document(rows.key_of(app_id, scope)).get(**ONCE)
                if before.exists:
                    self._move(before, self._keyed(SCOPES, scope), {})
            moved += len(page)
        for page in self._pages_of(DELIVERIES, "app", app_id):
            self._stamp(page)
        for collection, app, key, ending in KEYED:
            for page in self._pages_of(collection, app, app_id):
                for one in page:
                    found = one.to_dict()
                    if key in found:  # the averages of an older version do not say of what they are
                        name = rows.key_of(self.app_id, found[key]) + ending
                        self._move(one, self._collection(collection).document(name), {app: self.app_id})
        return moved

    def _pages_of(self, collection: str, app: str, app_id: str) -> Iterator[list[Any]]:
        """The documents of another app, or those that have none: so many at once that a call keeps its deadline."""
        query = self._collection(collection)
        query = (_of(query, app, app_id) if app_id else query).order_by("__name__").limit(MAX_WRITES)
        page = list(query.stream(**ONCE))
        while page:
            yield [one for one in page if app_id or not one.to_dict().get(app)]
            page = list(query.start_after(page[-1]).stream(**ONCE)) if len(page) == MAX_WRITES else []

    def _stamp(self, page: Sequence[Any]) -> None:
        """Make documents this app's where they are. One that was erased meanwhile needs no app."""
        batch = bulk_batch(self._firestore.client)
        for one in page:
            batch.update(one.reference, {"app": self.app_id})
        if page:
            codes = {status.code for status in batch.commit(**ONCE).status}
            if codes - {0, NOT_FOUND}:
                raise StoreUnavailable("the task store cannot be used right now: some tasks could not be adopted")

    def _move(self, before: Any, after: Any, changes: Mapping[str, Any]) -> None:
        """Give a document another name, unless there is one of that name already."""
        try:
            after.create({**before.to_dict(), **changes}, **ONCE)
        except Exception as error:
            if not refused(error):
                raise
        before.reference.delete(**ONCE)


def _of(collection: Any, app: str, app_id: str) -> Any:
    return collection.where(filter=field(app, "==", app_id))
