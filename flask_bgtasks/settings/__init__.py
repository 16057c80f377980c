"""The ``BGTASKS_*`` settings: the table of all of them, and the checks of their values."""

from .table import DEFAULT_STORE, PREFIX, Settings, described

__all__ = ["DEFAULT_STORE", "PREFIX", "Settings", "described"]
