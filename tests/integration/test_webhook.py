"""Webhooks: signed, each target on its own, over real HTTP."""

import base64
import json
import socket
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Backoff, ConfigurationError, WebhookTarget, hookimpl
from flask_bgtasks.core.notifications import Message
from flask_bgtasks.delivery import sink_worker as worker_module
from flask_bgtasks.runtime.log_lines import one_line
from flask_bgtasks.settings import Settings
from flask_bgtasks.sinks import cooldown as resting_module
from flask_bgtasks.sinks import safe_http as outbound_module
from flask_bgtasks.sinks import webhook as webhook_module
from flask_bgtasks.stores.memory.store import MemoryStore
from tests.support.sinks.contexts import context_of
from tests.support.waiting import PATIENCE, until

standardwebhooks = pytest.importorskip("standardwebhooks")

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()


class Customer:
    """A receiver, which checks what it gets with the scheme's own library."""

    def __init__(self):
        self.taken, self.ids, self.tries = [], [], 0
        self.answers = []
        self.secret = SECRET
        self.told = threading.Condition()
        customer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                """Be quiet."""

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with customer.told:
                    customer.tries += 1
                    customer.ids.append(self.headers["webhook-id"])
                    status, headers = customer.answers.pop(0) if customer.answers else (204, {})
                    if status < 300:
                        verifier = standardwebhooks.Webhook(customer.secret)
                        customer.taken.append(verifier.verify(body, dict(self.headers)))
                    customer.told.notify_all()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?key=hidden"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def wait_for(self, found):
        with self.told:
            assert self.told.wait_for(found, PATIENCE), (self.taken, self.tries)


@pytest.fixture
def customer():
    made = Customer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(webhook_module, "SCHEDULE", (0.0, 0.0, 0.0))
    monkeypatch.setattr(webhook_module, "PAUSES", Backoff(0))
    made = []

    @contextmanager
    def build(*webhooks, plugin=None, **settings):
        app = Flask("studio", instance_path=str(tmp_path))
        bgtasks = BackgroundTasks()
        if plugin is not None:
            bgtasks.register(plugin)

        @bgtasks.task(name="work")
        def work(fail=False):
            if fail:
                raise ValueError("no paper")
            return {"text": "secret result"}

        given = {"store": "memory://", "sinks": ["webhook"], "private_targets": ["127.0.0.0/8"], **settings}
        bgtasks.init_app(app, webhooks=list(webhooks), **given)
        app.work = work
        made.append(app)
        yield app

    yield build
    for app in made:
        app.extensions["bgtasks"].close(grace=5)


def run(app, **kwargs):
    with app.app_context():
        handle = app.work.submit(owner="anna", **kwargs)
        handle.wait_until_done(timeout=PATIENCE)
    return handle.request_id


def settled(app):
    store, pause = app.extensions["bgtasks"].store, threading.Event()
    for _ in range(1000):
        if store.stats().deliveries_pending == 0:
            return store
        pause.wait(0.01)
    raise AssertionError("still pending")


def test_the_end_of_a_task_is_told_signed_and_without_its_result(make, customer):
    with make({"url": customer.url, "secret": SECRET}) as app:
        request_id = run(app)
        customer.wait_for(lambda: customer.taken)

        (message,) = customer.taken
        assert message["type"] == "task.completed"
        assert message["data"]["request_id"] == request_id
        assert message["data"]["status"] == "completed"
        assert message["data"]["owner_uid"] == "anna"
        assert "secret result" not in json.dumps(message)
        settled(app)
        assert customer.tries == 1


def test_a_target_gets_what_it_asks_for(make, customer):
    with make({"url": customer.url, "secret": SECRET, "events": ["accepted", "failed"], "names": ["work"]}) as app:
        run(app)
        run(app, fail=True)
        settled(app)

    assert [message["type"] for message in customer.taken] == ["task.accepted", "task.accepted", "task.failed"]


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_what_is_not_taken_is_tried_again_under_the_same_id(make, customer, status):
    customer.answers = [(status, {}), (status, {})]
    with make({"url": customer.url, "secret": SECRET}) as app:
        run(app)
        settled(app)

    assert len(customer.taken) == 1
    assert len(set(customer.ids)) == 1
    assert customer.tries == 3


def test_what_is_never_taken_is_a_letter_that_shows_no_secret(make, customer):
    customer.answers = [(500, {})] * 10
    with make({"url": customer.url, "secret": SECRET}) as app:
        run(app)
        (letter,) = settled(app).dead_deliveries()

    assert "answered 500, as in 3 tries before" in letter.error
    assert "/hook" not in letter.error
    assert "hidden" not in letter.error
    assert "whsec_" not in json.dumps(letter.payload)


def test_a_target_that_is_gone_is_not_asked_again(make, customer):
    customer.answers = [(410, {})]
    with make({"url": customer.url, "secret": SECRET}) as app:
        run(app)
        (letter,) = settled(app).dead_deliveries()

    assert "410" in letter.error
    assert customer.tries == 1


def test_one_target_that_is_down_holds_up_no_other(make, customer, monkeypatch):
    monkeypatch.setattr(webhook_module, "SCHEDULE", (3600.0,))
    down = {"url": "http://127.0.0.1:9/", "secret": SECRET}
    with make(down, {"url": customer.url, "secret": SECRET}) as app:
        ids = [run(app) for _ in range(10)]
        customer.wait_for(lambda: len(customer.taken) == 10)

        assert {message["data"]["request_id"] for message in customer.taken} == set(ids)
        store, pause = app.extensions["bgtasks"].store, threading.Event()
        while store.stats().deliveries_pending > 10:  # the last one that was taken is about to be settled
            pause.wait(0.01)
        assert store.stats().deliveries_pending == 10


def put_off(app, count):
    """Wait until this many messages are pending, and none is due within the next minutes."""
    store, pause = app.extensions["bgtasks"].store, threading.Event()
    for _ in range(1000):
        owed = [delivery for delivery, _ in store._deliveries.values()]
        if len(owed) == count and all((one.due_at - store.now()).total_seconds() > 300 for one in owed):
            return owed
        pause.wait(0.01)
    raise AssertionError(owed)


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_that_a_target_wants_is_kept_for_all_that_it_is_owed(make, customer, status):
    customer.answers = [(status, {"Retry-After": "3600"})]
    with make({"url": customer.url, "secret": SECRET}) as app:
        run(app)
        put_off(app, 1)
        run(app)
        owed = put_off(app, 2)

    assert customer.tries == 1
    assert sorted(delivery.tries for delivery in owed) == [0, 1]


def test_a_pause_that_one_target_wants_is_not_anothers(make, customer):
    customer.answers = [(429, {"Retry-After": "3600"})]
    other = customer.url.replace("/hook", "/other")
    with make({"url": customer.url, "secret": SECRET}, {"url": other, "secret": SECRET}) as app:
        run(app)
        customer.wait_for(lambda: customer.tries == 2)
        put_off(app, 1)
        run(app)
        customer.wait_for(lambda: len(customer.taken) == 2)
        put_off(app, 2)

    assert customer.tries == 3


def test_when_a_pause_is_over_one_message_finds_out_and_then_all_go(make, customer, monkeypatch):
    monkeypatch.setattr(resting_module, "PROBE_SECONDS", 1.0)
    customer.answers = [(429, {"Retry-After": "1"})]
    with make({"url": customer.url, "secret": SECRET}) as app:
        ids = [run(app) for _ in range(5)]
        settled(app)

    assert {message["data"]["request_id"] for message in customer.taken} == set(ids)


@pytest.fixture
def hole():
    """Takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def test_a_target_that_hangs_costs_one_deadline_and_holds_up_no_other(make, customer, hole, monkeypatch):
    monkeypatch.setattr(webhook_module, "PAUSES", Backoff(3600, 3600))
    post = outbound_module.GuardedClient.post

    def impatient(client, url, **given):  # with the one that hangs alone: on a busy machine an answer takes its time
        return post(client, url, **given, **({"seconds": 1.0} if url == hole else {}))

    monkeypatch.setattr(outbound_module.GuardedClient, "post", impatient)
    with make({"url": hole, "secret": SECRET}, {"url": customer.url, "secret": SECRET}) as app:
        ids = [run(app) for _ in range(40)]
        customer.wait_for(lambda: len(customer.taken) == 40)
        owed = put_off(app, 40)

    assert {message["data"]["request_id"] for message in customer.taken} == set(ids)
    # Those that were under way when it was not known yet.
    assert 1 <= sum(delivery.tries for delivery in owed) <= Settings().push_concurrency


@pytest.mark.parametrize("knows", [SECRET, NEW])
def test_while_a_secret_is_replaced_both_are_good(make, customer, knows):
    customer.secret = knows
    with make({"url": customer.url, "secret": [NEW, SECRET]}) as app:
        run(app)
        customer.wait_for(lambda: customer.taken)


def test_two_targets_at_one_address_are_each_told_what_they_want(make, customer):
    other = {"url": customer.url, "secret": SECRET, "events": ["accepted"]}
    with make(other, {"url": customer.url, "secret": SECRET, "names": ["work"]}) as app:
        run(app)
        settled(app)

    assert sorted(message["type"] for message in customer.taken) == ["task.accepted", "task.completed"]


def test_what_is_owed_reaches_its_target_though_it_wants_other_events_by_now():
    before = WebhookTarget("https://customer.example/hook", SECRET)
    now = WebhookTarget("https://customer.example/hook", NEW, events=["failed"])
    sink = webhook_module.WebhookSink([now], outbound_module.GuardedClient())
    message, context = Message(f"webhook:{before.id}", {"to": before.id}), context_of(MemoryStore())

    assert before.id != now.id
    assert sink._found(message, context) is now
    two = webhook_module.WebhookSink(
        [now, WebhookTarget(now.url, SECRET, names=["a"])], outbound_module.GuardedClient()
    )
    assert two._found(message, context) is None  # whose it was nobody knows


def test_a_targets_address_shows_no_path_where_its_secret_may_be():
    target = WebhookTarget("https://hooks.example/T0/secret?key=secret", SECRET)

    assert target.shown == f"https://hooks.example ({target.id})"
    assert "secret" not in repr(target)


class Customers:
    """An app's own customers, each with an address of their own."""

    def __init__(self, url):
        self.url = url

    @hookimpl
    def bgtasks_webhook_targets(self, task):
        return [WebhookTarget(self.url, SECRET)] if task.owner == "anna" and self.url else []


def test_an_app_names_the_targets_of_its_customers(make, customer):
    with make(plugin=Customers(customer.url)) as app:
        run(app)
        customer.wait_for(lambda: customer.taken)


def test_a_customer_who_left_is_told_nothing_more(make, customer):
    customers = Customers(customer.url)
    customer.answers = [(500, {})]
    with make(plugin=customers) as app:
        run(app)
        customer.wait_for(lambda: customer.tries == 1)
        customers.url = None
        store = settled(app)

        assert store.dead_deliveries() == []
    assert customer.taken == []


def test_a_customers_address_in_our_own_network_is_not_called(make, customer):
    with make(plugin=Customers(customer.url), private_targets=[]) as app:
        run(app)
        (letter,) = settled(app).dead_deliveries()

    assert "not public" in letter.error
    assert customer.tries == 0


def test_a_target_that_is_there_already_is_named_at_the_start(make):
    one = {"url": "https://example.com/secret", "secret": SECRET, "events": ["completed", "failed"]}
    with (
        pytest.raises(ConfigurationError, match="number 3 has the url, events and names of number 1") as refused,
        make(one, {"url": "https://example.com", "secret": SECRET}, {**one, "events": ["failed", "completed"]}),
    ):
        pass

    assert "/secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("https://example.com", 'expected {"url": "https://…", "secret": "whsec_…"}'),
        ({"url": "https://example.com"}, "secret"),
        ({"url": "https://example.com", "secret": "hunter2"}, "whsec_"),
        ({"url": "https://example.com", "secret": SECRET, "event": ["failed"]}, "there is no 'event'"),
        ({"url": "https://example.com", "secret": SECRET, "events": ["done"]}, "no such event 'done'"),
        ({"url": "https://me:you@example.com", "secret": SECRET}, "a user name in it"),
    ],
)
def test_a_wrong_target_is_named_at_the_start(make, given, wanted):
    with pytest.raises(ConfigurationError, match="BGTASKS_WEBHOOKS: number 1") as refused, make(given):
        pass

    assert wanted in str(refused.value)
    assert "hunter2" not in str(refused.value)


# -- receivers that answer what no server should -----------------------------------------------------------------------


ODD_ANSWERS = {
    "a NUL": b"HTTP/1.1 \x00 nothing\r\n\r\n",
    "no status": b"HTTP/1.1\r\n\r\n",
    "escape sequences": b"HTTP/1.1 \x1b[2J\x1b[31m\r\n\r\n",
    "no HTTP": b"\x00\xff\xfe\x01" * 50,
    "Unicode digits": "HTTP/1.1 ٢٠٠ OK\r\n\r\n".encode(),
    "a long pause": b"HTTP/1.1 503 x\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n",
    "a pause that is none": "HTTP/1.1 503 x\r\nRetry-After: ²\r\n\r\n".encode("latin-1"),
    "a date that is none": b"HTTP/1.1 503 x\r\nRetry-After: Mon, 1 Jan " + b"9" * 30 + b" 00:00:00 GMT\r\n\r\n",
    "nothing": b"",
}


@pytest.fixture
def odd_receiver():
    """Takes one request at a time, and answers with some bytes; its address, and a function that says with which."""
    listener = socket.create_server(("127.0.0.1", 0))
    answers = [b""]

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answers[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/hook", lambda answer: answers.__setitem__(0, answer)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("store", ["memory", "postgresql"])
@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_a_delivery_is_settled_whatever_is_answered(make, odd_receiver, store, answer, request):
    url, answer_with = odd_receiver
    answer_with(answer)
    address = "memory://" if store == "memory" else request.getfixturevalue("new_postgresql_database")()

    with make({"url": url, "secret": SECRET}, store=address) as app:
        run(app)
        state = app.extensions["bgtasks"]

        def settled():
            state.deliveries.wake()
            made = state.store.dead_deliveries()
            return made or _tried(state.store)

        letter = until(settled)

    assert letter[0].error
    assert letter[0].error == one_line(letter[0].error)


def _tried(store):
    """Deliveries that were tried and put off, whose error is written down."""
    later = datetime.now(timezone.utc) + timedelta(days=3650)
    return [one for one in _all_deliveries(store) if one.tries and one.error and one.due_at < later]


def _all_deliveries(store):
    if hasattr(store, "_deliveries"):
        return [delivery for delivery, _ in store._deliveries.values()]

    def read(connection):
        from flask_bgtasks.stores.sql import rows

        names = ", ".join(rows.DELIVERY_FIELDS)
        found = connection.execute(f"SELECT {names} FROM bgtasks_deliveries").fetchall()
        return [rows.delivery(row) for row in found]

    return store._database.read(read)
