"""Waits for conditions: a sleep in a test is a bug."""

import threading
import time

PATIENCE = 60
"""Seconds until a test that waits for something gives up: far more than anything needs, also on a busy machine."""


def until(look, timeout=PATIENCE, says=lambda: "not in time", every=0.005):
    """The first true answer of ``look()``, which is asked again and again.

    By a clock that no test moves.

    :param timeout: seconds, after which the test fails. :param says: with what words.
    :param every: seconds between two questions; more of them where a question costs a server or a browser something.
    """
    deadline, pause = time.perf_counter() + timeout, threading.Event()
    while not (found := look()):
        assert time.perf_counter() < deadline, says()
        pause.wait(every)
    return found
