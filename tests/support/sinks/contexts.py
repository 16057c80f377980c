"""What sinks are given in tests that have no app around them."""

from flask_bgtasks import SinkContext
from flask_bgtasks.settings import Settings


def context_of(store, **given):
    """A context over a store, in which nothing is enqueued and no plugin names webhooks."""
    made = {
        "app_name": "studio",
        "settings": Settings(),
        "enqueue": lambda sink, message: None,
        "webhook_targets": lambda task: [],
        "is_draining": lambda: False,
    }
    return SinkContext(store=store, **{**made, **given})
