"""The types of problems: published for good, so they are the errors' own names."""

import re

import pytest

from flask_bgtasks.errors import BackgroundTasksError, OutcomeUnknown, StoreUnavailable
from flask_bgtasks.http import problems
from flask_bgtasks.runtime.log_lines import Recurring
from tests.support.error_examples import error_classes, example, is_ours


def told(kind):
    """The problem that stands for an error, None where the HTTP layer never meets it."""
    try:
        return problems.of_error(example(kind))
    except kind:
        return None


def kebab(kind):
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


TOLD = [kind for kind in error_classes() if issubclass(kind, BackgroundTasksError) and told(kind) is not None]


@pytest.mark.parametrize("kind", [StoreUnavailable, OutcomeUnknown])
def test_why_the_store_is_unavailable_is_said_in_the_log_and_not_in_the_answer(kind, caplog, monkeypatch):
    monkeypatch.setattr(problems, "_outages", Recurring(problems._outages._logger))

    made = [problems.of_error(kind("postgresql at 10.0.0.7 is locked")) for _ in range(3)]

    assert "10.0.0.7" not in made[0].response().get_data(as_text=True)
    assert caplog.messages == ["a request was answered with 503: postgresql at 10.0.0.7 is locked"]


@pytest.mark.parametrize("kind", TOLD, ids=lambda kind: kind.__name__)
def test_a_type_ends_in_the_errors_name(kind):
    names = [kebab(one) for one in kind.__mro__ if is_ours(one)]

    assert told(kind).type.name in names
    assert told(kind).type.uri.endswith(f"/problems/#{told(kind).type.name}")


def test_the_errors_that_clients_see_are_told():
    assert {kebab(kind) for kind in TOLD} >= {
        "task-not-found",
        "task-expired",
        "transition-refused",
        "idempotency-conflict",
        "payload-too-large",
        "not-storable",
        "access-denied",
        "limit-reached",
        "queue-full",
        "owner-queue-full",
        "anonymous-queue-full",
        "shutting-down",
        "store-unavailable",
        "outcome-unknown",
    }


@pytest.mark.parametrize("kind", problems.TYPES.values(), ids=lambda kind: kind.name)
def test_a_type_is_a_name_a_title_and_a_paragraph(kind):
    assert re.fullmatch(r"[a-z]+(-[a-z]+)+", kind.name)
    assert re.fullmatch(r"[A-Z].*[^.]", kind.title)
    assert kind.meaning.endswith(".")
