"""What `make test` runs the suite with: a second try for what failed, and for what was not reached."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
SUITE = Path(__file__).parents[1] / "suite.py"
ONCE = """
import pytest
from pathlib import Path

def once(name):
    new = not Path(name).exists()
    Path(name).touch()
    return new

"""


@pytest.fixture
def run(tmp_path):
    """Runs tests from text in a folder of their own, in two processes."""

    def run(tests, conftest=""):
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "conftest.py").write_text(textwrap.dedent(conftest))
        (tmp_path / "test_it.py").write_text(ONCE + textwrap.dedent(tests))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # half of the time is theirs
        command = [sys.executable, str(SUITE), "-p", "xdist", "-n", "2", "test_it.py"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=100, check=False
        )

    return run


def test_what_failed_once_passes_at_the_second_try_and_is_named(run):
    done = run(
        r"""
        @pytest.mark.parametrize("text", ["a b", "[x]::y", "\n", "é"])
        def test_by_chance(text):
            assert not once(text.encode().hex())

        def test_good():
            assert once("good")
        """
    )

    assert done.returncode == 0, done.stdout
    assert "a second try for 4 of 5 tests" in done.stdout
    assert "to be mended" in done.stdout
    assert "test_it.py::test_by_chance[a b]" in done.stdout.rpartition("to be mended")[2]


def test_what_fails_twice_fails(run):
    done = run("def test_bad():\n    assert 0")

    assert done.returncode == 1
    assert done.stdout.count("1 failed") == 2


def test_many_failures_are_no_chance(run):
    done = run("@pytest.mark.parametrize('n', range(6))\ndef test_bad(n):\n    assert not once(str(n))")

    assert done.returncode == 1
    assert "second try" not in done.stdout


def test_a_module_that_cannot_be_imported_fails_at_once(run):
    done = run("import nothing_of_this_name")

    assert done.returncode not in (0, 5)
    assert "second try" not in done.stdout


def test_where_pytest_breaks_off_the_rest_is_run_and_the_reason_told(run, tmp_path):
    done = run(
        "@pytest.mark.parametrize('n', range(20))\ndef test_good(n):\n    Path(f'ran-{n}').touch()",
        conftest="""
        import pytest
        from pathlib import Path

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(item):
            if "7" in item.name and not Path("broke").exists():
                Path("broke").touch()
                raise RuntimeError("can't start new thread")
            return (yield)
        """,
    )

    assert done.returncode == 0, done.stdout
    assert len(list(tmp_path.glob("ran-*"))) == 20
    assert "can't start new thread" in done.stdout.partition("broken off")[2]


def test_a_process_that_dies_in_a_test_gives_it_a_second_try(run):
    done = run("import os\ndef test_killed():\n    once('killed') and os.kill(os.getpid(), 9)")

    assert done.returncode == 0, done.stdout
    assert "a second try for 1 of 1 tests" in done.stdout
