"""The part of the store protocol for those who upgrade it: the layout of its tables, and what brings it up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a database's tables, as it is, beside the one that this version of the library makes.

    :ivar found: the number of the layout that the database has; None if it has no tables of ours.
    :ivar known: the number of this version's layout.
    :ivar oldest: the oldest layout whose processes may use the tables; None if there are none.
    :ivar missing: the tables, columns (``table.column``) and indexes of this version's layout that are not there.
    """

    found: int | None
    known: int
    oldest: int | None = None
    missing: tuple[str, ...] = ()

    @property
    def newer(self) -> bool:
        """Whether a newer version of the library made it."""
        return self.found is not None and self.found > self.known

    @property
    def older(self) -> bool:
        """Whether it has to be made or upgraded before this version can use it."""
        return self.found is None or self.found < self.known

    @property
    def usable(self) -> bool:
        """Whether this version can use it as it is: complete and of this layout, or of a newer one with room for it."""
        return self.leaves_room if self.newer else not self.older and not self.missing

    @property
    def leaves_room(self) -> bool:
        """Whether a newer layout is one that this version can use; it may have other indexes in the place of ours."""
        return self.oldest is not None and self.oldest <= self.known


class Tables(Protocol):
    """Looks at, makes and upgrades the tables of a store."""

    def layout(self) -> Layout:
        """The layout as it is. Changes and creates nothing. :raises StoreUnavailable: it cannot be read."""

    def upgrade(self) -> Layout:
        """Make the tables, or bring them up to date, in one transaction; the layout before.

        :raises StoreUnusable: a newer version made them.
        :raises StoreUnavailable: they are locked, or the database is unreachable; nothing was changed.
        """

    def statements(self) -> Sequence[str]:
        """What :meth:`upgrade` would execute now, for somebody who executes it by hand; none where nothing is to do.

        :raises StoreUnusable: a newer version made them. :raises StoreUnavailable: they cannot be read.
        """
