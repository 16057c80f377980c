"""Errors go through pickle, as a broker or a process pool sends them, with text and fields; and stand in one tree."""

import copy
import pickle

import pytest

from flask_bgtasks import errors, wording
from tests.support.error_examples import error_classes, example

CLASSES = error_classes()
WAYS = {
    **{
        f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def all_of(error):
    return type(error), str(error), error.args, vars(error)


@pytest.mark.parametrize("again", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_survives_with_text_and_fields(kind, again):
    error = example(kind)

    assert all_of(again(error)) == all_of(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_says_something(kind):
    assert str(example(kind)).strip()


class Lossy(errors.BackgroundTasksError):
    """What every class would be without the root's own way to be pickled."""

    def __init__(self, message, *, field):
        super().__init__(message)
        self.field = field

    __reduce__ = Exception.__reduce__


def test_a_class_that_loses_its_fields_is_found():
    error = Lossy("why", field=7)

    with pytest.raises(TypeError, match="field"):
        pickle.loads(pickle.dumps(error))


def test_every_error_is_in_one_file():
    assert {kind.__module__ for kind in CLASSES} == {errors.__name__}


def test_the_tree_in_the_docstring_is_the_real_one():
    roots = [kind for kind in CLASSES if parent(kind) is None]
    lines = [line for root in roots for line in (titled(root), *drawn(root))]

    assert errors.__doc__.partition("::\n\n")[2] == "".join(f"    {line}\n" for line in lines)


def drawn(kind, indent=""):
    """The classes below one, as lines of a tree."""
    below = [one for one in CLASSES if parent(one) is kind]
    for one in below:
        last = one is below[-1]
        yield f"{indent}{'└' if last else '├'}── {titled(one)}"
        yield from drawn(one, indent + (" " if last else "│") + "   ")


def titled(kind):
    others = [base.__name__ for base in kind.__bases__ if base not in (parent(kind), Exception)]
    return f"{kind.__name__} ({', '.join(others)})" if others else kind.__name__


def parent(kind):
    return next((base for base in kind.__bases__ if base in CLASSES), None)


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("repotr", ["report", "render"], "Did you mean 'report'? Known here: render, report."),
        ("x", ["report", "render"], "Known here: render, report."),
        ("x", [], "Known here: none."),
    ],
)
def test_the_nearest_name_comes_before_the_list(name, known, text):
    assert wording.unknown_name(name, known) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 tasks"), (1, "1 task"), (2, "2 tasks")])
def test_a_number_and_its_noun_agree(count, text):
    assert wording.counted(count, "task") == text


def test_a_limit_of_one_is_told_in_the_singular():
    assert str(errors.QueueFull(1)).startswith("the queue is full: 1 task waiting")
    assert "1 task called 'report'" in str(errors.AtCapacity("7", status="started", name="report", limit=1))
