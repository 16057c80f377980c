"""Run pytest, and give what failed, or was not reached, a second try: ``python tests/suite.py <arguments of pytest>``.

Thousands of tests with servers, browsers and kills share a machine that is doing other things. A test that fails there
once in a thousand runs is to be mended, but says nothing about the change at hand: it is run once more, by itself, and
named at the end. What fails twice fails. After many failures there is no second try: the change broke something. Where
pytest itself broke off (an error outside of any test), what it did not reach is run. See docs/decisions/0025.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

MAX_FAILURES = 5
"""More tests than these fail because of the change, not of the machine."""
ALONE = 50
"""Up to so many tests are run one after the other, with nothing beside them."""


class Ledger:
    """A plugin of pytest: what was to be run, what ended, what failed, and why pytest broke off."""

    def __init__(self):
        self.ids, self.ended, self.failed, self.broke = [], set(), set(), []

    def pytest_collection_finish(self, session):
        self.ids = [item.nodeid for item in session.items] or self.ids

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node, ids):
        self.ids = list(ids)

    def pytest_collectreport(self, report):
        if report.failed:  # nothing is known of the tests in it
            self.broke.append(str(report.longrepr))
            self.ids = []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown":
            self.ended.add(report.nodeid)

    def pytest_internalerror(self, excrepr):
        self.broke.append(str(excrepr))

    def left(self):
        """What a second try is about."""
        return [test for test in self.ids if test in self.failed or test not in self.ended]


def main(arguments):
    """The exit code of the suite. :param arguments: pytest's."""
    ledger = Ledger()
    code = int(pytest.main(arguments, plugins=[ledger]))
    left = ledger.left()
    may_be_chance = code in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERNAL_ERROR)
    if not left or not may_be_chance or len(ledger.failed) > MAX_FAILURES:
        return code
    print(f"\n== a second try for {len(left)} of {len(ledger.ids)} tests", flush=True)
    again = _run(left, [one for one in arguments if not Path(one.partition("::")[0]).exists()])
    for error in ledger.broke:
        print(f"\n== pytest had broken off:\n{error[-1500:]}")
    failed = [test for test in ledger.ids if test in ledger.failed]
    if failed:
        print("\n== failed at the first try, and to be mended, whatever the second says:", *failed, sep="\n   ")
    return again


def _run(tests, options):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as names:
        names.write("\n".join(tests))
        names.flush()
        alone = ["-n", "0"] if len(tests) <= ALONE else []
        command = [sys.executable, "-m", "pytest", *options, *alone, f"@{names.name}"]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
