"""The pytest plugin, used by a suite of its own as a user would."""

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from flask import Flask, request
from flask_bgtasks import BackgroundTasks, step

bgtasks_ = BackgroundTasks()

@bgtasks_.task(name="double")
def double(n):
    return 2 * n

@pytest.fixture
def app(tmp_path):
    app = Flask("mine", instance_path=str(tmp_path))
    bgtasks_.init_app(app)

    @app.post("/process")
    @bgtasks_.background(name="process", notify="{title} is ready")
    def process():
        with step("Write"):
            if not request.get_json()["title"]:
                raise ValueError("no title")
        return {"title": request.get_json()["title"]}

    return app
"""


@pytest.fixture
def suite(pytester):
    pytester.makeconftest(CONFTEST)

    def run(test):
        pytester.makepyfile(test)
        return pytester.runpytest("-p", "flask_bgtasks.testing", "-p", "no:flask", "-p", "no:xdist")

    # Where the package is installed, its entry point loads the plugin; naming it again would be an error then.
    import importlib.metadata

    if any(e.value == "flask_bgtasks.testing" for e in importlib.metadata.entry_points(group="pytest11")):

        def run(test):
            pytester.makepyfile(test)
            return pytester.runpytest("-p", "no:flask", "-p", "no:xdist")

    return run


def test_a_users_test_waits_for_its_task_and_sees_what_was_told(suite):
    result = suite(
        """
        import pytest
        from flask_bgtasks import EventType, Status, TaskFailed
        from conftest import double

        def test_the_lesson(app, bgtasks):
            response = app.test_client().post("/process", json={"title": "Owls"})
            task = bgtasks.wait_for(response)
            assert task.status is Status.COMPLETED
            assert bgtasks.result(response) == {"title": "Owls"}
            assert bgtasks.event_types(task) == [EventType.ACCEPTED, EventType.STARTED, EventType.COMPLETED]
            assert bgtasks.wait_for_notification().title == "Owls is ready"
            assert len(bgtasks.events) == 3

        @pytest.mark.bgtasks(runner="threads", workers=2)
        def test_in_threads(app, bgtasks):
            response = app.test_client().post("/process", json={"title": ""})
            with pytest.raises(TaskFailed, match="no title"):
                bgtasks.result(response)
            assert bgtasks.notifications == []

        def test_functions(app, bgtasks):
            assert bgtasks.result(double.submit(4)) == 8
        """
    )

    result.assert_outcomes(passed=3)


def test_what_is_no_task_and_what_is_no_setting_say_so(suite):
    result = suite(
        """
        import pytest
        from flask_bgtasks import ConfigurationError

        def test_no_task(app, bgtasks):
            with pytest.raises(TypeError, match="is not a task"):
                bgtasks.wait_for(42)

        @pytest.mark.bgtasks(colour="blue")
        def test_no_setting(app, bgtasks):
            pass
        """
    )

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*BGTASKS_COLOUR: there is no such setting*"])


def test_nothing_of_one_test_reaches_the_next(suite):
    result = suite(
        """
        import pytest

        @pytest.mark.parametrize("n", range(3))
        def test_alone(app, bgtasks, n):
            assert bgtasks.events == []
            app.test_client().post("/process", json={"title": "x"})
            assert bgtasks.state.store.stats().by_status == {"completed": 1}
        """
    )

    result.assert_outcomes(passed=3)
