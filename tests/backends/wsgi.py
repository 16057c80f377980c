"""An app behind a real server, Werkzeug's, in a thread of the test's process."""

import contextlib
import threading

from werkzeug.serving import WSGIRequestHandler, make_server

PATIENCE = 20.0


class _Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


@contextlib.contextmanager
def served(app, *, port=0):
    """The app on a port of its own; gives the server, whose `url` is where it stands."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
