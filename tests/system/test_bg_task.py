"""The web component: one line of HTML, every state of a task, by keyboard and to a screen reader."""

import threading

import pytest
from flask import Flask

from flask_bgtasks import BackgroundTasks, current_task, step
from tests.backends.wsgi import served
from tests.support.page_checks import complaints_of, look_at, total_shift

pytestmark = [pytest.mark.system, pytest.mark.slow]

HEAD = '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Test</title>'
HEAD += '<meta name="color-scheme" content="light dark"><style>html { background: Canvas }</style><main><h1>Test</h1>'
SCRIPT = '<script type="module" src="/tasks/bg-task.js"></script>'

# A client and a task of the test's own: every state can be had, and nothing happens by itself.
FAKE = """
  <script type="module">
    import '/tasks/bg-task.js';
    const view = { status: 'processing', seq: 5, attempt: 1, percentage: 40, output: '', chunks: [], cancelling: false,
      retrying: null, error: null, progress: { step: 'Write', step_number: 2, total_steps: 3, details: 'page 4',
        progress_percentage: 40, eta_seconds: 12.3, attempt: 1 },
      steps: [{ name: 'Read', number: 1, state: 'done', seconds: 1.24, restored: false, details: null },
        { name: 'Write', number: 2, state: 'running', seconds: null, restored: false, details: null }] };
    class FakeTask extends EventTarget {
      requestId = 't-1';
      view = view;
      cancel() { this.asked = 'cancel'; return Promise.resolve(); }
      retry() { this.asked = 'retry'; return Promise.resolve(); }
    }
    class FakeClient extends EventTarget {
      channel = 'stream';
      follow() { return window.task; }
    }
    Object.assign(window, { task: new FakeTask(), client: new FakeClient(), told: [] });
    window.element = document.querySelector('bg-task');
    for (const type of ['bg-task-change', 'bg-task-settled']) {
      document.addEventListener(type, (event) => told.push([type, event.detail.status ?? null]));
    }
    window.show = async (changes) => {
      task.view = { ...task.view, ...changes };
      task.dispatchEvent(new CustomEvent('change', { detail: null }));
      await new Promise((resolve) => { setTimeout(resolve, 40); });
    };
    element.client = client;
    element.setAttribute('request-id', 't-1');
  </script>
"""


@pytest.fixture
def gate():
    """Lets the work go on."""
    return threading.Event()


@pytest.fixture
def app(gate):
    app = Flask("app_under_test")
    extension = BackgroundTasks()

    @app.get("/<path:markup>")
    def page(markup):
        return HEAD + app.config["MARKUP"].get(markup, "") + "</main>"

    @extension.task(steps=["Read", "Write"])
    def work(fail_at_first):
        with step("Read"):
            current_task.emit("Once ")
            gate.wait(20)
            current_task.update()  # a cancelled task ends here
        with step("Write"):
            if fail_at_first and current_task.attempt == 1:
                raise ValueError("The ink is dry.")
        return {"made": "a lesson"}

    app.config["MARKUP"] = {}
    app.config["WORK"] = work
    extension.init_app(app, store="memory://", progress_interval=0.02, workers=4, show_errors=True)
    yield app
    gate.set()
    app.extensions["bgtasks"].close(grace=5)


@pytest.fixture
def submit(app):
    def submit(*, fail_at_first=False):
        with app.app_context():
            return app.config["WORK"].submit(fail_at_first).request_id

    return submit


@pytest.fixture
def url(app):
    with served(app) as server:
        yield server.url


@pytest.fixture
def show(app, url, blank):
    """Opens a page with this markup."""

    def show(markup):
        app.config["MARKUP"]["p"] = markup
        blank.goto(f"{url}/p")
        return blank

    return show


@pytest.fixture
def fake(show):
    """The component with a client of the test's own, in the middle of a task."""
    page = show('<bg-task steps="Read, Write, Draw"></bg-task>' + FAKE)
    page.wait_for_function("element.shadowRoot?.querySelector('#title').textContent === 'At work'")
    return page


def change(page, **changes):
    page.evaluate("changes => show(changes)", changes)


def text(page, part):
    return page.evaluate("part => element.shadowRoot.querySelector(`#${part}`).textContent", part)


# -- with a server -------------------------------------------------------------------------------------------------


def test_one_line_of_html_shows_a_task_to_its_end(show, submit, gate):
    page = show(f'{SCRIPT}<bg-task request-id="{submit()}"></bg-task>')

    page.get_by_text("Step 1 of 2").first.wait_for()
    gate.set()
    page.get_by_text("Done", exact=True).first.wait_for()

    assert page.get_by_role("progressbar", name="Done").get_attribute("aria-valuenow") == "100"
    assert page.get_by_role("listitem").all_inner_texts()[0].startswith("Read\n(done)")
    assert page.get_by_role("button").count() == 0


def test_a_task_is_cancelled_and_tried_again_by_keyboard(show, submit, gate):
    page = show(f'{SCRIPT}<bg-task request-id="{submit()}"></bg-task>')
    focused = "document.querySelector('bg-task').shadowRoot.activeElement?.id"

    page.get_by_text("Step 1 of 2").first.wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancelling …").wait_for()
    assert page.evaluate(focused) == "cancel"
    gate.set()
    page.get_by_text("Cancelled", exact=True).first.wait_for()
    page.wait_for_function(f"{focused} === 'retry'")
    page.keyboard.press("Enter")

    page.get_by_text("Done", exact=True).first.wait_for()
    assert page.evaluate(focused) == "title"


def test_a_failure_says_why_and_can_be_tried_again(show, submit, gate):
    gate.set()
    page = show(f'{SCRIPT}<bg-task request-id="{submit(fail_at_first=True)}"></bg-task>')

    page.get_by_text("The ink is dry.").first.wait_for()
    assert page.evaluate("document.querySelector('bg-task').dataset.status") == "failed"
    page.get_by_role("button", name="Try again").click()

    page.get_by_text("Done", exact=True).first.wait_for()
    assert page.locator("#subtitle").inner_text() == "resumed, attempt 2"
    assert page.locator("#error").is_hidden()


def test_two_elements_of_a_page_share_one_client(show, submit):
    one, other = submit(), submit()
    page = show(
        f'{SCRIPT}<bg-task request-id="{one}"></bg-task><bg-task request-id="{other}"></bg-task>'
        "<script type='module'>import { clientFor } from '/tasks/bg-task.js'; window.shared = clientFor();</script>"
    )
    page.wait_for_function("window.shared")

    assert page.evaluate("[...document.querySelectorAll('bg-task')].every((element) => element.client === shared)")
    page.wait_for_function("shared.channel === 'stream'")


def test_a_task_that_was_only_just_submitted_is_shown_without_an_id(show, app, gate):
    gate.set()
    page = show(
        "<bg-task></bg-task><script type='module'>import { clientFor } from '/tasks/bg-task.js';"
        "document.querySelector('bg-task').task = window.task = await clientFor().submit('/nowhere', {});</script>"
    )

    page.get_by_text("Not accepted").first.wait_for()


def test_a_task_that_was_handed_over_is_shown_by_its_own_client(show):
    page = show(
        f"{SCRIPT}<bg-task></bg-task><script type='module'>import {{ BackgroundTasks }} from '/tasks/client.js';"
        "window.mine = new BackgroundTasks({ tabs: 'alone' });"
        "document.querySelector('bg-task').task = await mine.submit('/nowhere', {}); window.shown = true;</script>"
    )
    page.wait_for_function("window.shown")

    assert page.evaluate("document.querySelector('bg-task').client === mine")


def test_an_element_without_a_task_makes_no_client(show):
    """A second one in the page might lead, without what the app has given to its own."""
    page = show(
        "<script>window.made = []; const Channel = BroadcastChannel;"
        "window.BroadcastChannel = class extends Channel { constructor(name) { super(name); made.push(name); } };"
        "</script>"
        f"{SCRIPT}<bg-task></bg-task><script type='module'>import {{ clientFor }} from '/tasks/bg-task.js';"
        "await customElements.whenDefined('bg-task');"
        "requestAnimationFrame(() => requestAnimationFrame(() => { window.before = made.length; clientFor(); }));"
        "</script>"
    )
    page.wait_for_function("made.length")

    assert (page.evaluate("before"), page.evaluate("made.length")) == (0, 1)


def test_steps_may_be_a_text_also_as_a_property_as_react_and_vue_set_it(show):
    page = show(f"{SCRIPT}<bg-task></bg-task>")
    page.evaluate("customElements.whenDefined('bg-task')")

    found = page.evaluate(
        "[['Outline, Write'], [['Read, aloud']], [null]].map(([steps]) =>"
        " Object.assign(document.querySelector('bg-task'), { steps }).steps)"
    )

    assert found == [["Outline", "Write"], ["Read, aloud"], []]


@pytest.mark.parametrize("given", ["../sample?x=", "x0,x1", "a/b?c", ".."])
def test_what_is_no_id_is_asked_for_nowhere_and_shown_as_no_task(show, given):
    asked, said = [], []
    page = show(SCRIPT)
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.wait_for_function("Boolean(customElements.get('bg-task'))")

    page.evaluate(
        "(given) => { const made = document.createElement('bg-task'); made.setAttribute('request-id', given);"
        "document.querySelector('main').append(made); }",
        given,
    )

    page.get_by_text("No longer there").first.wait_for()
    assert page.get_by_role("button").count() == 0
    assert [text for text in said if "expected the id of a task, a UUID like" in text]
    assert not [url for url in asked if url.endswith(given) or "/tasks/?" in url or "/tasks?" in url]
    assert page.evaluate("document.querySelector('bg-task').task") is None


def test_it_has_its_looks_under_a_strict_content_security_policy(app, blank, url, submit, gate):
    gate.set()
    markup = f'<!doctype html><title>Test</title>{SCRIPT}<bg-task request-id="{submit()}"></bg-task>'
    blank.add_init_script(
        "window.broken = []; addEventListener('securitypolicyviolation', (e) => broken.push(e.violatedDirective));"
    )
    app.view_functions["page"] = lambda **_: (markup, {"Content-Security-Policy": "default-src 'self'"})
    blank.goto(f"{url}/strict")

    blank.get_by_text("Done", exact=True).first.wait_for()

    moving = "document.querySelector('bg-task').shadowRoot.getAnimations().map((one) => one.finished)"
    blank.evaluate(f"Promise.all({moving}).then(() => true)")  # not wait_for_function: its polls are forbidden here
    looks = "([id, name]) => getComputedStyle(document.querySelector('bg-task').shadowRoot.querySelector(id))[name]"
    assert blank.evaluate(looks, ["#task", "display"]) == "grid"
    assert blank.evaluate(looks, ["#bar", "borderRadius"]) == "99px"
    assert blank.evaluate(looks, [".spoken", "position"]) == "absolute"
    assert blank.evaluate(looks, ["#fill", "width"]) == blank.evaluate(looks, ["#bar", "width"])  # set by script
    assert blank.evaluate("broken") == []


# -- what it says --------------------------------------------------------------------------------------------------


def test_it_shows_where_the_task_is(fake):
    assert text(fake, "subtitle") == "Step 2 of 3"
    assert text(fake, "details") == "page 4"
    assert text(fake, "percentage") == "40%"
    assert text(fake, "eta") == "about 12 sec left"
    items = fake.get_by_role("list", name="Steps").get_by_role("listitem").all_inner_texts()
    assert [" ".join(item.split()) for item in items] == ["Read (done) 1.2s", "Write (in progress)", "Draw (waiting)"]


def test_a_screen_reader_hears_steps_and_the_end_and_not_every_percent(fake):
    fake.evaluate(
        "() => { window.heard = []; const status = element.shadowRoot.querySelector('[role=status]');"
        "new MutationObserver(() => heard.push(status.textContent))"
        ".observe(status, { subtree: true, childList: true, characterData: true }); }"
    )
    steps = fake.evaluate("task.view.steps")

    for percentage in range(41, 60):
        progress = {"step": "Write", "step_number": 2, "total_steps": 3, "details": f"page {percentage}"}
        change(fake, percentage=percentage, progress={**progress, "eta_seconds": 3})
    change(fake, percentage=70, progress={"step": "Draw", "step_number": 3, "total_steps": 3})
    change(fake, status="completed", percentage=100, steps=[{**one, "state": "done"} for one in steps], seq=9)

    assert fake.evaluate("heard") == ["Step 3 of 3: Draw", "Done"]
    bar = fake.get_by_role("progressbar")
    assert bar.get_attribute("aria-valuenow") == "100"
    assert bar.get_attribute("aria-valuetext") == "100%, Done"


def test_it_says_what_is_done_about_a_lost_connection(fake):
    expected = {
        ("stream", "processing"): "",
        ("idle", "processing"): "",
        ("asleep", "processing"): "",
        ("poll", "processing"): "asking every second",
        ("offline", "processing"): "reconnecting",
        ("monitor", "processing"): "offline, asking Firestore",
        ("blocked", "processing"): "please log in again",
        ("offline", "queued"): "waiting for the network",
        ("stream", "queued"): "sending",
        ("offline", "completed"): "",
    }

    said = {}
    for channel, status in expected:
        fake.evaluate("channel => { client.channel = channel; client.dispatchEvent(new Event('channel')); }", channel)
        change(fake, status=status)
        said[channel, status] = text(fake, "badge") if fake.locator("#badge").is_visible() else ""

    assert said == expected


def test_it_has_words_for_every_state(fake):
    unsent = {"status": "queued", "percentage": 0, "attempt": 0}
    retrying = {"retrying": {"seconds": 130, "error_message": "no paper"}}
    expected = [
        (unsent, "subtitle", "Kept on this device until it can be sent"),
        (unsent, "percentage", ""),
        ({"status": "started", "progress": None}, "title", "Waiting to start"),
        ({"attempt": 2}, "subtitle", "Step 2 of 3 · resumed, attempt 2"),
        ({"status": "something new"}, "title", "At work"),
        ({"cancelling": True}, "title", "Stopping …"),
        (retrying, "details", "Trying again in 2 min"),
        (retrying, "error", "no paper"),
        ({"status": "failed", "error": "no paper"}, "error", "no paper"),
        ({"status": "failed", "error": None}, "error", "It ended with an error."),
        ({"status": "failed"}, "details", "Stopped at “Write”"),
        ({"status": "rejected", "error": "2 words are too few"}, "error", "2 words are too few"),
        ({"status": "gone"}, "error", "The server does not keep this task any more."),
        ({"status": "completed"}, "details", "3 steps in 1 sec"),
        ({"status": "completed"}, "eta", ""),
    ]
    before = fake.evaluate("task.view")

    said = []
    for changes, part, _ in expected:
        change(fake, **{**before, **changes})
        said.append((changes, part, text(fake, part)))

    assert said == expected


def test_each_end_is_told_once_and_once_more_after_a_retry(fake):
    change(fake, status="failed", error="no paper", seq=7)
    change(fake, seq=7)
    change(fake, status="processing", error=None, seq=8)
    change(fake, status="completed", seq=9)

    settled = [status for kind, status in fake.evaluate("told") if kind == "bg-task-settled"]
    assert settled == ["failed", "completed"]


# -- how it looks --------------------------------------------------------------------------------------------------


def test_its_language_is_the_pages_and_its_texts_can_be_replaced(fake):
    fake.evaluate("element.lang = 'de-AT'")
    fake.wait_for_function("element.shadowRoot.querySelector('#cancel').textContent === 'Abbrechen'")
    assert text(fake, "eta") == "noch etwa 12 Sek."
    assert text(fake, "percentage") == "40\u00a0%"

    fake.evaluate("element.texts = { cancel: 'Halt', status: { processing: 'Wird gebacken' } }")
    fake.wait_for_function("element.shadowRoot.querySelector('#cancel').textContent === 'Halt'")
    assert text(fake, "title") == "Wird gebacken"
    assert text(fake, "subtitle") == "Schritt 2 von 3"


def test_slots_take_the_place_of_what_it_shows_by_itself(fake):
    change(fake, output="Once upon")
    assert fake.get_by_text("Once upon").is_visible()

    fake.evaluate(
        "for (const slot of ['output', 'result', 'actions']) {"
        "  element.append(Object.assign(document.createElement('p'), { slot, textContent: `mine: ${slot}` })); }"
    )
    change(fake, output="Once upon a time")

    assert not fake.get_by_text("Once upon").is_visible()
    assert fake.get_by_text("mine: output").is_visible()
    assert fake.get_by_text("mine: actions").is_visible()
    assert not fake.get_by_text("mine: result").is_visible()
    change(fake, status="completed")
    assert fake.get_by_text("mine: result").is_visible()


def test_nothing_jumps_while_a_task_runs(fake):
    fake.evaluate("shifts.length = 0")

    for percentage in range(40, 100, 10):
        change(
            fake, percentage=percentage, progress={"step": "Write", "step_number": 2, "total_steps": 3, "details": ""}
        )
        fake.evaluate("client.channel = client.channel === 'stream' ? 'offline' : 'stream'")
    change(fake, status="completed", percentage=100)

    assert total_shift(fake) < 0.01


def test_what_it_says_fits_in_a_narrow_window_with_large_letters_and_from_right_to_left(fake):
    fake.set_viewport_size({"width": 320, "height": 700})
    fake.evaluate("document.documentElement.style.fontSize = '200%'; document.documentElement.dir = 'rtl'")
    fake.evaluate("client.channel = 'monitor'; client.dispatchEvent(new Event('channel'))")
    change(fake, attempt=2, status="processing")

    assert not fake.evaluate("document.documentElement.scrollWidth > innerWidth")
    fill = fake.locator("#fill").bounding_box()
    bar = fake.locator("#bar").bounding_box()
    assert fill["x"] + fill["width"] == pytest.approx(bar["x"] + bar["width"], abs=1)


def test_it_keeps_still_and_keeps_its_outlines_for_those_who_ask(fake):
    fake.emulate_media(reduced_motion="reduce", forced_colors="active")

    moving = fake.evaluate(
        "[...element.shadowRoot.querySelectorAll('*')].filter((one) => getComputedStyle(one).animationName !== 'none'"
        "  || parseFloat(getComputedStyle(one).transitionDuration) > 0).map((one) => one.id || one.className)"
    )
    assert moving == []
    assert fake.evaluate("getComputedStyle(element.shadowRoot.querySelector('#bar')).borderTopStyle") == "solid"


def test_axe_has_no_complaint_but_where_there_is_reason_to(fake):
    assert look_at(fake, "bg-task-running") == []
    change(fake, status="failed", error="no paper")
    assert look_at(fake, "bg-task-failed") == []

    fake.evaluate("element.shadowRoot.querySelector('#bar').removeAttribute('aria-label')")
    assert any("progressbar" in complaint for complaint in complaints_of(fake))


def test_what_a_server_says_is_never_taken_for_markup(fake):
    change(fake, error="<img src=x onerror='window.bad = true'>", status="failed")

    assert text(fake, "error").startswith("<img")
    assert fake.evaluate("element.shadowRoot.querySelectorAll('img').length") == 0
