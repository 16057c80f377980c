"""Keeps tasks in an SQL database: SQLite by default, PostgreSQL for more than one machine."""

from .store import SqlStore

__all__ = ["SqlStore"]
