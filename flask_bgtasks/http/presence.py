"""Tells whether the client of a waiting answer is still there, where the server lets one see its connection.

Without this a place for streams whose client has gone is found free with the next write that fails: two pings later.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

LOOK_SECONDS = 1.0
"""How often those who wait look whether their client is there."""


def gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether the client has closed its connection; always False where that cannot be seen.

    A client that only shut down its sending side counts as gone, as proxies have it too.

    :param environ: the WSGI environment, from which the socket is taken: gunicorn's and Werkzeug's servers give it.
    """
    connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if type(connection) is not socket.socket:  # a TLS socket cannot peek; a test's fake is none
        return lambda: False

    def look() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    return look
