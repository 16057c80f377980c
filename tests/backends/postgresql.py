"""A PostgreSQL server for the tests: a temporary cluster of this session (of each xdist worker), gone afterwards.

It listens on a Unix socket in a folder of its own and on no port, so nothing can collide with it or reach it. It never
syncs to disk: these tests kill clients, not the server's power.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends import missing

START_SECONDS = 60


@pytest.fixture(scope="session")
def postgresql_url(new_postgresql_database: Callable[[], str]) -> str:
    """The SQLAlchemy URL of one database, shared by the tests of this process. It starts empty."""
    return new_postgresql_database()


@pytest.fixture(scope="session")
def new_postgresql_database(postgresql_folder: Path) -> Callable[[], str]:
    """Call it for the URL of an empty database of one's own (about 30 ms)."""
    psycopg = pytest.importorskip("psycopg")
    numbers = itertools.count(1)

    def create() -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(
            host=str(postgresql_folder), user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://postgres@/{name}?host={postgresql_folder}"

    return create


@pytest.fixture(scope="session")
def postgresql_folder() -> Iterator[Path]:
    """The folder of a running cluster; its socket lies there."""
    programs = _programs()
    if programs is None:
        missing("PostgreSQL", "tests/backends/install.sh postgresql")
    if shutil.which("setpriv") is None:
        missing("setpriv", "it is part of Debian's util-linux")

    folder = Path(tempfile.mkdtemp(prefix="bgtasks-pg-"))  # pytest's own folders are closed to other users
    try:
        with _running(programs, folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(programs: Path, folder: Path) -> Iterator[None]:
    prefix = ["setpriv", "--pdeathsig", "INT"]  # however this process ends, the server ends with it
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = _unprivileged()
        prefix += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    data = folder / "data"

    initdb = [*prefix, programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
    made = subprocess.run(
        [*initdb, "--locale=C"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if made.returncode:
        pytest.fail(f"initdb failed:\n{made.stdout}", pytrace=False)

    options = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off", "full_page_writes": "off"}
    command = [*prefix, programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait_until_ready(programs, folder, server)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # "fast": disconnects clients, does not wait for them
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(programs: Path, folder: Path, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while subprocess.run([programs / "pg_isready", "-q", "-h", folder], check=False).returncode:
        if server.poll() is not None or time.monotonic() > until:
            pytest.fail(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}", pytrace=False)
        time.sleep(0.05)


def _programs() -> Path | None:
    """Where initdb and postgres lie: Debian keeps them off the PATH, one folder per version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return missing("an unprivileged user", "root cannot run PostgreSQL; neither 'postgres' nor 'nobody' exists here")
