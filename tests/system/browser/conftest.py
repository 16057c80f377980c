"""A server, a network before it, and a browser before that; each of them can be ill-treated alone."""

import contextlib
import json
import os
import signal
import subprocess
import urllib.parse
import uuid
from collections import Counter

import httpx
import pytest

from tests.backends.cdp import Browser
from tests.backends.chromium import PersistentBrowser, faultless, launch_options
from tests.backends.network import Network
from tests.support.processes.gunicorn_server import gunicorn
from tests.support.waiting import PATIENCE, until

THREADS = 24  # half of them for streams
APP = "from tests.system.browser.served import make_app\napp = make_app({folder!r}, **{settings!r})\n"
OUTCOMES = "[...document.querySelectorAll('#outcomes li')].map((li) => li.textContent)"


EVERY = 0.02
"""Seconds between two questions to a page or a server: each costs it something."""


class Site:
    """The app under test in a server of its own; `port` is where it is now."""

    def __init__(self, folder, *, code=None, **settings):
        self._folder = folder
        self._code = code or APP.format(folder=str(folder), settings=settings)
        self._running = contextlib.ExitStack()
        self.start()

    def start(self):
        """Start it, also again after it was killed: with the tasks that it had, on another port."""
        self._server = self._running.enter_context(gunicorn(self._folder, self._code, "--threads", str(THREADS)))
        self.port = self._server.port

    def kill(self):
        """The machine goes: the master and its worker, at once."""
        workers = subprocess.run(
            ["pgrep", "-P", str(self._server.process.pid)], capture_output=True, text=True, check=False
        )
        for pid in [self._server.process.pid, *map(int, workers.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.process.wait(PATIENCE)

    def close(self):
        self._running.close()

    def get(self, path):
        headers = {"Accept": "application/json"}
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=PATIENCE).json()

    def let(self, gate, step):
        """Let step number `step` of the tasks of this gate end."""
        (self._folder / "gates" / f"{gate}.{step}").touch()

    def finish(self, gate):
        for step in (1, 2, 3):
            self.let(gate, step)

    def open_streams(self):
        return self.get("/tasks/health")["streams"]["open"]

    def has_ended(self, request_id):
        """Wait until the server has the outcome; the task."""
        return until(lambda: (task := self.get(f"/tasks/{request_id}"))["done"] and task, every=EVERY)

    def made(self, gate):
        """How many tasks of this gate there have been."""
        log = self._folder / "made.log"
        return log.read_text().split().count(gate) if log.exists() else 0

    def senders(self, gate):
        """With whose cookies work of this gate was sent."""
        log = self._folder / "sent.log"
        sent = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return [user for user, of in sent if of == gate]

    def history(self, request_id):
        """The numbers of all its events."""
        return [event["seq"] for event in self.get(f"/tasks/{request_id}/events")["events"]]


class Visit:
    """A page of the app, as its user sees it. Over Playwright or over plain CDP: both pages know these words."""

    def __init__(self, page):
        self.page = page

    def submit(self, path="/work", **body):
        """Submit, as far as being stored on the device."""
        self.page.evaluate(f"submit({json.dumps(path)}, {json.dumps(body)})")

    def accepted(self):
        """Wait for the request id of what was submitted last."""
        return self.page.evaluate("task.accepted")

    def wait_for(self, expression, *, seconds=PATIENCE):
        """Ask again and again until it is true. Not Playwright's own: that takes a promise for true."""
        try:
            return until(lambda: self.page.evaluate(expression), seconds, every=EVERY)
        except AssertionError:
            raise AssertionError(f"it never became so: {expression}\n{self.state()}") from None

    def state(self):
        """All that the page knows, for whoever has to find out why a test failed."""
        said = self.page.evaluate("client.records().then((records) => ({ channels, recovered, settled, records }))")
        return json.dumps({"visibility": self.page.evaluate("document.visibilityState"), **said}, indent=1)

    def sees_step(self, name):
        self.wait_for(f"document.getElementById('step').textContent.startsWith({json.dumps(name)})")

    def sees_channel(self, name):
        self.wait_for(f"document.getElementById('channel').textContent === {json.dumps(name)}")

    def sees_outcome(self, text="a lesson"):
        self.wait_for(
            f"[...document.querySelectorAll('#outcomes li')].some((li) => li.textContent === {json.dumps(text)})"
        )

    def outcomes(self):
        return self.page.evaluate("[...document.querySelectorAll('#outcomes li')].map((li) => li.textContent)")

    def has_nothing_to_do(self):
        """Wait until all is told and reported; then ask once more, as a wake-up does."""
        over = "client.records().then((all) => all.every(({state}) => ['acked', 'rejected', 'gone'].includes(state)))"
        self.wait_for(over)
        self.page.evaluate("client.checkPending('the test')")
        self.wait_for(over)

    def hears(self, request_id, *, more_than):
        """Wait until a loop over the task was given so many events."""
        self.wait_for(f"heard[{json.dumps(request_id)}]?.length > {more_than}")

    def heard(self, request_id):
        """Wait until a loop over the task has ended; the numbers of the events that it was given."""
        self.wait_for(f"heard[{json.dumps(request_id)}]?.over")
        return self.page.evaluate(f"heard[{json.dumps(request_id)}].map(({{ seq }}) => seq)")


class User:
    """Who has several pages of the app open in one browser. `announced` is what they were told, on whichever page."""

    def __init__(self, context):
        self.announced = []
        self.enter(context)

    def enter(self, context):
        self.context = context
        context.expose_function("announce", lambda news: self.announced.append(news))

    def visit(self, network, **options):
        return visit(self.context.new_page(), network, **options)

    def told(self):
        """How often which task was announced."""
        return Counter(news.get("requestId") for news in self.announced)


def visit(page, network, *, without="", **options):
    """Open the app, with a client that is in a hurry unless it is told otherwise.

    :param without: what the page has to go without: ``storage`` or ``room``; see page.html.
    """
    options = {"pollInterval": 200, "monitorInterval": 500, "stallAfter": 2000, **options}
    page.goto(f"{network.url}/?without={without}&options={urllib.parse.quote(json.dumps(options))}")
    visit = Visit(page)
    visit.wait_for("document.body.dataset.ready")
    return visit


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A server for all tests of this folder. None may kill it: see `mortal_site`."""
    with contextlib.closing(Site(tmp_path_factory.mktemp("site"))) as site:
        yield site


@pytest.fixture
def mortal_site(tmp_path):
    """A server of this test's own, which it may kill."""
    with contextlib.closing(Site(tmp_path)) as site:
        yield site


@pytest.fixture
def network(site):
    with Network(site.port) as network:
        yield network


@pytest.fixture
def gate(site):
    """A name that nobody waits at yet. In the end everybody may pass."""
    gate = uuid.uuid4().hex
    yield gate
    site.finish(gate)
    site.let(gate, "hanging")


@pytest.fixture(scope="module")
def playwright():
    """For one module, not longer: it leaves an event loop running in the thread, and `asyncio.run` refuses to work."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright):
    browser = playwright.chromium.launch(**launch_options())
    yield browser
    browser.close()


@pytest.fixture
def user(chromium):
    """A user with an empty browser."""
    with faultless(chromium.new_context()) as context:
        yield User(context)


@pytest.fixture
def device(playwright, tmp_path):
    """A browser that can be killed and started again."""
    with contextlib.closing(PersistentBrowser(playwright, tmp_path / "profile")) as device:
        yield device


@pytest.fixture
def plain_browser(tmp_path):
    """A browser without Playwright: its pages can be hidden and frozen, and the device can sleep."""
    with Browser(tmp_path / "profile") as browser:
        yield browser
