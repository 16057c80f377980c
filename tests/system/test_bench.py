"""`make bench` begins, measures and prints. Its figures are nobody's business here."""

import json
import subprocess
import sys


def test_the_bench_prints_its_rows_and_writes_them(tmp_path):
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "update,submit", "--peers", "none", "--rounds", "1"]
    ran = subprocess.run([*command, "--json", results], capture_output=True, text=True, timeout=300, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "one progress report" in ran.stdout
    assert json.loads(results.read_text())
