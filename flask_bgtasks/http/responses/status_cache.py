"""Answers to status polls, kept ready in memory: polls are what a backend sees most.

An entry is good while the store's change token is the same, which is cheap to see; when something changed somewhere,
the task's version decides. Knows no owner: every request is checked by who asks for the entry.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from ...auth.owners import is_id
from ...core.model import Event, Task
from ...errors import TaskNotFound
from ...stores.base import Store
from ...stores.types import TaskQuery
from ..requests.query import MAX_IDS
from . import representation

MAX_ENTRIES = 2048
MAX_BYTES = 32 * 2**20

LOOK_SECONDS = 0.002
"""Polls that come within this time of a look at the store share it; what this process writes is seen at once.

Each look lets go of Python's lock, and under load another thread takes it: that cost 13% of the rate of polls. A poll
is at most this much behind what *another* process wrote, where streams may be 20 ms; and behind this process's own
commit only until the store has told its listeners of it.
"""


class CachedStatus:
    """One task's answer. ``brief`` is the task without its result; the whole is made when it is first asked for."""

    __slots__ = ("brief", "etag", "headers", "task", "token", "whole")

    def __init__(self, task: Task, *, token: Hashable | None, base: str) -> None:
        self.task = task
        self.token = token
        self.brief = representation.dumps(representation.brief(task, base))
        self.whole: bytes | None = None
        self.etag = f'"{task.seq}"'
        self.headers = [
            ("Content-Type", "application/json"),
            ("ETag", self.etag),
            # Kept by the client only, and asked for again each time: what makes If-None-Match work in browsers.
            ("Cache-Control", "private, no-cache"),
        ]
        retry_after = representation.retry_after(task)
        if retry_after is not None:
            self.headers.append(("Retry-After", retry_after))

    @property
    def size(self) -> int:
        """Bytes that it keeps, roughly."""
        return len(self.brief) + len(self.whole or b"")


class StatusCache:
    """The entries of one store; those that changed longest ago are forgotten first, so that a hit writes nothing.

    :param prefix: the path of the blueprint under the app's root.
    """

    def __init__(
        self, store: Store, prefix: str, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        # Each call on it is one atomic operation of the dict; the size is an estimate, summed anew when it matters.
        self._entries: OrderedDict[str, CachedStatus] = OrderedDict()
        self._size = 0
        self._commits = 0  # of this process; only ever compared with what it was
        self._looked: tuple[int, float, Hashable | None] = (-1, 0.0, None)  # commits then, good until, the token
        store.on_commit(self._committed, first=True)

    def get(self, request_id: str, root: str) -> CachedStatus:
        """The answer for a task as it stands now.

        :param root: the path under which the app is mounted, ``SCRIPT_NAME``.
        :raises TaskNotFound: no such task, or this is no id.
        """
        token = self._token()
        key = root + request_id
        entry = self._entries.get(key)
        if entry is not None and token is not None:
            if entry.token == token:
                return entry
            if self._store.versions((request_id,)).get(request_id) == entry.task.seq:
                entry.token = token
                return entry
        if not is_id(request_id):
            raise TaskNotFound(request_id)
        try:
            task = self._store.get(request_id)
        except TaskNotFound:
            self._entries.pop(key, None)
            raise
        return self._keep(key, CachedStatus(task, token=token, base=root + self._prefix))

    def many(self, request_ids: Sequence[str], root: str) -> dict[str, CachedStatus]:
        """The answers for those of the tasks that exist, in the order in which they were asked for; at most 100."""
        token = self._token()
        known = {i: entry for i in request_ids if (entry := self._entries.get(root + i)) is not None}
        old = [i for i, entry in known.items() if token is None or entry.token != token]
        versions = self._store.versions(old) if old else {}
        for request_id in old:
            if versions.get(request_id) == known[request_id].task.seq:
                known[request_id].token = token
            else:
                del known[request_id]
        wanted = [i for i in request_ids if i not in known and is_id(i)]
        if wanted:
            for task in self._store.find(TaskQuery(ids=wanted, limit=MAX_IDS)).tasks:
                entry = CachedStatus(task, token=token, base=root + self._prefix)
                known[task.request_id] = self._keep(root + task.request_id, entry)
        return {i: known[i] for i in request_ids if i in known}

    def of(self, task: Task, root: str) -> CachedStatus:
        """The answer for a task that was just read. Not kept: lists read many that nobody asks for again."""
        return CachedStatus(task, token=None, base=root + self._prefix)

    def whole(self, entry: CachedStatus) -> bytes:
        """The status document of an entry, with the result."""
        if entry.whole is None:
            task = entry.task
            result = self._store.load_result(task.request_id) if task.result_size is not None else None
            entry.whole = representation.with_result(entry.brief, task, result)
            self._size += len(entry.whole)
            self._bound()
        return entry.whole

    def forget(self, request_id: str, root: str) -> None:
        """The task was deleted here, which is no commit that others are told of."""
        self._entries.pop(root + request_id, None)

    def look_again(self) -> None:
        """Share no earlier look with what is asked for next: something is known to have changed.

        Who waits for a change is woken by the commit too, and may be here before :meth:`_committed` was called.
        """
        self._looked = (-1, 0.0, None)

    def _token(self) -> Hashable | None:
        commits, until, token = self._looked
        now = time.monotonic()
        if commits == self._commits and now < until:
            return token
        # Both are taken before the look, so that a commit during it is not missed.
        commits, until = self._commits, now + LOOK_SECONDS
        token = self._store.change_token()
        self._looked = (commits, until, token)
        return token

    def _committed(self, task: Task, events: tuple[Event, ...]) -> None:
        self._commits += 1

    def _keep(self, key: str, entry: CachedStatus) -> CachedStatus:
        before = self._entries.get(key)
        if before is not None and before.task.seq > entry.task.seq:
            return before  # another thread read it later and was here first
        self._entries[key] = entry
        try:
            self._entries.move_to_end(key)
        except KeyError:  # forgotten by another thread meanwhile
            return entry
        self._size += entry.size
        self._bound()
        return entry

    def _bound(self) -> None:
        if len(self._entries) <= self._max_entries and self._size <= self._max_bytes:
            return
        self._size = sum(entry.size for entry in list(self._entries.values()))
        while self._entries and (len(self._entries) > self._max_entries or self._size > self._max_bytes):
            try:
                _, entry = self._entries.popitem(last=False)
            except KeyError:
                return
            self._size -= entry.size
