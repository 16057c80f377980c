"""What an import costs, and what it must not pull in."""

import json
import subprocess
import sys

OPTIONAL = [
    "psycopg",
    "flask_login",
    "pytest",
    "firebase_admin",
    "celery",
    "redis",
    "httpx",
    "asgiref",
    "grpc",
    "google.auth",
]


def python(code):
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout)


def test_importing_the_package_needs_no_extra():
    loaded = python("import sys, json, flask_bgtasks; print(json.dumps(sorted(sys.modules)))")

    assert [name for name in OPTIONAL if name in loaded] == []


def test_importing_the_package_adds_few_modules_of_others():
    """The budget is 60 ms over Flask and SQLAlchemy; time is measured by `make bench`, here what takes the time."""
    code = """
import json, sys
import flask, sqlalchemy
before = set(sys.modules)
import flask_bgtasks
print(json.dumps(sorted(m for m in set(sys.modules) - before if not m.startswith("flask_bgtasks"))))
"""
    added = python(code)

    assert len(added) < 60, added
    assert not any(name.startswith("sqlalchemy.dialects") for name in added)
