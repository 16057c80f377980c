"""One decorator of a view, as :mod:`.layers` finds it and :mod:`.passage` meets it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Layer:
    """One decorator of a view.

    :ivar number: its place, outermost first; methods of a class-based view and their decorators come after the class's.
    :ivar name: the decorator, for messages.
    :ivar guard: it only judges the request.
    :ivar cache: it may have the answer already.
    """

    number: tuple[int, int]
    name: str
    guard: bool
    cache: bool = False
