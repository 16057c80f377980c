"""What users may import: it is there, the reference shows it, and what the reference shows is public."""

import importlib
import importlib.metadata
import inspect
import re
from pathlib import Path

import pytest

import flask_bgtasks
import flask_bgtasks.client
from flask_bgtasks import errors, hookimpl

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
DIRECTIVE = re.compile(r"(?m)^\.\. (auto\w+|py:data):: (flask_bgtasks(?:\.\w+)+)")
PUBLIC = [flask_bgtasks, flask_bgtasks.client]
EXPLAINED = [hookimpl]
"""Has no entry of its own: all of hooks.md is about it."""


def shown():
    """What the reference shows: paths as it has them, and the objects there."""
    for page in sorted(REFERENCE.glob("*.md")):
        for directive, path in DIRECTIVE.findall(page.read_text("utf-8")):
            if directive == "automodule":
                module = importlib.import_module(path)
                classes = inspect.getmembers(module, inspect.isclass)
                yield from ((f"{path}.{name}", one) for name, one in classes if one.__module__ == path)
            else:
                module, _, name = path.rpartition(".")
                yield path, getattr(importlib.import_module(module), name)


SHOWN = dict(shown())


def public_names():
    return [(module, name) for module in PUBLIC for name in module.__all__]


@pytest.mark.parametrize(("module", "name"), public_names(), ids=lambda value: getattr(value, "__name__", value))
def test_a_public_name_is_in_the_reference(module, name):
    public = getattr(module, name)

    assert any(public is one for one in [*SHOWN.values(), *EXPLAINED])


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_what_the_reference_shows_of_a_module_is_public(module):
    names = [path.rpartition(".")[2] for path in SHOWN if path.rpartition(".")[0] == module.__name__]

    assert names
    assert set(names) - set(module.__all__) == set()


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_public_names_stand_in_order_and_once(module):
    assert module.__all__ == sorted(set(module.__all__))


def test_an_error_that_is_public_is_the_same_wherever_it_is_imported_from():
    same = [name for name in vars(errors) if name in flask_bgtasks.__all__]

    assert len(same) > 25
    assert all(getattr(errors, name) is getattr(flask_bgtasks, name) for name in same)


def test_the_version_is_looked_up_when_it_is_asked_for():
    assert "__version__" not in vars(flask_bgtasks)
    assert flask_bgtasks.__version__ == importlib.metadata.version("flask-bgtasks")


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'flask_bgtasks' has no attribute 'Tsak'"):
        flask_bgtasks.Tsak  # noqa: B018
