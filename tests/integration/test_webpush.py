"""Web Push without Firebase: encrypted and signed for a push service of the test's own, which decrypts and verifies."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, Backoff, ConfigurationError, Notification
from flask_bgtasks.core.devices import WEBPUSH, make_device
from flask_bgtasks.delivery import sink_worker as worker_module
from flask_bgtasks.sinks import webpush as webpush_module
from tests.backends import free_port

pytest.importorskip("pywebpush")

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02

from tests.support.waiting import PATIENCE

PRIVATE, PUBLIC = webpush_module.make_keys()


def text(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Browser:
    """A subscription: its keys, and what it can read."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.auth = b"a" * 16
        numbers = self.key.public_key().public_numbers()
        point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        self.keys = {"p256dh": text(point), "auth": text(self.auth)}

    def read(self, body):
        return json.loads(http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"))


class PushService:
    """Takes what is posted to it, by path."""

    def __init__(self):
        self.posted, self.answers = [], []
        self.told = threading.Condition()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                """Be quiet."""

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with service.told:
                    service.posted.append((self.path, dict(self.headers), body))
                    status, headers = service.answers.pop(0) if service.answers else (201, {})
                    service.told.notify_all()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def wait_for(self, found):
        with self.told:
            assert self.told.wait_for(found, PATIENCE), self.posted


@pytest.fixture
def service():
    made = PushService()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Studio:
    def __init__(self, folder, **settings):
        self.app = Flask("studio", instance_path=str(folder), root_path=str(folder))
        self.bgtasks = BackgroundTasks()
        self.told = Notification({"en": "Ready", "de": "Fertig"}, "Text", link="https://app.example/1")

        @self.bgtasks.task(name="work", notify=lambda task, result: self.told)
        def work():
            return {"text": "secret result"}

        self.work = work
        given = {"vapid_private_key": PRIVATE, "vapid_subject": "mailto:me@example.com", **settings}
        self.bgtasks.init_app(self.app, **{"store": "memory://", "sinks": ["webpush"], **given})
        self.state = self.app.extensions["bgtasks"]
        self.store = self.state.store

    def register(self, browser, **fields):
        made = make_device(WEBPUSH, browser.endpoint, owner="anna", details={"keys": browser.keys}, **fields)
        return self.store.save_device(made, max_devices=20)

    def run(self):
        with self.app.app_context():
            handle = self.work.submit(owner="anna")
            handle.wait_until_done(timeout=PATIENCE)
        return handle.request_id

    def settled(self):
        pause = threading.Event()
        for _ in range(1000):
            if self.store.stats().deliveries_pending == 0:
                return
            pause.wait(0.01)
        raise AssertionError("still pending")


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(webpush_module, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(webpush_module, "PAUSES", Backoff(0))
    made = []

    def build(**settings):
        made.append(Studio(tmp_path, **{"private_targets": ["127.0.0.0/8"], **settings}))
        return made[-1]

    yield build
    for studio in made:
        studio.state.close(grace=5)


def test_each_browser_can_read_its_own_message_and_knows_who_sent_it(make, service):
    studio = make()
    german, other = Browser(f"{service.url}/one"), Browser(f"{service.url}/two")
    studio.register(german, lang="de")
    studio.register(other)

    request_id = studio.run()
    studio.settled()

    found = {path: (headers, body) for path, headers, body in service.posted}
    assert set(found) == {"/one", "/two"}
    headers, body = found["/one"]
    message = german.read(body)
    shown = message["notification"]
    assert message["web_push"] == 8030
    assert (shown["title"], shown["body"], shown["lang"], shown["tag"]) == ("Fertig", "Text", "de", request_id)
    assert shown["navigate"] == shown["data"]["link"] == "https://app.example/1"
    assert shown["data"]["status"] == "completed"
    assert other.read(found["/two"][1])["notification"]["title"] == "Ready"
    assert headers["TTL"] == str(7 * 86400)
    assert headers["Urgency"] == "high"
    assert headers["Topic"] == request_id.replace("-", "")
    assert headers["Content-Encoding"] == "aes128gcm"
    assert Vapid02.verify(headers["Authorization"])
    assert f"k={PUBLIC}" in headers["Authorization"]
    claims = headers["Authorization"].split("t=")[1].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert claims["aud"] == service.url
    assert claims["sub"] == "mailto:me@example.com"


def test_without_a_link_it_is_for_the_service_worker(make, service):
    studio = make()
    studio.told = "Ready"
    browser = Browser(f"{service.url}/one")
    studio.register(browser)
    studio.run()
    studio.settled()

    message = browser.read(service.posted[0][2])

    assert "web_push" not in message
    assert message["notification"]["title"] == "Ready"


@pytest.mark.parametrize("character", ["x", "漢", "😀", '"'])
def test_what_is_too_long_is_cut(make, service, character):
    studio = make()
    studio.told = Notification(
        character * 3000, character * 9000, data={"own": "x" * 900}, link="https://app.example/1"
    )
    browser = Browser(f"{service.url}/one")
    studio.register(browser)
    studio.run()
    studio.settled()

    body = service.posted[0][2]
    assert len(body) <= 4096
    assert browser.read(body)["notification"]["title"].startswith(character)


def read(document):
    return json.loads(document)["notification"]


def test_the_apps_data_goes_before_the_text_is_cut():
    ours = {"request_id": "1" * 36, "status": "completed", "name": "x", "seq": "3", "attempt": "1"}
    data = {**ours, "big": "x" * 4000, "screen": "lesson"}
    told = Notification("Ready", "Your lesson", data=data, link="https://a.b/c")

    shown = read(webpush_module.content(told, None))

    assert (shown["title"], shown["body"]) == ("Ready", "Your lesson")
    assert shown["data"] == {**ours, "screen": "lesson", "link": "https://a.b/c"}
    assert shown["navigate"] == "https://a.b/c"


def test_a_link_that_a_push_service_would_not_take_is_left_out():
    told = Notification("Ready", "Your lesson", request_id="1" * 36, link="https://a.example/" + "x" * 5000)

    document = webpush_module.content(told, "de")

    assert len(document) <= webpush_module.MAX_BYTES
    assert read(document) == {"title": "Ready", "body": "Your lesson", "data": {}, "tag": "1" * 36, "lang": "de"}
    assert "web_push" not in json.loads(document)


@pytest.mark.parametrize("character", ["x", "é", "漢", "😀", '"', "\x01", "\ud83d"])
@pytest.mark.parametrize("link", [None, "https://a.example/1"])
def test_whatever_is_told_fits_and_is_filled(character, link):
    told = Notification(character * 300, character * 9000, data={"request_id": "1"}, link=link)

    document = webpush_module.content(told, None)

    assert webpush_module.MAX_BYTES - 20 < len(document) <= webpush_module.MAX_BYTES
    assert len(read(document)["title"]) > 10


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_is_gone_is_forgotten(make, service, status):
    studio = make()
    studio.register(Browser(f"{service.url}/one"))
    service.answers = [(status, {})]
    studio.run()
    studio.settled()

    assert studio.store.devices(owner="anna") == []
    assert studio.store.dead_deliveries() == []


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_what_no_later_try_can_change_is_a_letter(make, service, status):
    studio = make()
    studio.register(Browser(f"{service.url}/one"))
    service.answers = [(status, {})]
    studio.run()
    studio.settled()

    (letter,) = studio.store.dead_deliveries()
    assert f"answered {status}" in letter.error
    assert "/one" not in letter.error


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_until_it_does(make, service, status):
    studio = make()
    studio.register(Browser(f"{service.url}/one"))
    service.answers = [(status, {})] * 4
    studio.run()
    studio.settled()

    assert len(service.posted) == 5
    assert studio.store.dead_deliveries() == []


def test_a_subscription_that_wants_a_pause_holds_up_no_other(make, service):
    studio = make(push_concurrency=1)
    for number in range(3):
        studio.register(Browser(f"{service.url}/{number}"))
    service.answers = [(429, {"Retry-After": "3600"})]
    studio.run()
    service.wait_for(lambda: len(service.posted) == 3)

    assert len({path for path, _, _ in service.posted}) == 3


def put_off(studio, count):
    """Wait until this many messages are pending, and none is due within the next minutes."""
    pause = threading.Event()
    for _ in range(1000):
        owed = [delivery for delivery, _ in studio.store._deliveries.values()]
        if len(owed) == count and all((one.due_at - studio.store.now()).total_seconds() > 300 for one in owed):
            return owed
        pause.wait(0.01)
    raise AssertionError(owed)


def test_a_pause_for_one_subscription_is_kept_and_is_no_other_ones(make, service):
    studio = make(push_concurrency=1)
    for number in range(2):
        studio.register(Browser(f"{service.url}/{number}"))
    service.answers = [(429, {"Retry-After": "3600"})]
    studio.run()
    service.wait_for(lambda: len(service.posted) == 2)
    put_off(studio, 1)

    studio.run()
    owed = put_off(studio, 2)

    assert len(service.posted) == 3
    assert sorted(delivery.tries for delivery in owed) == [0, 1]


def test_a_push_service_that_wants_a_pause_is_left_alone_by_all_its_subscriptions(make, service):
    studio = make(push_concurrency=1)
    for number in range(3):
        studio.register(Browser(f"{service.url}/{number}"))
    service.answers = [(503, {"Retry-After": "3600"})]

    studio.run()
    owed = put_off(studio, 3)

    assert len(service.posted) == 1
    assert sorted(delivery.tries for delivery in owed) == [0, 0, 1]


def test_a_push_service_that_does_not_answer_is_left_alone_and_no_other(make, service, monkeypatch):
    monkeypatch.setattr(webpush_module, "PAUSES", Backoff(3600, 3600))
    studio = make(push_concurrency=1)
    for number in range(3):
        url = service.url if number else f"http://127.0.0.1:{free_port()}"
        studio.register(Browser(f"{url}/{number}"))

    studio.run()
    service.wait_for(lambda: len(service.posted) == 2)
    put_off(studio, 1)
    studio.run()
    service.wait_for(lambda: len(service.posted) == 4)
    owed = put_off(studio, 2)

    assert sorted(delivery.tries for delivery in owed) == [0, 1]


def test_a_subscription_that_leads_into_our_own_network_is_not_called(make, service):
    studio = make(private_targets=[])
    studio.register(Browser(f"{service.url}/one"))
    studio.run()
    studio.settled()

    (letter,) = studio.store.dead_deliveries()
    assert "not public" in letter.error
    assert service.posted == []


def test_a_browser_is_told_the_key_to_subscribe_with(make):
    studio = make()
    studio.bgtasks.owner_loader(lambda: "anna")

    answer = studio.app.test_client().get("/tasks/devices")

    assert answer.json["application_server_key"] == PUBLIC


def test_the_key_may_lie_in_a_file(make, tmp_path):
    made = Vapid02()
    made.generate_keys()
    (tmp_path / "vapid.pem").write_bytes(made.private_pem())

    studio = make(vapid_private_key="vapid.pem")

    assert studio.state.plugins.get("webpush").application_server_key == webpush_module._public(made)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"vapid_private_key": None}, "flask bgtasks vapid"),
        ({"vapid_private_key": "no-key"}, "neither a key in base64url nor a PEM file"),
        ({"vapid_subject": None}, "mailto:you@example.com"),
        ({"vapid_subject": "me"}, "mailto:you@example.com"),
    ],
)
def test_what_is_missing_is_named_at_the_start(make, given, wanted):
    with pytest.raises(ConfigurationError, match=wanted):
        make(**given)


def test_the_command_makes_a_pair_that_fits(tmp_path):
    app = Flask("new", instance_path=str(tmp_path))
    BackgroundTasks(app, store="memory://")

    found = app.test_cli_runner().invoke(args=["bgtasks", "vapid"])

    lines = dict(line.split("=", 1) for line in found.output.splitlines() if "=" in line)
    made = Vapid02.from_string(lines["BGTASKS_VAPID_PRIVATE_KEY"])
    assert webpush_module._public(made) in found.output
