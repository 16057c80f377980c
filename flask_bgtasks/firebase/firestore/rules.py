"""The texts that a Firebase project needs: security rules, indexes, and the policy that erases expired documents."""

from __future__ import annotations

import json
from collections.abc import Sequence

RULES = """\
rules_version = '2';
service cloud.firestore {{
  match /databases/{{database}}/documents {{
    function signedIn() {{
      return request.auth != null && request.auth.uid is string && request.auth.uid != '';
    }}
    function mine() {{
      return signedIn() && resource.data.owner_uid == request.auth.uid;
    }}
    function mineAbove(id) {{
      return signedIn()
        && get(/databases/$(database)/documents/{tasks}/$(id)).data.owner_uid == request.auth.uid;
    }}
    match /{tasks}/{{id}} {{
      allow get, list: if mine();
      allow write: if false;
      match /chunks/{{chunk}} {{
        allow get, list: if mineAbove(id);
        allow write: if false;
      }}
    }}
    match /{progress}/{{id}} {{
      allow get, list: if mine();
      allow write: if false;
    }}
    match /{{document=**}} {{
      allow read, write: if false;
    }}
  }}
}}
"""

UNQUERIED = {
    "tasks": ("result_data", "result_chunks", "error_message", "updated_at", "completed_at"),
    "progress": ("details", "last_updated", "eta_seconds", "progress_percentage"),
}
"""Fields that nothing queries. Large ones cost index entries; rising times make one server of the index hot
(cloud.google.com/firestore/docs/best-practices: 500 writes a second with sequential values)."""


STORE_INDEXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("bgtasks_tasks", ("app", "status", "lease_until")),
    ("bgtasks_tasks", ("app", "status", "place", "order")),
    ("bgtasks_tasks", ("app", "status", "created_at")),
    ("bgtasks_tasks", ("app", "status", "name")),
    ("bgtasks_tasks", ("app", "status", "owner")),
    ("bgtasks_tasks", ("app", "-created_at", "-request_id")),
    ("bgtasks_tasks", ("app", "owner", "-created_at", "-request_id")),
    ("bgtasks_tasks", ("app", "idempotency_scope", "-created_at", "-request_id")),
    ("bgtasks_tasks", ("app", "status", "name", "completed_at")),
    ("bgtasks_tasks", ("app", "rejected", "name", "completed_at")),
    ("bgtasks_tasks", ("app", "seen", "seconds_to_seen")),
    ("bgtasks_deliveries", ("app", "sink", "dead", "due_at", "id")),
    ("bgtasks_deliveries", ("app", "worker")),
    ("bgtasks_names", ("app", "steps")),
    ("bgtasks_deliveries", ("request_id", "sink", "dead")),
    ("bgtasks_deliveries", ("app", "dead", "-id")),
    ("bgtasks_deliveries", ("app", "dead", "sink", "-id")),
)
"""What the queries of the Firestore store need (``BGTASKS_STORE=firestore://…``); a minus means descending."""


def security_rules(*, tasks: str, progress: str) -> str:
    """``firestore.rules``: an owner reads their own, and nobody writes from a client.

    :param tasks: the collection of tasks. :param progress: the collection of their progress.
    """
    return RULES.format(tasks=tasks, progress=progress)


def indexes(*, tasks: str, progress: str) -> str:
    """``firestore.indexes.json``: what an owner's list needs, and what is better left out."""
    document = {
        "indexes": [
            {
                "collectionGroup": tasks,
                "queryScope": "COLLECTION",
                "fields": [
                    {"fieldPath": "owner_uid", "order": "ASCENDING"},
                    {"fieldPath": "created_at", "order": "DESCENDING"},
                ],
            },
            *(_composite(collection, names) for collection, names in STORE_INDEXES),
        ],
        "fieldOverrides": [
            *_unindexed(tasks, UNQUERIED["tasks"]),
            *_unindexed(progress, UNQUERIED["progress"]),
            *_unindexed("chunks", ("data",)),
            *(
                {"collectionGroup": name, "fieldPath": "expire_at", "ttl": True, "indexes": []}
                for name in (tasks, progress, "chunks")
            ),
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def ttl_commands(*, tasks: str, progress: str) -> list[str]:
    """What erases documents after their ``expire_at``, for those who do not deploy the indexes' file."""
    return [
        f"gcloud firestore fields ttls update expire_at --collection-group={name} --enable-ttl"
        for name in (tasks, progress, "chunks")
    ]


def _composite(collection: str, names: Sequence[str]) -> dict[str, object]:
    fields = [
        {"fieldPath": name.removeprefix("-"), "order": "DESCENDING" if name.startswith("-") else "ASCENDING"}
        for name in names
    ]
    return {"collectionGroup": collection, "queryScope": "COLLECTION", "fields": fields}


def _unindexed(collection: str, names: Sequence[str]) -> list[dict[str, object]]:
    return [{"collectionGroup": collection, "fieldPath": name, "indexes": []} for name in names]
