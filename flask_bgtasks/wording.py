"""Words that many messages share: numbers with their nouns, hints at a misspelt name, what an address has to be.

Knows no other module of the package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NO_REDIS_ADDRESS = (
    "expected an address that redis-py takes, such as redis://:password@host:6379/0. Special characters of a password "
    "are written as in every URL (%40 for @, %2F for /), and options are those of redis-py"
)
"""Said without the address, and without redis-py's own words: both may have the password in them."""


NO_DATABASE_URL = (
    "expected an URL that SQLAlchemy takes, such as postgresql+psycopg://user:password@host:5432/app, with special "
    "characters of a password as in every URL (%40 for @, %2F for /)"
)
"""As the above, of SQLAlchemy's words."""


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The second half of a "no such …" message: the closest known name, then all of them."""
    names = sorted(known)
    return f"{nearest(name, names)} Known here: {', '.join(names) or 'none'}.".lstrip()


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: ``1 task``, ``2 tasks``, ``3 deliveries``. :param plural: where it is not noun + s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The closest known name, as a sentence with a space before it; nothing where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
