"""The page of the example app in a real browser: a lesson is made, lost sight of, found again and told about."""

import threading
import urllib.parse

import pytest

from example_app import create_app
from example_app.app import SAMPLE
from example_app.pipeline import STEPS
from example_app.writers import OfflineWriter
from tests.backends.wsgi import served
from tests.support.page_checks import look_at, total_shift

pytestmark = [pytest.mark.system, pytest.mark.slow]

TEXT = SAMPLE.read_text("utf-8")[:9000]  # two sections: a lesson that is made in a second
WORDS_BEFORE_THE_PAUSE = 90


class PausingWriter(OfflineWriter):
    """Writes the beginning of the story, and waits; or finds that there is no ink."""

    def __init__(self):
        self.go_on = threading.Event()
        self.ink = True

    def story(self, title, sections):
        for number, piece in enumerate(super().story(title, sections)):
            if number == WORDS_BEFORE_THE_PAUSE:
                assert self.go_on.wait(60)
                if not self.ink:
                    raise ValueError("The model “quill-1” did not answer: it has run out of ink.")
            yield piece


@pytest.fixture
def writer():
    return PausingWriter()


@pytest.fixture
def make_app(tmp_path, writer):
    made = []

    def make_app(**settings):
        app = create_app(
            {
                "BGTASKS_STORE": f"sqlite:///{tmp_path}/tasks.sqlite3",
                "BGTASKS_PROGRESS_INTERVAL": 0.05,
                "LESSON_PACE": 0,
                "LESSON_PHONE": str(tmp_path / "phone.sqlite3"),
                "LESSON_WRITER": writer,
                "SECRET_KEY": "test",
                **settings,
            }
        )
        made.append(app)
        return app

    yield make_app
    writer.go_on.set()
    for app in made:
        app.extensions["bgtasks"].close(grace=10)


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def url(app):
    with served(app) as server:
        yield server.url


@pytest.fixture
def page(url, blank):
    blank.goto(url)
    blank.locator("#form").wait_for()
    return blank


def make_lesson(page, text=TEXT):
    page.fill("#text", text)
    page.click("#make")


def wait_for_story(page):
    """Until the beginning of the story has come."""
    page.wait_for_function("document.querySelector('#story-text').textContent.split(' ').length > 50")


def wait_for_lesson(page):
    page.locator("#lesson").wait_for()
    page.get_by_text("Lesson ready").first.wait_for()


# -- a lesson ------------------------------------------------------------------------------------------------------


def test_steps_story_and_lesson_of_the_sample_appear_and_nothing_jumps(page, writer):
    page.click("#sample")
    page.wait_for_function("document.querySelector('#text').value.length > 1000")
    page.click("#make")
    wait_for_story(page)
    assert page.evaluate("document.activeElement.id") == "task"
    assert page.get_by_role("progressbar").get_attribute("aria-valuetext").endswith("Step 5 of 8: Write story")
    writer.go_on.set()
    wait_for_lesson(page)
    page.get_by_role("link", name="Lecture").click()
    page.locator(".choice").first.click()

    steps = page.get_by_role("list", name="Steps").get_by_role("listitem").all_inner_texts()
    assert [" ".join(one.partition("(")[0].split()) for one in steps] == STEPS
    assert all("(done)" in one for one in steps)
    assert page.locator(".block img").count() > 3
    assert page.locator(".verdict").first.inner_text()
    assert total_shift(page) < 0.1


def test_a_reload_in_the_middle_finds_the_lesson_and_its_story_again(page, writer):
    make_lesson(page)
    wait_for_story(page)
    before = page.inner_text("#story-text")

    page.reload()
    wait_for_story(page)
    page.wait_for_function("document.querySelector('#log').textContent.includes('Found again')")
    again = page.inner_text("#story-text")
    writer.go_on.set()
    wait_for_lesson(page)

    assert again.startswith(before[:200])
    assert page.inner_text("#story-text").startswith(before[:200])


def test_whoever_comes_back_is_shown_what_runs_and_so_is_a_second_tab(page, url, writer):
    make_lesson(page)
    wait_for_story(page)

    second = page.context.new_page()
    second.goto(url)  # without the lesson's address
    wait_for_story(second)
    page.close()
    writer.go_on.set()
    wait_for_lesson(second)

    assert "task=" in second.url
    assert second.locator("#lessons-list a").get_attribute("aria-current") == "page"


def test_the_push_that_would_have_reached_the_phone_opens_its_lesson(page, writer):
    make_lesson(page)
    wait_for_story(page)
    page.get_by_role("link", name="Another text").click()  # nobody looks at this lesson any more
    writer.go_on.set()

    message = page.get_by_role("link", name="Your lesson is ready")
    message.wait_for()
    assert "The Chemical History of a Candle" in message.inner_text()
    page.get_by_role("status").get_by_text("is ready").wait_for()  # the page says so itself, too
    message.click()

    wait_for_lesson(page)
    assert "task=" in page.url


def test_a_text_that_is_sent_without_a_network_waits_and_goes_out_by_itself(page, writer):
    writer.go_on.set()
    page.context.set_offline(True)
    make_lesson(page)

    page.get_by_text("Waiting to be sent").first.wait_for()
    page.locator("#lessons").get_by_text("waiting for the network").wait_for()
    page.context.set_offline(False)

    wait_for_lesson(page)
    assert "task=" in page.url


def test_without_a_server_the_page_opens_lists_its_lessons_and_shows_them(app, blank, writer):
    writer.go_on.set()
    with served(app) as server:
        blank.goto(server.url)
        make_lesson(blank)
        wait_for_lesson(blank)
        blank.wait_for_function("navigator.serviceWorker.controller && caches.match('/')")
        blank.reload()
        wait_for_lesson(blank)

    blank.goto(server.url)
    blank.locator("#lessons-list a").click()
    wait_for_lesson(blank)

    assert blank.locator(".block img").count() == 2


def test_with_the_server_out_of_reach_the_lesson_comes_by_its_mirror(make_app, firestore_project, blank, writer):
    app = make_app(BGTASKS_SINKS="firestore", BGTASKS_FIREBASE_PROJECT=firestore_project)
    with served(app) as server:
        blank.goto(server.url)
        make_lesson(blank)
        wait_for_story(blank)
    writer.go_on.set()  # the task goes on, but nobody answers for it

    wait_for_lesson(blank)

    blank.locator("#log").get_by_text("By Firestore").wait_for()


def test_lessons_are_listed_opened_and_removed(page, writer):
    writer.go_on.set()
    make_lesson(page)
    wait_for_lesson(page)
    page.get_by_role("link", name="Another text").click()
    make_lesson(page, f"Of Bees\n\n{TEXT[3000:]}")
    wait_for_lesson(page)
    page.reload()

    listed = page.locator("#lessons-list .title")
    listed.nth(1).wait_for()
    assert listed.all_inner_texts() == ["Of Bees", "The chemical history of a candle"]
    listed.nth(1).click()
    page.get_by_role("heading", name="The Chemical History of a Candle", exact=True).wait_for()
    page.get_by_role("button", name="Remove “Of Bees” from this list").click()
    page.wait_for_function("document.querySelectorAll('#lessons-list li').length === 1")

    assert page.evaluate("document.activeElement.ariaLabel").startswith("Remove “The chemical history")


def patient(route):
    """The form as it is, but for how long it waits for a refusal: this machine may be busy."""
    answer = route.fetch()
    script = answer.text()
    assert "REFUSED_WITHIN = 700;" in script
    route.fulfill(response=answer, body=script.replace("REFUSED_WITHIN = 700;", "REFUSED_WITHIN = 60_000;"))


def test_what_the_server_refuses_is_said_in_the_form_and_not_listed(url, blank):
    page = blank
    page.route("**/compose.js", patient)
    page.goto(url)
    page.locator("#form").wait_for()
    page.fill("#text", "word " * 40_001)
    page.click("#make")

    page.locator("#refused").get_by_text("200,000 are the most").wait_for()
    assert page.locator("#lessons-list li").count() == 0
    assert page.evaluate("document.activeElement.id") == "text"


# -- how it looks --------------------------------------------------------------------------------------------------


def test_axe_has_no_complaint_about_a_lesson_that_is_made(page, writer):
    assert look_at(page, "demo-idle") == []
    make_lesson(page)
    wait_for_story(page)
    assert look_at(page, "demo-running") == []
    writer.go_on.set()
    wait_for_lesson(page)
    page.get_by_role("link", name="Your lesson is ready").first.wait_for(state="attached")
    assert look_at(page, "demo-finished") == []


def test_axe_has_no_complaint_about_one_that_fails(page, writer):
    make_lesson(page)
    wait_for_story(page)
    writer.ink = False
    writer.go_on.set()
    page.get_by_text("it has run out of ink").first.wait_for()

    assert look_at(page, "demo-failed") == []


@pytest.mark.parametrize("task", ["../sample?x=", "x0,x1,x2", "..", "0c9b4f0e"])
def test_an_address_that_names_no_task_opens_the_form_and_asks_for_nothing(blank, url, task):
    asked = []
    blank.on("request", lambda request: asked.append(f"{request.method} {request.url}"))

    blank.goto(f"{url}/?{urllib.parse.urlencode({'task': task})}")

    blank.locator("#form").wait_for()
    blank.wait_for_function("document.body.dataset.view === 'compose'")
    assert blank.get_by_role("button", name="Cancel").count() == 0
    assert not [one for one in asked if one.startswith("POST") or "/tasks?" in one or "/tasks/events" in one]
