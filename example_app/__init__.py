"""The lesson studio: a small Flask app whose ``POST /process`` turns a text into a lesson, in the background.

``flask --app example_app run`` or ``gunicorn 'example_app:create_app()'``.
"""

from .app import bgtasks, create_app

__all__ = ["bgtasks", "create_app"]
