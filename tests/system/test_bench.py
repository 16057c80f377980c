"""`make bench` begins, measures and prints. Its figures are nobody's business here."""

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.backends import missing, postgresql_programs
from tests.benchmarks.scale.plots import plot
from tests.benchmarks.scale.section import Size

PATIENCE_SECONDS = 400

pytestmark = pytest.mark.timeout(PATIENCE_SECONDS + 30)


def test_the_bench_prints_its_rows_and_writes_them(tmp_path):
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "update,submit", "--peers", "none", "--rounds", "1"]
    ran = subprocess.run([*command, "--json", results], capture_output=True, text=True, timeout=300, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "one progress report" in ran.stdout
    assert json.loads(results.read_text())


def test_the_bench_measures_scale_and_its_figures_fill_the_page(tmp_path):
    if postgresql_programs() is None:
        missing("PostgreSQL", "tests/backends/install.sh postgresql")
    if shutil.which("redis-server") is None:
        missing("Redis", "tests/backends/install.sh redis")
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "scale", "--peers", "none", "--json", results]
    size = "processes=1,ended=200,setups=0+1,streams=3,seconds=1,writes=0"
    ran = subprocess.run(
        [*command, "--scale", size], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    (scale,) = json.loads(results.read_text())["sections"]
    assert {row["setup"]: row["failed"] for row in scale["rows"]} == {"SQLite": None, "PostgreSQL": None}
    assert all(min(row["submissions"], row["polls"], row["completions"]) > 0 for row in scale["rows"])
    assert [row["streams"] for row in scale["streams"]] == [3, 3], ran.stdout

    for folder in ("explanation", "_static"):
        (tmp_path / folder).mkdir()
    subprocess.run([sys.executable, "-m", "tests.benchmarks.scale.page", results, tmp_path], check=True)

    assert "| PostgreSQL | 1 | 200 |" in (tmp_path / "explanation" / "capacity-figures.md").read_text()
    for picture in (tmp_path / "_static").iterdir():
        assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_the_bench_measures_postgresql_alone_without_the_peers_that_are_not_here(tmp_path):
    if postgresql_programs() is None:
        missing("PostgreSQL", "tests/backends/install.sh postgresql")
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "postgresql", "--peers", "none", "--rounds", "1"]
    ran = subprocess.run(
        [*command, "--json", results], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    rows = [section["rows"]["ours"] for section in json.loads(results.read_text())["sections"]]
    assert [row["failed"] for row in rows] == [None, None]


@pytest.mark.parametrize(("highest", "step"), [(0.07, 0.02), (1, 0.2), (7, 2), (11, 4), (201, 50), (39_000, 8_000)])
def test_the_axis_of_a_plot_has_round_numbers(highest, step):
    svg = plot("Title", "across", {"a": [(1, highest)]})

    assert f">{step:,.6g}<" in svg
    assert f">{5 * step:,.6g}<" in svg


def test_all_cells_of_a_full_grid_and_those_of_a_usual_one():
    size = Size.parse("processes=1+2+4,ended=0+100")

    assert list(size.cells()) == [(0, 1), (0, 2), (0, 4), (100, 2)]
    assert len(list(Size.parse("full=1").cells())) == 9
