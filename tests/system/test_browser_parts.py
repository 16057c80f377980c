"""The pure parts of the browser module, by Node.js's own test runner. The rest is tested in `browser/`."""

import subprocess
from pathlib import Path

import pytest

pytest.importorskip("playwright")

PARTS = Path(__file__).with_name("browser_parts")


@pytest.mark.parametrize("name", sorted(path.name for path in PARTS.glob("*.test.mjs")))
def test_a_part_keeps_its_promises(name):
    from playwright._impl._driver import compute_driver_executable  # Playwright brings a Node.js along

    node = compute_driver_executable()[0]
    ran = subprocess.run([node, "--test", PARTS / name], capture_output=True, text=True, timeout=60, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "tests 0" not in ran.stdout
