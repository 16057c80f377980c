"""``python -m example_app``: the demo on Flask's own server."""

import os

from .app import create_app

create_app().run(host="127.0.0.1", port=int(os.environ.get("PORT", "5000")), threaded=True)
