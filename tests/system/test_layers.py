"""The layers of the package hold, and the check that says so would notice."""

import shutil
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "flask_bgtasks"


def lint_imports(folder):
    """Run import-linter over the copy of the package in a folder."""
    command = [
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()",
    ]
    done = subprocess.run([*command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path):
    """A copy of the package to plant faults in."""
    pytest.importorskip("importlinter")
    shutil.copytree(ROOT / "flask_bgtasks", tmp_path / "flask_bgtasks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.system
def test_imports_run_downwards(copy):
    code, output = lint_imports(copy)

    assert code == 0, output


@pytest.mark.system
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/model.py", "import flask", "no framework"),
        ("core/model.py", "from .. import settings", "run downwards"),
        ("core/model.py", "if TYPE_CHECKING:\n    from .. import settings", "run downwards"),
        ("execution/engine.py", "from ..stores import memory", "never a concrete"),
        ("stores/memory/store.py", "import flask", "nothing of requests"),
        ("delivery/dispatcher.py", "import sqlalchemy", "the one module that adapts it"),
        ("newcomer.py", "", "run downwards"),
    ],
)
def test_a_planted_fault_is_found(copy, module, line, contract):
    assert module == "newcomer.py" or (copy / "flask_bgtasks" / module).exists()
    with (copy / "flask_bgtasks" / module).open("a") as file:
        file.write(f"\n{line}\n")

    code, output = lint_imports(copy)

    assert code != 0
    assert contract in output


def test_a_folder_below_the_packages_own_has_at_most_a_dozen_entries():
    entries = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    entries |= {folder for path in entries for folder in path.parents if PACKAGE in folder.parents}
    sizes = Counter(path.parent.relative_to(PACKAGE) for path in entries if path.parent != PACKAGE)

    assert len(sizes) > 30
    assert {str(folder): size for folder, size in sizes.items() if size > 12} == {}
