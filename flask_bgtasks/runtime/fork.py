"""Resets objects in a forked child: threads, locks and connections belong to the parent."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

from .server import patch_in_fork

os.register_at_fork(after_in_child=patch_in_fork)  # first: what the others make anew is made of greenlets' parts


def after_fork_in_child(reset: Callable[[], None]) -> None:
    """Have a bound method called in every child that this process forks, for as long as its object lives.

    Servers fork after the app is made (``gunicorn --preload``): threads do not follow, and a lock may be held for ever.
    """
    method = weakref.WeakMethod(reset)

    def run() -> None:
        alive = method()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=run)
