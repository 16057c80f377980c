"""PgBouncer for the tests: before a PostgreSQL of theirs, on a Unix socket in a folder of its own."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.backends import missing, unprivileged
from tests.support.waiting import until

PORT = 6432  # part of the socket's name; nothing listens on a port

CONFIG = """\
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
pool_mode = {mode}
default_pool_size = 10
server_idle_timeout = 1
logfile = {folder}/log
"""


class PgBouncer:
    """A pooler before the server whose socket lies in a folder.

    :param mode: its ``pool_mode``, ``transaction`` or ``session``.
    """

    def __init__(self, server, mode):
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")
        if program is None:
            missing("PgBouncer", "tests/backends/install.sh pgbouncer")
        self._folder = Path(tempfile.mkdtemp(prefix="bgtasks-pgb-"))
        config = self._folder / "pgbouncer.ini"
        config.write_text(CONFIG.format(server=server, folder=self._folder, port=PORT, mode=mode))
        self._folder.chmod(0o755)
        command = [program, "-q", config]
        prefix = ["setpriv", "--pdeathsig", "INT", *unprivileged(self._folder)]
        self._process = subprocess.Popen([*prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until((self._folder / f".s.PGSQL.{PORT}").exists, says=lambda: "PgBouncer does not start")

    def url(self, direct):
        """The URL of a database, through the pooler instead of directly."""
        through = sa.make_url(direct).set(query={"host": str(self._folder), "port": str(PORT)})
        return through.render_as_string(hide_password=False)

    def stop(self):
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pgbouncer(postgresql_folder):
    """Before the tests' PostgreSQL, in transaction mode."""
    pooler = PgBouncer(postgresql_folder, "transaction")
    yield pooler
    pooler.stop()


@pytest.fixture(scope="session")
def session_pgbouncer(postgresql_folder):
    """The same in session mode."""
    pooler = PgBouncer(postgresql_folder, "session")
    yield pooler
    pooler.stop()
