"""flask bgtasks …"""

from flask_bgtasks import step
from tests.support.waiting import PATIENCE


def test_tasks_are_listed_shown_and_counted_from_the_shell(make_app, bg):
    app = make_app()

    @bg.task(name="generate")
    def generate():
        with step("Write"):
            raise ValueError("out of paper")

    with app.app_context():
        handle = generate.submit()
        handle.wait_until_done(timeout=PATIENCE)
    shell = app.test_cli_runner()

    listed = shell.invoke(args=["bgtasks", "list"]).output
    assert handle.request_id in listed
    assert "failed" in listed
    assert shell.invoke(args=["bgtasks", "list", "--status", "completed"]).output == ""
    shown = shell.invoke(args=["bgtasks", "show", handle.request_id]).output
    assert "error: out of paper" in shown
    assert "step_finished" in shown
    assert "failed       1" in shell.invoke(args=["bgtasks", "stats"]).output


def test_an_unknown_task_is_an_error_with_an_exit_code(make_app):
    result = make_app().test_cli_runner().invoke(args=["bgtasks", "show", "nonsense"])

    assert result.exit_code == 1
    assert "task 'nonsense' does not exist" in result.output
