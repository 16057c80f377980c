"""A task's input as a store keeps it, for tests that look when no attempt can be given it any more."""

from flask_bgtasks.stores.sql import SqlStore


def stored_input(store, request_id):
    """The input, its private part joined in. :raises TaskNotFound: no such task."""
    if not isinstance(store, SqlStore):
        return store._load_input(request_id)

    def operation(connection):
        store._select(connection, request_id)
        return store._input(connection, request_id)

    return store._database.read(operation)
