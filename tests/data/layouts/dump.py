"""Writes what a database holds as SQL: ``dump.py LAYOUT SQLITE_FILE POSTGRESQL_URL``. See README.md."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

NOISE = re.compile(r"^(--.*|SET .*|\\(un)?restrict .*|SELECT pg_catalog\.set_config.*|)\n", re.MULTILINE)
"""What pg_dump says to a client of its own kind, and of the server's version."""


def named(worker_of, text):
    """The text without the name of the machine on which it was made: its processes are another host's everywhere."""
    return re.sub(rf"'{worker_of}:(\d+)(?=[:'])", r"'another-host:\1", text)


layout, file, url = sys.argv[1:]
host = Path("/proc/sys/kernel/hostname").read_text().strip()
with sqlite3.connect(file) as raw:
    (HERE / f"{layout}.sqlite.sql").write_text(named(host, "\n".join(raw.iterdump()) + "\n"))
dumped = subprocess.run(
    ["pg_dump", "--inserts", "--no-owner", "--no-privileges", url], check=True, capture_output=True, text=True
).stdout
(HERE / f"{layout}.postgresql.sql").write_text(named(host, NOISE.sub("", dumped)))
