"""A view, and decorators of it, for the tests of what is found in them and what becomes of it in a run."""

import functools


def traced(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return ["traced", *f(*args, **kwargs)]

    return wrapper


def unnamed(f):  # no functools.wraps
    def wrapper(*args, **kwargs):
        return ["unnamed", *f(*args, **kwargs)]

    return wrapper


def view():
    return ["view"]
