"""``BGTASKS_RUNNER = "http"``: Google Cloud Tasks calls the service back, and a task runs within that call.

For services without background CPU (Cloud Run, App Engine): what is to run needs a request that waits for it. A message
is an HTTP call to ``POST /tasks/run/{id}``, made in the name of one service account; :mod:`flask_bgtasks.http.calls`
receives it. How many calls run at once, how fast, and how they are repeated is up to the queue's own settings.

Messages are unnamed: a name would be refused for up to a day after its message is gone, and takes a lookup each time
("CreateTaskRequest", Cloud Tasks API reference). One that comes twice does no harm.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode

import grpc
from google.api_core.exceptions import DeadlineExceeded, GoogleAPICallError, ServiceUnavailable
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from ..errors import ConfigurationError
from ..runtime.fork import after_fork_in_child
from .base import Wake
from .publishing import PublishingRunner

PUBLISH_SECONDS = 5.0
"""Of one call to Cloud Tasks. It is repeated once, at once, if its connection is found to be dead, as it often is after
an instance had no CPU for minutes. Beyond that a task that is not published is found in the store."""

MAX_DELAY_SECONDS = 30 * 86_400 - 3600.0
"""How far ahead a message may be scheduled: 30 days ("Quotas and limits", Cloud Tasks), less an hour for clocks."""

LATE_SECONDS = 1.0
"""A call for later comes this much after its time: if our clock is ahead of the store's it would come too early."""


@dataclass(frozen=True, slots=True)
class Calls:
    """How Cloud Tasks is to call back.

    :ivar url: of the endpoint, without the id.
    :ivar service_account: in whose name. :ivar audience: of its tokens.
    :ivar deadline: seconds after which a call is given up and repeated.
    """

    url: str
    service_account: str
    audience: str
    deadline: float


class HttpRunner(PublishingRunner):
    """Publishes to Cloud Tasks.

    :param queues: full names of Cloud Tasks' queues by our names; ``default`` is for all that are not named.
    :param endpoint: host and port of a stand-in, which is called without TLS and credentials.
    """

    served_by = (
        "is the queue paused (`gcloud tasks queues describe`), is BGTASKS_RUN_URL this service, and does its log say "
        "why calls are refused?"
    )

    def __init__(self, wake: Wake, *, queues: Mapping[str, str], calls: Calls, endpoint: str | None = None) -> None:
        super().__init__(wake)
        self.queues = queues
        self.calls = calls
        self._endpoint = endpoint
        self._forget()
        after_fork_in_child(self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()  # protects _client's making
        self._client: Any = None  # of this process, made on first use: a gRPC channel does not survive a fork

    def check(self) -> None:
        self.client()

    def client(self) -> Any:
        """The client of this process. :raises ConfigurationError: there are no credentials."""
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._make_client()
        return self._client

    def _make_client(self) -> Any:
        if self._endpoint is not None:
            channel = grpc.insecure_channel(self._endpoint)
            return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        try:
            return tasks_v2.CloudTasksClient()
        except DefaultCredentialsError as error:
            raise ConfigurationError(
                "BGTASKS_RUNNER='http': there are no credentials for Cloud Tasks. Run where Google gives them (Cloud "
                "Run, App Engine), or set GOOGLE_APPLICATION_CREDENTIALS"
            ) from error

    def publish(self, request_id: str, queue: str) -> None:
        self._publish(request_id, queue, None)

    def publish_later(self, request_id: str, queue: str, delay: float) -> None:
        if delay <= MAX_DELAY_SECONDS:
            self._publish(request_id, queue, datetime.now(timezone.utc) + timedelta(seconds=delay + LATE_SECONDS))

    def _publish(self, request_id: str, queue: str, at: datetime | None) -> None:
        calls = self.calls
        query = "" if queue == "default" else "?" + urlencode({"queue": queue})
        message: dict[str, Any] = {
            "http_request": {
                "http_method": tasks_v2.HttpMethod.POST,
                "url": f"{calls.url}/{request_id}{query}",
                "oidc_token": {"service_account_email": calls.service_account, "audience": calls.audience},
            },
            "dispatch_deadline": timedelta(seconds=calls.deadline),
        }
        if at is not None:
            message["schedule_time"] = at
        request = {"parent": self.queues.get(queue) or self.queues["default"], "task": message}
        try:
            self._create(request)
        except ServiceUnavailable:
            self._create(request)

    def _create(self, request: dict[str, Any]) -> None:
        client = self.client()
        try:
            client.create_task(request=request, timeout=PUBLISH_SECONDS, retry=None)
        except (ServiceUnavailable, DeadlineExceeded):
            # Its connection may have died while this process had no CPU: the next call makes another.
            with self._lock:
                if self._client is client:
                    self._client = None
            raise

    @property
    def repeats(self) -> bool:
        return True

    def examine(self) -> Iterable[tuple[str, str | None]]:
        for name in sorted(set(self.queues.values())):
            wrong = None
            try:
                state = self.client().get_queue(name=name, timeout=PUBLISH_SECONDS, retry=None).state
                if state != tasks_v2.Queue.State.RUNNING:
                    wrong = f"it is {state.name.lower()}: gcloud tasks queues resume {name}"
            except GoogleAPICallError as error:
                kind = type(error).__name__
                wrong = f"{kind}: {error.message}. {MENDS.get(kind, '')}".rstrip()
            yield f"queue: {name}", wrong


MENDS = {
    "NotFound": "Make it: gcloud tasks queues create",
    "PermissionDenied": "Looking at it takes roles/cloudtasks.viewer, publishing roles/cloudtasks.enqueuer",
}
"""What to do about an error of Cloud Tasks, by its class."""
