"""Puts a clock to the speaker's notes: when each part begins, and how long it takes."""

from __future__ import annotations

import math

from .lesson import Lecture, Part, Section
from .writers.offline import question_for

WORDS_PER_MINUTE = 130  # unhurried speech
QUESTION_SECONDS = 30  # for the listeners' answers
ROUNDING = 5  # seconds


def make_part(section: Section, notes: tuple[str, ...], *, starts: int) -> Part:
    """The part of a lecture that covers a section.

    :param starts: seconds from the lecture's beginning.
    """
    spoken = sum(len(note.split()) for note in notes) / WORDS_PER_MINUTE * 60
    seconds = math.ceil((spoken + QUESTION_SECONDS) / ROUNDING) * ROUNDING
    return Part(section.number, section.title, clock(starts), seconds, notes, question_for(section))


def make_lecture(title: str, parts: list[Part]) -> Lecture:
    """The whole lecture."""
    return Lecture(title, math.ceil(sum(part.seconds for part in parts) / 60), tuple(parts))


def clock(seconds: int) -> str:
    """``95`` is ``1:35``."""
    return f"{seconds // 60}:{seconds % 60:02d}"
