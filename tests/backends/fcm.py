"""A stand-in for FCM's HTTP v1 API, which firebase-admin itself talks to: answers by script, checks every message.

``python -m tests.backends.fcm --port 9099 --log pushes.jsonl`` serves one by hand, and writes a line for each message;
``--lean`` only counts them, for measuring. What it has counted is at ``GET /``.
"""

import argparse
import contextlib
import itertools
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "fcm_v1_message.json").read_text("utf-8"))
PATH = "/v1/projects/{project}/messages:send"


def error(code, status, fcm=None, *, message="m", headers=None, details=()):
    """An error as FCM words it: the HTTP status, the canonical one, and FCM's own code if it has one."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    own = [{"@type": kind, "errorCode": fcm}] if fcm else []
    body = {"error": {"code": code, "status": status, "message": message, "details": [*own, *details]}}
    return code, json.dumps(body), "application/json", headers or {}


class Raw(tuple):
    """An answer that is no JSON: status, body, content type."""

    def __new__(cls, code, body, content_type="text/html", headers=None):
        return super().__new__(cls, (code, body, content_type, headers or {}))


def over_quota(**headers):
    """What is answered when a project has used up its quota (github.com/firebase/firebase-admin-go/issues/719)."""
    limits = {"quota_limit": "SendsPerMinutePerProject", "quota_unit": "1/min/{project}", "consumer": "projects/1"}
    reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "metadata": limits}
    message = (
        "Quota exceeded for quota metric 'Send requests' and limit 'Send requests per minute' of service "
        "'fcm.googleapis.com' for consumer 'project_number:1'."
    )
    return error(429, "RESOURCE_EXHAUSTED", message=message, headers=headers, details=[reason])


DROP = "drop"  # the message was read, and the connection is closed without an answer


class FcmStandIn:
    """What was asked of it, and what it answers.

    :param log: a file that gets a line of JSON for each message.
    :param lean: check and keep nothing of the messages, only count them.
    :param quota: after so many messages, everything is refused for so many seconds, once: (messages, seconds).
    """

    def __init__(self, port=0, *, log=None, lean=False, quota=None):
        self.messages = []  # as they came, with "at" and "to"
        self.problems = []  # what no published message has
        self.most_at_once = 0
        self.answers = {}  # by address, or None for all: a list of answers, the last one for ever
        self.before = lambda message: None  # called before the answer
        self._at_once = 0
        self._told = threading.Condition()  # protects all of this
        self._ids = itertools.count(1)
        self._log = log
        self._lean = lean
        self._quota, self._refusing_until = quota, 0.0
        self._counted = Counter()
        self._told_apart = set()
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536
            disable_nagle_algorithm = True  # without these two: 23 messages a second

            def log_message(self, *args):
                """Be quiet."""

            def do_POST(self):
                stand_in._serve(self)

            def do_GET(self):
                with stand_in._told:
                    counted = {**stand_in._counted, "most_at_once": stand_in.most_at_once}
                    counted["told_apart"] = len(stand_in._told_apart)
                stand_in._reply(self, 200, json.dumps(counted), "application/json", {})

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                """A client that was killed."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, *answers, to=None):
        """Have an address, or all, answered so: one after the other, the last one from then on; None means success."""
        with self._told:
            self.answers[to] = list(answers)

    def sent_to(self, address):
        """The messages for an address."""
        with self._told:
            return [one["message"] for one in self.messages if one["to"] == address]

    def counts(self):
        """How many messages each address was sent."""
        with self._told:
            return Counter(one["to"] for one in self.messages)

    def wait_for(self, found, timeout=20):
        """Wait until ``found(stand_in)``."""
        with self._told:
            assert self._told.wait_for(lambda: found(self), timeout), self.messages
        return self

    def _serve(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        message = body.get("message", {})
        to = message.get("fid") or message.get("token")
        with self._told:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if not self._lean:
                self.problems += check(body)
            if not handler.path.startswith("/v1/projects/") or not handler.headers.get("Authorization"):
                self.problems.append(f"asked for {handler.path} without a token")
        try:
            self.before(message)
            with self._told:
                scripted = self.answers.get(to) or self.answers.get(None)
                answer = (scripted.pop(0) if len(scripted) > 1 else scripted[0]) if scripted else self._by_quota()
                self._record(body, message, to)
            if answer == DROP:
                handler.close_connection = True
                return
            if answer is None:
                name = f"projects/p/messages/{next(self._ids)}"
                answer = (200, json.dumps({"name": name}), "application/json", {})
            self._reply(handler, *answer)
        finally:
            with self._told:
                self._at_once -= 1
                self._told.notify_all()

    def _by_quota(self):
        """A refusal while the quota is used up, None otherwise."""
        if self._quota is None:
            return None
        most, seconds = self._quota
        now = time.monotonic()
        if self._counted["messages"] == most and not self._refusing_until:
            self._refusing_until = now + seconds
        if now >= self._refusing_until:
            return None
        self._counted["refused"] += 1
        return over_quota(**{"Retry-After": str(seconds)})

    def _record(self, body, message, to):
        if self._lean:
            if time.monotonic() >= self._refusing_until:
                self._counted["messages"] += 1
                self._told_apart.add((to, message.get("data", {}).get("request_id")))
            return
        self.messages.append({"at": time.time(), "to": to, "message": message, "dry": body.get("validate_only", False)})
        if self._log is not None:
            with self._log.open("a") as file:
                print(json.dumps(self.messages[-1]), file=file)
        self._told.notify_all()

    def _reply(self, handler, code, body, content_type, headers):
        data = body.encode()
        handler.send_response(code)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


def check(body):
    """What in a request the published schema has not."""
    problems = _check(body, "SendMessageRequest", "")
    message = body.get("message", {})
    targets = [key for key in ("token", "fid", "topic", "condition") if key in message]
    if len(targets) != 1:
        problems.append(f"message goes to {targets}")
    size = _size({"n": message.get("notification"), "d": message.get("data")})
    if size > 4096:
        problems.append(f"message has {size} bytes")
    apple = message.get("apns", {}).get("payload")
    if apple is not None:
        # What Apple is given: the alert in `aps`, the data beside it ("Generating a remote notification").
        shown = {"alert": message["notification"]} if "notification" in message else {}
        size = _size({**message.get("data", {}), **apple, "aps": {**apple.get("aps", {}), **shown}})
        if size > 4096:
            problems.append(f"Apple's payload has {size} bytes")
    return problems


def _size(value):
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _check(value, kind, where):
    if kind.startswith("["):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        return [problem for one in value for problem in _check(one, kind[1:-1], where)]
    if kind == "map<string>":
        good = isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)
        return [] if good else [f"{where} is no mapping of texts: {value!r}"]
    if kind in SCHEMA["types"]:
        if not isinstance(value, dict):
            return [f"{where} is no {kind}"]
        fields, problems = SCHEMA["types"][kind], []
        for name, one in value.items():
            if name not in fields:
                problems.append(f"{where}.{name}: {kind} has no such field")
            else:
                problems += _check(one, fields[name], f"{where}.{name}")
        return problems
    if kind.startswith("enum:"):
        return [] if str(value).upper() in kind[5:].split("|") else [f"{where} is {value!r}"]
    if kind == "duration":
        good = isinstance(value, str) and value.endswith("s") and value[:-1].replace(".", "", 1).isdigit()
        return [] if good else [f"{where} is no duration: {value!r}"]
    known = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "any": object, "object": dict}
    return [] if isinstance(value, known[kind]) else [f"{where} is no {kind}: {value!r}"]


def main():
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9099)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--lean", action="store_true")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each answer takes")
    parser.add_argument("--quota", type=int, nargs=2, metavar=("MESSAGES", "SECONDS"))
    asked = parser.parse_args()
    stand_in = FcmStandIn(asked.port, log=asked.log, lean=asked.lean, quota=asked.quota)
    if asked.latency:
        stand_in.before = lambda message: time.sleep(asked.latency)
    print(f"BGTASKS_FCM_ENDPOINT={stand_in.url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
