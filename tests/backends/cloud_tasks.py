"""A stand-in for Cloud Tasks, and for the part of Google that signs tokens: gRPC in, HTTP calls with OIDC tokens out.

It takes what the client library sends by its own message types, dispatches each message when it is due, and repeats a
call that is not answered with a success, with back-off. It does not know rate limits. Keys are made here; the
certificates are served over HTTP in the form of Google's (https://www.googleapis.com/oauth2/v1/certs).
"""

import heapq
import http.client
import itertools
import json
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, jwt
from google.cloud.tasks_v2 import CreateTaskRequest, GetQueueRequest, HttpMethod, Queue, Task

ACCOUNT = "tasks@demo.iam.gserviceaccount.com"
QUEUE = "projects/demo/locations/here/queues/work"
SERVICE = "google.cloud.tasks.v2.CloudTasks"

FIRST_BACKOFF, MAX_BACKOFF = 0.05, 0.5  # seconds


@dataclass(frozen=True)
class Key:
    """A key, as Google has some, and its certificate."""

    id: str
    private: bytes
    certificate: str

    def sign(self, claims):
        """A token with these claims."""
        signer = crypt.RSASigner.from_string(self.private, key_id=self.id)
        return jwt.encode(signer, claims).decode()


@cache
def key(name="first"):
    """A key of that name; made once."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Key(f"key-{name}", secret, certificate.public_bytes(pem).decode())


def claims(audience, **other):
    """What a token of Cloud Tasks says; ``other`` replaces, None leaves out."""
    now = int(time.time())
    said = {
        "iss": "https://accounts.google.com",
        "aud": audience,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **other,
    }
    return {name: value for name, value in said.items() if value is not None}


class Certificates:
    """Serves certificates, and counts how often somebody asks."""

    def __init__(self):
        self.keys = [key()]
        self.asked = 0
        self.status = 200
        certificates = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                """Be quiet."""

            def do_GET(self):
                certificates.asked += 1
                body = json.dumps({one.id: one.certificate for one in certificates.keys}).encode()
                self.send_response(certificates.status)
                self.send_header("Cache-Control", "public, max-age=19800, must-revalidate, no-transform")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/certs"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Message:
    """One Cloud Task, and how its calls were answered: a status, or None where no answer came."""

    task: Task
    queue: str
    due: float
    answers: list = field(default_factory=list)

    @property
    def request_id(self):
        return urlsplit(self.task.http_request.url).path.rpartition("/")[2]


class CloudTasksStandIn:
    """Takes messages, and dispatches them unless it is told to hold them."""

    def __init__(self):
        self.certificates = Certificates()
        self.messages = []  # all that were created
        self.problems = []  # what the real one would have refused
        self.asked = 0  # how often a message was to be created
        self.away = False  # refuses everything
        self.broken = 0  # refuses so many calls, as on a connection that has died
        self.silent = False  # answers nothing
        self.state = Queue.State.RUNNING
        self.on_time = True  # False: what is scheduled for later is due at once
        # Protects all of this; the dispatcher waits for it.
        self._changed = threading.Condition()
        self._held = False
        self._closed = False
        self._order = itertools.count()
        self._due = []  # heap of (due, order, message)
        self._calls = futures.ThreadPoolExecutor(16, thread_name_prefix="cloud-tasks-call")
        self._server = grpc.server(futures.ThreadPoolExecutor(4, thread_name_prefix="cloud-tasks"))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))
        self.endpoint = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        self._dispatcher = threading.Thread(target=self._dispatch, name="cloud-tasks-dispatcher", daemon=True)
        self._dispatcher.start()

    @property
    def settings(self):
        """The settings of an app that uses it, but for its own address."""
        return {
            "runner": "http",
            "cloud_tasks_queue": QUEUE,
            "cloud_tasks_endpoint": self.endpoint,
            "run_service_account": ACCOUNT,
            "run_certs_url": self.certificates.url,
        }

    def close(self):
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._dispatcher.join(20)
        self._server.stop(0).wait(20)
        self._calls.shutdown(wait=False, cancel_futures=True)
        self.certificates.close()

    def hold(self):
        """Dispatch nothing from now on."""
        with self._changed:
            self._held = True

    def release(self):
        """Dispatch again."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def lose(self):
        """Forget all messages, also those whose call is under way: they are not repeated."""
        with self._changed:
            self._due.clear()
            self.messages.clear()

    # -- gRPC ----------------------------------------------------------------------------------------------------------

    def _methods(self):
        return {
            "CreateTask": grpc.unary_unary_rpc_method_handler(
                self._create, request_deserializer=CreateTaskRequest.deserialize, response_serializer=Task.serialize
            ),
            "GetQueue": grpc.unary_unary_rpc_method_handler(
                self._get_queue, request_deserializer=GetQueueRequest.deserialize, response_serializer=Queue.serialize
            ),
        }

    def _create(self, request, context):
        with self._changed:
            self.asked += 1
            while self.silent and context.is_active():
                self._changed.wait(0.02)
            broken, self.broken = self.broken, max(0, self.broken - 1)
        if self.away or broken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is away")
        task, now = request.task, time.time()
        due = task.schedule_time.timestamp() if task.schedule_time else now
        with self._changed:
            self.problems += _refused(request, due - now)
            message = Message(task, request.parent, due if self.on_time else now)
            self.messages.append(message)
            self._push(message)
        return Task(name=f"{request.parent}/tasks/{next(self._order)}", http_request=task.http_request)

    def _get_queue(self, request, context):
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is away")
        if not request.name.startswith("projects/demo/"):
            context.abort(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")
        return Queue(name=request.name, state=self.state)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def _push(self, message):
        heapq.heappush(self._due, (message.due, next(self._order), message))
        self._changed.notify_all()

    def _dispatch(self):
        with self._changed:
            while not self._closed:
                now = time.time()
                if self._held or not self._due:
                    self._changed.wait()
                elif self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now)
                else:
                    self._calls.submit(self._call, heapq.heappop(self._due)[-1])

    def _call(self, message):
        status = self._answer(message)
        with self._changed:
            message.answers.append(status)
            done = status is not None and 200 <= status < 300
            if not done and any(one is message for one in self.messages) and not self._closed:
                message.due = time.time() + min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** (len(message.answers) - 1))
                self._push(message)
            self._changed.notify_all()

    def _answer(self, message):
        request = message.task.http_request
        url, token = urlsplit(request.url), request.oidc_token
        signed = key().sign(claims(token.audience or request.url, email=token.service_account_email))
        headers = {
            "Authorization": f"Bearer {signed}",
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": message.queue.rpartition("/")[2],
            "X-CloudTasks-TaskRetryCount": str(len(message.answers)),
            "Content-Length": "0",
        }
        connection = http.client.HTTPConnection(url.netloc, timeout=message.task.dispatch_deadline.total_seconds())
        try:
            connection.request("POST", url.path + (f"?{url.query}" if url.query else ""), headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _refused(request, ahead):
    """What is wrong with a message ("Method: projects.locations.queues.tasks.create", REST reference)."""
    task = request.task
    wrong = []
    if not 15 <= task.dispatch_deadline.total_seconds() <= 1800:
        wrong.append(f"dispatch_deadline is {task.dispatch_deadline}")
    if task.http_request.http_method != HttpMethod.POST or not urlsplit(task.http_request.url).netloc:
        wrong.append(f"no call: {task.http_request}")
    if ahead > 30 * 86_400:
        wrong.append(f"schedule_time is {ahead} s ahead")
    if task.name:
        wrong.append(f"named {task.name}")
    return wrong
