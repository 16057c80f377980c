"""What a lesson is made of. Plain data: what the pipeline's parts hand to each other, and what the result holds.

The lesson itself, the result of ``POST /process``: ``title``, ``written_by``, ``keywords``, ``blocks``, ``story``,
``lecture``, and ``source`` with the numbers of its ``words``, ``sentences`` and ``sections``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of the source text that is about one thing."""

    number: int
    title: str
    sentences: tuple[str, ...]
    keywords: tuple[str, ...] = ()
    key_sentences: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.sentences)

    @property
    def words(self) -> int:
        return sum(len(sentence.split()) for sentence in self.sentences)


@dataclass(frozen=True, slots=True)
class Question:
    """A sentence of the text with a gap, and what might stand in it."""

    question: str
    choices: tuple[str, ...]
    answer: int
    explanation: str


@dataclass(frozen=True, slots=True)
class Picture:
    """An illustration, carried in the lesson itself: it is stored, erased and expires with its task."""

    url: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Block:
    """One section of the finished lesson."""

    number: int
    title: str
    summary: tuple[str, ...]
    keywords: tuple[str, ...]
    reading_minutes: int
    quiz: tuple[Question, ...]
    image: Picture


@dataclass(frozen=True, slots=True)
class Story:
    """The lesson, retold."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What the speaker says about one section, and when."""

    number: int
    title: str
    starts_at: str
    seconds: int
    notes: tuple[str, ...]
    ask: str


@dataclass(frozen=True, slots=True)
class Lecture:
    """Speaker's notes with their timing."""

    title: str
    minutes: int
    parts: tuple[Part, ...]
