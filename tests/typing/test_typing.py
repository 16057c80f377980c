"""The package's types as a user's checker sees them: mypy in strict mode and pyright in its standard one.

good.py has to pass, and says by ``assert_type`` what is seen. In bad.py every line that ends in ``# error`` has to be
refused, and no other.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends import missing
from tests.support.paths import ROOT

HERE = Path(__file__).parent
MARK = "# error"


def mypy(cache):
    """Errors by file and line, as mypy tells them."""
    options = ["--strict", "--config-file=", "--python-version=3.10", "--output=json", f"--cache-dir={cache}"]
    told = run("mypy", *options, "tests/typing/good.py", "tests/typing/bad.py")
    for line in filter(None, told.splitlines()):
        found = json.loads(line)
        if found["severity"] == "error":
            yield Path(found["file"]).name, found["line"], found["message"]


def pyright(_cache):
    """Errors by file and line, as pyright tells them. Its settings stand in pyproject.toml, under [tool.pyright]."""
    for found in json.loads(run("basedpyright", "--outputjson", "--pythonpath", sys.executable))["generalDiagnostics"]:
        if found["severity"] == "error":
            yield Path(found["file"]).name, found["range"]["start"]["line"] + 1, found["message"]


def run(checker, *options):
    """What a checker prints; it ends with 1 where it finds something."""
    if importlib.util.find_spec(checker) is None:
        missing(checker, "pip install --group typing")
    done = subprocess.run(
        [sys.executable, "-m", checker, *options], cwd=ROOT, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)  # both read Flask, Werkzeug and SQLAlchemy too
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_exactly_the_marked_lines_are_refused(checker, tmp_path):
    lines = enumerate((HERE / "bad.py").read_text("utf-8").splitlines(), 1)
    marked = {number: text.strip() for number, text in lines if text.endswith(MARK)}

    told = list(checker(tmp_path))

    assert [one for one in told if one[0] != "bad.py" or one[1] not in marked] == []
    assert {number: text for number, text in marked.items() if number not in {line for _, line, _ in told}} == {}


def test_what_checkers_accept_can_be_imported():
    spec = importlib.util.spec_from_file_location("good", HERE / "good.py")
    good = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(good)

    assert good.render(2, title="ab") == "abab"
    assert good.version() is None
