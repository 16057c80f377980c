"""Reads a task's mirror in Cloud Firestore over its REST API, with a user's ID token: no backend, no SDK.

Source of the addresses and of the form of values: firebase.google.com/docs/firestore/reference/rest.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from ...errors import FirestoreUnavailable
from ...firebase.firestore.documents import read_result
from ..pending.ids import as_request_id

HOST = "https://firestore.googleapis.com"
EMULATOR = "FIRESTORE_EMULATOR_HOST"

NOT_YET = frozenset({403, 404})
"""What a document that is not there answers under the rules: its owner is not known, so it is nobody's to read."""

PAGE = 20  # chunks in one answer


class FirestoreReader:
    """Reads the two documents of tasks.

    :param project: the Firebase project.
    :param token: the user's ID token, or a function that returns a fresh one; None reads without a login.
    :param timeout: seconds for each call.
    """

    def __init__(
        self,
        project: str,
        *,
        token: str | Callable[[], str] | None = None,
        database: str = "(default)",
        tasks: str = "background_tasks",
        progress: str = "request_progress",
        timeout: float = 10.0,
    ) -> None:
        emulator = os.environ.get(EMULATOR)
        host = f"http://{emulator}" if emulator else HOST
        self._base = f"{host}/v1/projects/{project}/databases/{database}/documents"
        self._token = token
        self._tasks = tasks
        self._progress = progress
        self._timeout = timeout

    def task(self, request_id: str) -> dict[str, Any] | None:
        """The ``background_tasks`` document; None if there is none that this user may read."""
        return self._document(self._tasks, request_id)

    def progress(self, request_id: str) -> dict[str, Any] | None:
        """The ``request_progress`` document; None if there is none that this user may read."""
        return self._document(self._progress, request_id)

    def result(self, request_id: str) -> Any:
        """The result of a completed task: parsed JSON, or else bytes; of any size.

        :raises LookupError: it is not completed, or does not exist.
        :raises ValueError: the result was read incompletely; read it again.
        """
        document = self.task(request_id)
        if document is None or document["status"] != "completed":
            status = "not there" if document is None else document["status"]
            raise LookupError(f"task {request_id} is {status}: there is no result")
        return read_result(document, self._chunks(request_id) if "result_chunks" in document else [])

    def _document(self, collection: str, request_id: str) -> dict[str, Any] | None:
        try:
            found = self._get(f"/{collection}/{as_request_id(request_id)}")
        except FirestoreUnavailable as error:
            if error.status in NOT_YET:
                return None
            raise
        return _fields(found)

    def _chunks(self, request_id: str) -> list[bytes]:
        chunks: list[bytes] = []
        after = ""
        while True:
            asked = {"pageSize": PAGE, "orderBy": "number", **({"pageToken": after} if after else {})}
            query = urllib.parse.urlencode(asked)
            found = self._get(f"/{self._tasks}/{as_request_id(request_id)}/chunks?{query}")
            chunks += [_fields(document)["data"] for document in found.get("documents", [])]
            after = found.get("nextPageToken", "")
            if not after:
                return chunks

    def _get(self, path: str) -> Any:
        token = self._token() if callable(self._token) else self._token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        asked = urllib.request.Request(self._base + path, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=self._timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise FirestoreUnavailable(f"Firestore answered {error.code}", status=error.code) from error
        except (OSError, ValueError) as error:
            raise FirestoreUnavailable(f"Firestore cannot be read: {error}") from error


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in document.get("fields", {}).items()}


def _value(value: Mapping[str, Any]) -> Any:
    """A value of the REST API as Python has it."""
    [(kind, given)] = value.items()
    if kind == "mapValue":
        return _fields(given)
    if kind == "arrayValue":
        return [_value(item) for item in given.get("values", [])]
    if kind == "integerValue":
        return int(given)
    if kind == "bytesValue":
        return base64.b64decode(given)
    if kind == "timestampValue":
        whole, _, fraction = given.rstrip("Z").partition(".")
        return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00")
    return None if kind == "nullValue" else given
