"""What a notification says: made from notify= and the result, by status, in the device's language."""

import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_bgtasks import ConfigurationError, Notification, TaskOptions
from flask_bgtasks.core.model import Status, TaskKind
from flask_bgtasks.core.notifications import as_document, asked_for, checked, for_task, of_document
from flask_bgtasks.settings import Settings
from tests.support.tasks import new_task

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
REQUEST_ID = "6f1f3f5c-9a57-4a6c-8d3e-0e6c4f8f2b11"


def ended(status=Status.COMPLETED, **fields):
    task = new_task(REQUEST_ID, "lesson", TaskKind.VIEW)
    return task.evolve(status=status, seq=5, attempt=2, owner="anna", user_token="token-1", **fields)


def told(notify, result=None, status=Status.COMPLETED, **fields):
    """The title that a finished task's user reads."""
    notification = for_task(ended(status, **fields), checked(notify), result)
    return notification and notification.title


# -- texts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "result", "says"),
    [
        ("Your lesson is ready", None, "Your lesson is ready"),
        ("{topic} is ready", {"topic": "Whales"}, "Whales is ready"),
        ("{name} {request_id}", None, f"lesson {REQUEST_ID}"),
        ("{name}", {"name": "Whales"}, "Whales"),
        ("{pages:03d} pages, {score:.1f} points", {"pages": 8, "score": 4.26}, "008 pages, 4.3 points"),
        (
            "{topic!r} {lesson[title]} {blocks[1]}",
            {"topic": "a", "lesson": {"title": "b"}, "blocks": [1, 2]},
            "'a' b 2",
        ),
        ("{topic:>{width}}", {"topic": "a", "width": 3}, "  a"),
        ("{{topic}} 100 %", {"topic": "a"}, "{topic} 100 %"),
        ("Ready 🐋 – {topic}", {"topic": "Wale"}, "Ready 🐋 – Wale"),
    ],
)
def test_a_text_is_a_format_string_over_the_results_fields(text, result, says):
    assert told(text, result) == says


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{topic} is ready", None),
        ("{topic} is ready", ["Whales"]),
        ("{topic} is ready", {}),
        ("{topic[title]} is ready", {"topic": "Whales"}),
        ("{topic.title.first} is ready", {"topic": None}),
        ("{pages:03d} pages", {"pages": "eight"}),
        ("{pages:03d} pages", {"pages": None}),
        ("{pages!r:03d} pages", {"pages": 8}),
    ],
)
def test_a_field_that_the_result_lacks_stands_as_written_and_the_text_is_told_all_the_same(text, result):
    assert told(text, result) == text


def test_one_field_that_is_missing_spoils_no_other():
    assert told("{topic}: {pages} pages by {author}", {"pages": 8}) == "{topic}: 8 pages by {author}"


def test_what_the_result_says_is_not_taken_for_a_format():
    assert told("{topic}", {"topic": "{request_id} {"}) == "{request_id} {"


def test_a_failure_can_say_why():
    told_of = told({"failed": "Failed: {error_message}"}, status=Status.FAILED, error_message="no paper")

    assert told_of == "Failed: no paper"
    assert told({"failed": "Failed: {error_message}."}, status=Status.FAILED) == "Failed: ."


def test_a_function_says_it_in_its_own_words():
    def tell(task, result):
        return Notification("{as} written", f"{result['pages']} pages", data={"n": 8}, link="app://{screen}")

    notification = for_task(ended(), tell, {"pages": 8}, link="https://example.com/{request_id}")

    assert (notification.title, notification.body) == ("{as} written", "8 pages")
    assert notification.link == "app://{screen}"
    assert notification.data["n"] == "8"


@pytest.mark.parametrize("nothing", [None, "", False])
def test_a_function_may_have_nothing_to_say(nothing):
    assert for_task(ended(), lambda task, result: nothing, {}) is None


@pytest.mark.parametrize(
    "wrong", [7, ["Ready"], {"completed": "Ready"}, {"en": 7}, Notification(7), Notification("a", data=["b"])]
)
def test_a_function_that_returns_something_else_is_said_to(wrong):
    with pytest.raises(TypeError, match="it returned .*expected a string, strings by language, a Notification or None"):
        for_task(ended(), lambda task, result: wrong, {})


# -- what goes along ---------------------------------------------------------------------------------------------------


def test_it_carries_what_a_client_asks_for_the_result_by_and_never_the_result():
    notify = Notification("Ready", data={"screen": "lesson", "status": "not this one"})

    notification = for_task(ended(), notify, {"secret": "text"})

    assert notification.data == {
        "screen": "lesson",
        "request_id": REQUEST_ID,
        "status": "completed",
        "name": "lesson",
        "seq": "5",
        "attempt": "2",
    }
    assert (notification.owner, notification.user_token, notification.status) == ("anna", "token-1", "completed")
    assert "secret" not in json.dumps(as_document(notification))


def test_neither_the_address_nor_more_shows_in_a_traceback():
    assert "token-1" not in repr(for_task(ended(), "Ready", None))


@pytest.mark.parametrize(
    ("own", "setting", "opens"),
    [
        (None, None, None),
        (None, "https://example.com/{name}/{request_id}", f"https://example.com/lesson/{REQUEST_ID}"),
        ("app://lessons/{request_id}", "https://example.com/", f"app://lessons/{REQUEST_ID}"),
    ],
)
def test_it_opens_its_own_link_or_the_one_of_the_settings(own, setting, opens):
    assert for_task(ended(), Notification("Ready", link=own), None, link=setting).link == opens


def test_a_name_cannot_break_out_of_its_place_in_a_link():
    task = ended().evolve(name="a b/../c?d=é")

    notification = for_task(task, "Ready", None, link="https://example.com/{name}")

    assert notification.link == "https://example.com/a%20b%2F..%2Fc%3Fd%3D%C3%A9"


texts = st.text() | st.dictionaries(st.sampled_from(["en", "de", "pt-BR", "ar"]), st.text(), min_size=1)


@given(
    st.builds(
        Notification,
        title=texts,
        body=texts,
        user_token=st.none() | st.text(),
        owner=st.none() | st.text(),
        request_id=st.none() | st.just(REQUEST_ID),
        data=st.dictionaries(st.text(), st.text()),
        link=st.none() | st.text(),
        status=st.none() | st.sampled_from([status.value for status in Status]),
    )
)
def test_it_comes_out_of_the_outbox_as_it_went_in(notification):
    stored = json.dumps(as_document(notification))

    assert of_document(json.loads(stored), notification.request_id) == notification


# -- by status ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "status", "wanted"),
    [
        ("Ready", Status.COMPLETED, "Ready"),
        ("Ready", Status.FAILED, None),
        ("Ready", Status.CANCELLED, None),
        ({"en": "Ready"}, Status.COMPLETED, {"en": "Ready"}),
        ({"en": "Ready"}, Status.FAILED, None),
        ({"failed": "Failed"}, Status.COMPLETED, None),
        ({"failed": "Failed"}, Status.FAILED, "Failed"),
        ({"completed": None, "cancelled": {"en": "Gone"}}, Status.COMPLETED, None),
        ({"completed": None, "cancelled": {"en": "Gone"}}, Status.CANCELLED, {"en": "Gone"}),
        (None, Status.COMPLETED, None),
        ("", Status.COMPLETED, None),
        ({"failed": ""}, Status.FAILED, None),
    ],
)
def test_only_completion_is_told_unless_another_end_is_named(notify, status, wanted):
    assert asked_for(status, checked(notify)) == wanted
    assert told(notify, status=status) == wanted


def test_a_function_can_be_asked_about_every_end():
    notify = {"completed": lambda task, result: result["topic"], "failed": lambda task, result: task.error_message}

    assert told(notify, {"topic": "Whales"}) == "Whales"
    assert told(notify, None, Status.FAILED, error_message="no paper") == "no paper"


# -- languages ---------------------------------------------------------------------------------------------------------

READY = {"en": "Ready", "de": "Fertig", "pt-BR": "Pronto!", "pt": "Pronto", "zh-Hant": "好了"}


@pytest.mark.parametrize(
    ("lang", "says"),
    [
        ("de", "Fertig"),
        ("de-AT", "Fertig"),
        ("de_AT", "Fertig"),
        ("DE-at-1996", "Fertig"),
        ("pt-BR", "Pronto!"),
        ("pt-PT", "Pronto"),
        ("pt", "Pronto"),
        ("zh-Hant-TW", "好了"),
        ("zh-Hans", "Ready"),
        ("d", "Ready"),
        ("fr", "Ready"),
        ("", "Ready"),
        (None, "Ready"),
        ("-", "Ready"),
    ],
)
def test_it_is_told_in_the_devices_language_or_the_first_there_is(lang, says):
    notification = Notification(READY, {"de": "Sieh nach"}).in_language(lang)

    assert notification.title == says
    assert notification.body == "Sieh nach"


def test_every_language_is_a_format_string():
    notification = for_task(ended(), {"en": "{topic} is ready", "de": "{topic} ist fertig"}, {"topic": "Wale"})

    assert notification.in_language("de").title == "Wale ist fertig"
    assert notification.in_language("en").title == "Wale is ready"


@given(st.text())
def test_whatever_a_device_calls_its_language_it_is_told(lang):
    assert Notification(READY).in_language(lang).title in READY.values()


# -- what is refused when it is given ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (7, "expected a string, strings by language, a Notification or a function"),
        (["Ready"], "expected a string, strings by language, a Notification or a function"),
        ({}, "expected a string, strings by language, a Notification or a function"),
        ({"en": None}, "expected a string, strings by language, a Notification or a function"),
        ({"completed": 7}, "expected a string, strings by language, a Notification or a function"),
        ({"completed": {}}, "expected a string, strings by language, a Notification or a function"),
        ({"completed": {"failed": "a"}}, "expected a string, strings by language, a Notification or a function"),
        ({"completed": "a", "faild": "b"}, "or a mapping of these by status (completed, failed, cancelled)"),
        ({"faild": "b"}, "or a mapping of these by status (completed, failed, cancelled)"),
        ({"en": "a", "failed": "b"}, "or a mapping of these by status (completed, failed, cancelled)"),
        (Notification(None), "expected a string, strings by language, a Notification or a function"),
        (Notification("a", body=None), "expected a string, strings by language, a Notification or a function"),
        (Notification("a", data=None), "expected a string, strings by language, a Notification or a function"),
        (Notification("a", link=7), "expected a string, strings by language, a Notification or a function"),
        ("100 {", "is not a format string"),
        ({"failed": {"en": "ok", "de": "}"}}, "is not a format string"),
        ("{} pages", "a field without a name"),
        ("{0} pages", "a field without a name"),
        (Notification("a", "{"), "is not a format string"),
        (Notification("a", link="app://{"), "is not a format string"),
        (Notification("a", link="app://{topic}"), "{topic} is not a field of a link"),
    ],
)
def test_a_wrong_option_is_refused_where_the_task_is_declared(wrong, says):
    with pytest.raises(ConfigurationError) as refused:
        TaskOptions(name="lesson", notify=wrong)

    assert "lesson" in str(refused.value)
    assert says in str(refused.value)


def test_an_async_function_is_refused_since_nobody_would_await_it():
    async def tell(task, result):
        return "Ready"

    with pytest.raises(ConfigurationError, match="not an async one"):
        checked({"failed": tell})


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("https://example.com/{", "is not a format string"),
        ("https://example.com/{id}", "{id} is not a field of a link; use {request_id} and {name}"),
        ("https://example.com/{}", "a field without a name"),
    ],
)
def test_a_wrong_link_in_the_settings_is_refused_with_the_fields_that_there_are(link, says):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_config({"BGTASKS_NOTIFICATION_LINK": link})

    assert "BGTASKS_NOTIFICATION_LINK" in str(refused.value)
    assert says in str(refused.value)
