"""Makes a lesson of a text, in eight steps. It knows nothing of Flask: outside a task it runs just the same.

Everything that flask-bgtasks needs from a pipeline is on this page: ``step`` names what is being done, ``track`` says
how far it is, ``current_task`` gives out the story while it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from flask_bgtasks import current_task, step, track

from .keywords import find_keywords, in_turn, lesson_keywords, with_title
from .lecture import make_lecture, make_part
from .lesson import Block, Lecture, Lesson, Part, Picture, Question, Section, Story
from .outline import outline
from .pace import Pace
from .pictures import paint
from .quiz import make_quiz
from .reading import Document, read
from .summary import key_sentences
from .writers import Writer

STEPS = ["Read", "Outline", "Keywords", "Summarise", "Write story", "Lecture", "Quiz", "Illustrate"]

READING_WORDS_PER_MINUTE = 220
KEY_SENTENCES = 4
STORY_WORDS = 110  # for each section, about: what the story's progress is measured by
STORY_PIECE = 0.06  # of the pace's unit, for a word or a model's token


def make_lesson(text: str, *, writer: Writer, pace: Pace | None = None) -> dict[str, Any]:
    """Turn a text into a lesson.

    :param text: English prose, from a sentence to a book's chapter.
    :param writer: who writes its summaries, story and notes.
    :param pace: how long to dwell on each unit of work; not at all by default.
    :returns: ``{"title", "blocks", "story", "lecture", …}``, as JSON will have it; see :mod:`example_app.lesson`.
    """
    at = Work(writer, pace or Pace())
    with step("Read", details=f"{len(text):,} characters"):
        document = read(text)
        at.pace.wait()
    with step("Outline", details=f"{len(document.sentences):,} sentences"):
        sections = outline(document)
        at.pace.wait()
    with step("Keywords"):
        sections, keywords = at.keywords(sections, text)
        title = document.title or keywords_title(keywords)
    with step("Summarise"):
        sections, summaries = at.summaries(sections)
    with step("Write story", details=f"by {writer.name}"):
        story = at.story(title, sections)
    with step("Lecture"):
        lecture = at.lecture(title, sections)
    with step("Quiz"):
        quizzes = at.quizzes(sections)
    with step("Illustrate"):
        pictures = at.pictures(sections)
    blocks = [_block(*parts) for parts in zip(sections, summaries, quizzes, pictures, strict=True)]
    lesson = Lesson(title, writer.name, keywords, tuple(blocks), story, lecture, _measured(document, sections))
    return asdict(lesson)


class Work:
    """The steps that go through the lesson's sections one by one."""

    def __init__(self, writer: Writer, pace: Pace) -> None:
        self.writer = writer
        self.pace = pace

    def keywords(self, sections: list[Section], text: str) -> tuple[list[Section], tuple[str, ...]]:
        done: list[Section] = []
        for section in self._each(sections):
            found = replace(section, keywords=find_keywords(section, sections))
            done.append(with_title(found, [other.title for other in done]))
        return done, lesson_keywords(text)

    def summaries(self, sections: list[Section]) -> tuple[list[Section], list[tuple[str, ...]]]:
        done, summaries = [], []
        for section in self._each(sections):
            key = tuple(key_sentences(section.sentences, most=KEY_SENTENCES))
            done.append(replace(section, key_sentences=key))
            summaries.append(self.writer.summary(section))
        return done, summaries

    def story(self, title: str, sections: list[Section]) -> Story:
        pieces: list[str] = []
        words, expected = 0, STORY_WORDS * len(sections)
        for piece in self.writer.story(title, sections):
            current_task.emit(piece)
            pieces.append(piece)
            words += len(piece.split())
            current_task.update(details=f"{words} words, by {self.writer.name}", fraction=min(0.98, words / expected))
            self.pace.wait(STORY_PIECE)
        paragraphs = ("".join(pieces)).split("\n\n")
        return Story(title, tuple(clean for paragraph in paragraphs if (clean := " ".join(paragraph.split()))))

    def lecture(self, title: str, sections: list[Section]) -> Lecture:
        parts: list[Part] = []
        for section in self._each(sections):
            starts = sum(part.seconds for part in parts)
            parts.append(make_part(section, self.writer.notes(section), starts=starts))
        return make_lecture(title, parts)

    def quizzes(self, sections: list[Section]) -> list[tuple[Question, ...]]:
        words = in_turn(sections)
        return [make_quiz(section, words) for section in self._each(sections)]

    def pictures(self, sections: list[Section]) -> list[Picture]:
        return [paint(section) for section in self._each(sections)]

    def _each(self, sections: Sequence[Section]) -> Iterator[Section]:
        """Go through the sections, saying which one is being worked on, at the demo's pace."""
        for section in track(sections):
            place = f"{section.number} of {len(sections)}"
            current_task.update(details=f"{place}: {section.title}" if section.title else place)
            self.pace.wait()
            yield section


def keywords_title(keywords: Sequence[str]) -> str:
    """A title for a text that has none."""
    title = " and ".join(keywords[:2]) or "A short lesson"
    return title[:1].upper() + title[1:]


def _block(section: Section, summary: tuple[str, ...], quiz: tuple[Question, ...], image: Picture) -> Block:
    minutes = max(1, round(section.words / READING_WORDS_PER_MINUTE))
    return Block(section.number, section.title, summary, section.keywords, minutes, quiz, image)


def _measured(document: Document, sections: Sequence[Section]) -> dict[str, int]:
    return {
        "words": sum(section.words for section in sections),
        "sentences": len(document.sentences),
        "sections": len(sections),
    }
