"""What every test may use: the backends' fixtures, and how hard Hypothesis tries."""

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.backends.routing import compile_rules_once

pytest.register_assert_rewrite("tests.support")
pytest_plugins = [f"tests.backends.{name}" for name in ("postgresql", "pgbouncer", "firestore", "redis")]

# A busy machine is slow, not wrong: no deadline for one example. CI has to say the same thing twice: derandomized.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


compile_rules_once()


@pytest.fixture
def fcm():
    """A stand-in of FCM of this test's own; in the end every message has to have been one that FCM publishes."""
    from tests.backends.fcm import FcmStandIn

    stand_in = FcmStandIn()
    yield stand_in
    stand_in.close()
    assert stand_in.problems == []


@pytest.fixture
def cloud_tasks():
    """A stand-in of Cloud Tasks of this test's own; in the end it was sent nothing that the real one refuses."""
    pytest.importorskip("google.cloud.tasks_v2")
    from tests.backends.cloud_tasks import CloudTasksStandIn

    stand_in = CloudTasksStandIn()
    yield stand_in
    stand_in.close()
    assert stand_in.problems == []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """pytest-xdist sends reports as UTF-8, which halves of surrogate pairs in a captured log are not."""
    report = (yield).get_result()
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    if report.longrepr is not None and not isinstance(report.longrepr, tuple):
        text = str(report.longrepr)
        if _sendable(text) != text:
            report.longrepr = _sendable(text)


def _sendable(text):
    return text.encode("utf-8", "backslashreplace").decode()
