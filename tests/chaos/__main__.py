"""A run by hand: ``python -m tests.chaos 60 --store postgresql --engine celery``. Its folder stays if something was
violated.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import digest
from tests.chaos.driver import Run
from tests.chaos.engines import Celery, External, Own, Rq
from tests.chaos.stores import Postgresql, Sqlite

STORES = {"sqlite": Sqlite, "postgresql": Postgresql}
ENGINES = {"own": Own, "external": External, "celery": Celery, "rq": Rq}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("seconds", type=float, nargs="?", default=60)
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--engine", choices=ENGINES, default="own", help="who runs tasks; external: no web process")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rate", type=float, default=6.0, help="tasks that are asked for in a second")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--settle", type=float, default=120)
    parser.add_argument("--mild", action="store_true", help="no sink or receiver raises what ends a thread")
    parser.add_argument("--only", help="kinds of faults, with commas between them")
    parser.add_argument("--plant", help="a fault in the library itself, as tests/chaos/app.py names them")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    options = {name: getattr(asked, name) for name in ("seed", "rate", "workers", "settle", "plant")}
    run = Run(folder / "run", STORES[asked.store], ENGINES[asked.engine], hostile=not asked.mild, **options)
    violations = run.go(asked.seconds, only=asked.only.split(",") if asked.only else None)
    print(run.summary())
    print("\n".join(digest(violations)))
    if violations:
        (folder / "violations.json").write_text(json.dumps(violations, indent=1))
        print(f"see {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(bool(violations))


main()
