"""Options of a task: checked when they are written."""

from dataclasses import fields
from datetime import timedelta

import pytest

from flask_bgtasks import BackgroundTasks, ConfigurationError, FunctionOptions, TaskOptions, ViewOptions


def test_an_option_that_does_not_exist_is_a_type_error_at_import():
    bgtasks = BackgroundTasks()

    with pytest.raises(TypeError, match="retires"):
        bgtasks.background(retires=3)


@pytest.mark.parametrize("option", sorted(ViewOptions.__annotations__.keys() - FunctionOptions.__annotations__.keys()))
def test_a_function_takes_no_option_of_views(option):
    with pytest.raises(TypeError, match=f"@task takes no {option}=.*use @background on a view"):
        BackgroundTasks().task(**{option: None})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"respond": "later"}, "one of async, prefer, hold"),
        ({"validate": "check"}, "cannot be called"),
        ({"notify": 7}, "a string, strings by language"),
        ({"steps": "Outline"}, "a list of names"),
        ({"steps": [""]}, "is not a step"),
        ({"steps": [("Write", 0)]}, "a number above 0"),
        ({"steps": ["a", "b"], "total_steps": 3}, "drop total_steps"),
        ({"total_steps": 0}, "a whole number from 1"),
        ({"priority": "high"}, "higher runs first"),
        ({"expires_after": 0}, "at least 1"),
        ({"queue": ""}, "expected a name"),
    ],
)
def test_a_wrong_option_says_what_is_wanted(options, says):
    with pytest.raises(ConfigurationError, match=says):
        TaskOptions(name="process", **options)


def test_checkers_know_every_option_as_it_is_declared():
    declared = {option.name: option.type for option in fields(TaskOptions)}

    assert {name: hint.__forward_arg__ for name, hint in ViewOptions.__annotations__.items()} == declared
    assert "respond" not in FunctionOptions.__annotations__


def test_a_task_may_keep_its_outcome_longer_than_the_app_does():
    assert TaskOptions(expires_after=60).lifetime(timedelta(days=7)) == timedelta(minutes=1)
    assert TaskOptions().lifetime(timedelta(days=7)) == timedelta(days=7)


def test_two_functions_of_one_name_are_refused_with_both_places():
    bgtasks = BackgroundTasks()

    @bgtasks.task(name="generate")
    def one(): ...

    with pytest.raises(ConfigurationError, match=r"two tasks are called 'generate': .*one and .*two"):

        @bgtasks.task(name="generate")
        def two(): ...


def test_a_task_function_is_still_a_function():
    @BackgroundTasks().task
    def double(n):
        """Twice as much."""
        return 2 * n

    assert double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")
