"""Every sample of the README and of the documentation works, and says what it is."""

from dataclasses import fields
from pathlib import Path

import pytest

from flask_bgtasks import TaskOptions
from tests.support.doc_samples import EXECUTED, SHOWN, Page, fences
from tests.support.paths import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.system
@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_the_samples_of_a_page_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    Page(path, tmp_path).run()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_a_page_has_no_block_that_nobody_checks(path):
    unknown = [
        f"{_name(path)}:{line}: {language or 'no language'}"
        for line, language in fences(path)
        if language not in EXECUTED | SHOWN
    ]

    assert not unknown


@pytest.mark.parametrize("option", [field.name for field in fields(TaskOptions)])
def test_every_option_of_a_task_is_in_the_reference(option):
    assert f"\n| `{option}` |" in (ROOT / "docs" / "reference" / "settings.md").read_text()


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        ("```python\n1 / 0\n```\n", "division by zero"),
        ("```console\n$ make coffee\n```\n", "no such target"),
        ("```console\n$ pip install 'flask-bgtasks[coffee]'\n```\n", "no such extra"),
        ("```console\n$ rm -rf /\n```\n", "does not know"),
        ("```javascript\nlet let = 1;\n```\n", "SyntaxError"),
        (
            "```python\nfrom flask import Flask\napp = Flask(__name__)\napp.get('/')(lambda: {'a': 1})\n```\n\n"
            '```console\n$ curl localhost:5000/\n{"a": 2}\n```\n',
            "'a': 2",
        ),
    ],
)
def test_a_wrong_sample_is_found(sample, complaint, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(sample)

    with pytest.raises((AssertionError, ArithmeticError), match=complaint):
        Page(page, tmp_path).run()
