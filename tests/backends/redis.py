"""A Redis server for the tests: on a port of its own, keeping nothing on disk, that tests may also kill and empty."""

import shutil
import signal
import socket
import subprocess
from contextlib import suppress

import pytest

from tests.backends import free_port, missing
from tests.support.waiting import until


class Redis:
    """A server on one port of the loopback."""

    def __init__(self):
        program = shutil.which("redis-server")
        if program is None:
            missing("Redis", "tests/backends/install.sh redis")
        self._program = program
        self._port = free_port()
        self._process = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self):
        """Start it, and wait until it answers."""
        words = [self._program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self._says("PING") == "+PONG", says=lambda: "Redis does not answer")

    def empty(self):
        """Forget everything."""
        assert self._says("FLUSHALL") == "+OK"

    def kill(self):
        """End it at once; what it had is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self):
        """Stop it as it stands: nothing is answered, nothing fails."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self):
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _says(self, command):
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(100).decode().strip()
        return None


@pytest.fixture
def redis():
    """A server that runs, and is empty."""
    server = Redis()
    server.start()
    yield server
    server.kill()
