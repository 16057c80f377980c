"""Makes a lesson of a text, in eight steps. It knows nothing of Flask: outside a task it runs just the same.

Everything that flask-bgtasks needs from a pipeline is on this page: ``checkpoint`` names what is being done and keeps
what came of it, ``track`` says how far it is, ``current_task`` gives out the story while it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from flask_bgtasks import checkpoint, current_task, track

from .keywords import find_keywords, in_turn, lesson_keywords, with_title
from .lecture import make_lecture, make_part
from .lesson import Block, Part, Section, Story
from .outline import outline
from .pace import Pace
from .pictures import paint
from .quiz import make_quiz
from .reading import read
from .summary import key_sentences
from .writers import Writer

Json = dict[str, Any]

STEPS = ["Read", "Outline", "Keywords", "Summarise", "Write story", "Lecture", "Quiz", "Illustrate"]

READING_WORDS_PER_MINUTE = 220
KEY_SENTENCES = 4
STORY_WORDS = 110  # for each section, about: what the story's progress is measured by
STORY_PIECE = 0.06  # of the pace's unit, for a word or a model's token


def make_lesson(text: str, *, writer: Writer, pace: Pace | None = None) -> dict[str, Any]:
    """Turn a text into a lesson.

    Each step's value is stored. Should the server die in the middle, the next one goes on with the step that was cut
    off, and finds the values of those before.

    :param text: English prose, from a sentence to a book's chapter.
    :param writer: who writes its summaries, story and notes.
    :param pace: how long to dwell on each unit of work; not at all by default.
    :returns: ``{"title", "blocks", "story", "lecture", …}``, as JSON will have it; see :mod:`example_app.lesson`.
    """
    at = Work(writer, pace or Pace())
    document = checkpoint("Read", at.read, text)
    sections = checkpoint("Outline", at.outline, document)
    sections = checkpoint("Keywords", at.keywords, sections)
    keywords = lesson_keywords(text)
    title = document["title"] or keywords_title(keywords)
    summaries = checkpoint("Summarise", at.summaries, sections)
    story = checkpoint("Write story", at.story, title, sections)
    lecture = checkpoint("Lecture", at.lecture, title, sections)
    quizzes = checkpoint("Quiz", at.quizzes, sections)
    pictures = checkpoint("Illustrate", at.pictures, sections)
    blocks = [block(*parts) for parts in zip(sections, summaries, quizzes, pictures, strict=True)]
    words = sum(Section(**each).words for each in sections)
    return {
        "title": title,
        "written_by": writer.name,
        "keywords": list(keywords),
        "blocks": blocks,
        "story": story,
        "lecture": lecture,
        "source": {"words": words, "sentences": document["sentences"], "sections": len(sections)},
    }


class Work:
    """The steps. What goes in and out is JSON, because it is stored; in between there are the lesson's own classes."""

    def __init__(self, writer: Writer, pace: Pace) -> None:
        self.writer = writer
        self.pace = pace

    def read(self, text: str) -> Json:
        current_task.update(details=f"{len(text):,} characters")
        document = read(text)
        self.pace.wait()
        return {"text": text, "title": document.title, "sentences": len(document.sentences)}

    def outline(self, document: Json) -> list[Json]:
        current_task.update(details=f"{document['sentences']:,} sentences")
        sections = outline(read(document["text"]))
        self.pace.wait()
        return [asdict(section) for section in sections]

    def keywords(self, given: list[Json]) -> list[Json]:
        sections = [Section(**each) for each in given]
        done: list[Section] = []
        for section in self._each(sections):
            found = replace(section, keywords=find_keywords(section, sections))
            found = with_title(found, [other.title for other in done])
            done.append(replace(found, key_sentences=tuple(key_sentences(found.sentences, most=KEY_SENTENCES))))
        return [asdict(section) for section in done]

    def summaries(self, sections: list[Json]) -> list[list[str]]:
        return [list(self.writer.summary(section)) for section in self._each(sections)]

    def story(self, title: str, sections: list[Json]) -> Json:
        pieces: list[str] = []
        words, expected = 0, STORY_WORDS * len(sections)
        current_task.update(details=f"by {self.writer.name}")
        for piece in self.writer.story(title, [Section(**each) for each in sections]):
            current_task.emit(piece)
            pieces.append(piece)
            words += len(piece.split())
            current_task.update(details=f"{words} words, by {self.writer.name}", fraction=min(0.98, words / expected))
            self.pace.wait(STORY_PIECE)
        paragraphs = ("".join(pieces)).split("\n\n")
        return asdict(Story(title, tuple(clean for each in paragraphs if (clean := " ".join(each.split())))))

    def lecture(self, title: str, sections: list[Json]) -> Json:
        parts: list[Part] = []
        for section in self._each(sections):
            starts = sum(part.seconds for part in parts)
            parts.append(make_part(section, self.writer.notes(section), starts=starts))
        return asdict(make_lecture(title, parts))

    def quizzes(self, sections: list[Json]) -> list[list[Json]]:
        words = in_turn([Section(**each) for each in sections])
        return [[asdict(each) for each in make_quiz(section, words)] for section in self._each(sections)]

    def pictures(self, sections: list[Json]) -> list[Json]:
        return [asdict(paint(section)) for section in self._each(sections)]

    def _each(self, sections: Sequence[Section | Json]) -> Iterator[Section]:
        """Go through the sections, saying which one is being worked on, at the demo's pace."""
        for each in track(sections):
            section = each if isinstance(each, Section) else Section(**each)
            place = f"{section.number} of {len(sections)}"
            current_task.update(details=f"{place}: {section.title}" if section.title else place)
            self.pace.wait()
            yield section


def keywords_title(keywords: Sequence[str]) -> str:
    """A title for a text that has none."""
    title = " and ".join(keywords[:2]) or "A short lesson"
    return title[:1].upper() + title[1:]


def block(given: Json, summary: list[str], quiz: list[Json], image: Json) -> Json:
    """One section of the finished lesson; see :class:`example_app.lesson.Block`."""
    section = Section(**given)
    minutes = max(1, round(section.words / READING_WORDS_PER_MINUTE))
    return asdict(Block(section.number, section.title, summary, section.keywords, minutes, quiz, image))
