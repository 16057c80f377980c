"""Turns pasted text into chapters of clean sentences.

Undoes what copying leaves behind: hard line breaks, footnote marks, captions, typewriter dashes. Headings become the
titles of chapters. Splits sentences with sentencex, which carries its rules with it and downloads nothing.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import sentencex

MAX_SENTENCE = 90  # words; a transcript without full stops is cut into pieces of this size
MAX_HEADING = 90  # characters
STRETCH = 2_000  # characters that are looked at together for where sentences end
MAX_WORD = 80  # characters; what is longer is no word, and is broken up
SMALL_WORDS = {
    "a",
    "an",
    "and",
    "as",
    "at",
    "but",
    "by",
    "for",
    "from",
    "in",
    "nor",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
}

# Each is read in time that grows with the text, whatever the text is: anybody may paste anything.
LEFTOVERS = re.compile(r"\[(?:\d{1,3}|(?:illustration|image|picture|figure)\b[^\[\]]*)\]", re.IGNORECASE)
BLANK_LINES = re.compile(r"\n\s*\n")
DASHES = re.compile(r"--+")
LONG_WORD = re.compile(rf"\S{{{MAX_WORD}}}(?=\S)")
HASHED = re.compile(r"^(#{1,6} .*)$", re.MULTILINE)
ENDS_SENTENCE = re.compile(r"""[.!?…]["'”’)\]]*$""")

EMPHASIS = ("**", "__", "_", "*")
EMPHASIS_OPENS = re.compile(r"(?<!\w)(?=[*_])")
EMPHASIS_CLOSES = {mark: re.compile(rf"(?<=\S)(?={re.escape(mark)}(?!\w))") for mark in EMPHASIS}


@dataclass(frozen=True, slots=True)
class Chapter:
    """Text under one heading, or all of it where there is none."""

    heading: str | None
    paragraphs: tuple[tuple[str, ...], ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(self.paragraphs))


@dataclass(frozen=True, slots=True)
class Document:
    """A text that was read: its title, if it has one, and its chapters in order."""

    title: str | None
    chapters: tuple[Chapter, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(chapter.sentences for chapter in self.chapters))


def read(raw: str) -> Document:
    """Read pasted text.

    :returns: the document; a first heading that another heading follows is its title. Without a word of running
        text, what there is becomes one chapter.
    """
    title: str | None = None
    heading: str | None = None
    chapters: list[Chapter] = []
    texts: list[tuple[str, ...]] = []  # of the chapter that is being read
    for paragraph in paragraphs(raw):
        found = as_heading(paragraph)
        if found is None:
            texts.append(tuple(split_sentences(paragraph)))
        elif texts:
            chapters.append(Chapter(heading, tuple(texts)))
            heading, texts = found, []
        else:
            title, heading = title or heading, found
    if texts:
        chapters.append(Chapter(heading, tuple(texts)))
    if len(chapters) == 1:  # the one heading of a short text is its title
        title, chapters = title or chapters[0].heading, [Chapter(None, chapters[0].paragraphs)]
    if not chapters:
        chapters = [Chapter(None, tuple((paragraph,) for paragraph in paragraphs(raw)))]
    return Document(title, tuple(chapters))


def paragraphs(raw: str) -> list[str]:
    """The text's paragraphs, each on one line, without what copying left in it."""
    text = unicodedata.normalize("NFC", raw).replace("\r\n", "\n").replace("\r", "\n").replace("\u00ad", "")
    text = "".join(char if char in "\n\t" or unicodedata.category(char) != "Cc" else " " for char in text)
    text = _dashes(without_emphasis(LEFTOVERS.sub("", text)))
    text = LONG_WORD.sub(r"\g<0> ", text)
    if not BLANK_LINES.search(text.strip()) and _mean_line(text) > 120:
        text = text.replace("\n", "\n\n")  # an editor's paragraphs: one line each
    text = HASHED.sub(r"\n\1\n", text)
    return [line for part in BLANK_LINES.split(text) if (line := " ".join(part.split()))]


def without_emphasis(text: str) -> str:
    """The text without the marks of ``*emphasis*``; each opening one goes with the next of its kind that closes."""
    closing = {mark: [found.start() for found in pattern.finditer(text)] for mark, pattern in EMPHASIS_CLOSES.items()}
    kept, done = [], 0
    for found in EMPHASIS_OPENS.finditer(text):
        start = found.start()
        if start < done:
            continue
        for mark in EMPHASIS:
            inner = start + len(mark)
            if not text.startswith(mark, start) or not text[inner : inner + 1].strip():
                continue
            following = bisect_left(closing[mark], inner + 1)
            if following < len(closing[mark]):
                end = closing[mark][following]
                kept += [text[done:start], text[inner:end]]
                done = end + len(mark)
                break
    return "".join(kept) + text[done:]


def _dashes(text: str) -> str:
    """With typewriter dashes as dashes, close to their words."""
    parts = DASHES.split(text)
    parts[:-1] = [part.rstrip() for part in parts[:-1]]
    parts[1:] = [part.lstrip() for part in parts[1:]]
    return "—".join(parts)


def as_heading(paragraph: str) -> str | None:
    """The heading that a paragraph is, None if it is running text."""
    if paragraph.startswith("#"):
        return paragraph.lstrip("#").strip() or None
    if len(paragraph) > MAX_HEADING or not any(char.isalpha() for char in paragraph):
        return None
    if paragraph.isupper():
        return sentence_case(paragraph.rstrip("."))
    if ENDS_SENTENCE.search(paragraph) or paragraph[-1] in ",;:—" or not paragraph[0].isupper():
        return None
    return paragraph if len(paragraph.split()) <= 10 else None


def sentence_case(shouted: str) -> str:
    """A title in capitals, as one would write it: ``THE HISTORY OF A CANDLE`` is ``The History of a Candle``."""
    words = shouted.replace("—", " — ").lower().split()
    return " ".join(
        word if word in SMALL_WORDS and index and words[index - 1][-1] not in ":—" else _capital(word)
        for index, word in enumerate(words)
    )


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; very long ones in pieces."""
    pieces: list[str] = []
    for sentence in _segments(paragraph):
        words = sentence.split()
        if pieces and len(words) < 3 and not ENDS_SENTENCE.search(pieces[-1][-20:]):
            pieces[-1] += " " + " ".join(words)
            continue
        at = 0
        while len(words) - at > MAX_SENTENCE:
            piece = words[at : at + MAX_SENTENCE]
            cut = _pause(piece)
            pieces.append(" ".join(piece[:cut]))
            at += cut
        if at < len(words):
            pieces.append(" ".join(words[at:]))
    return pieces


def _segments(paragraph: str) -> Iterator[str]:
    """What sentencex finds, which is given a stretch at a time: its time grows with the square of what it is given."""
    start = 0
    while len(paragraph) - start > STRETCH:
        space = paragraph.rfind(" ", start, start + STRETCH)
        found = list(sentencex.segment("en", paragraph[start : space + 1 if space > start else start + STRETCH]))
        if len(found) > 1:
            found.pop()  # it may go on: it is the next stretch's first
        yield from found
        start += sum(map(len, found))
    yield from sentencex.segment("en", paragraph[start:])


def _pause(words: list[str]) -> int:
    """Where to cut a long sentence: behind the last semicolon or comma of its first half, if there is one."""
    half = range(MAX_SENTENCE - 1, MAX_SENTENCE // 2, -1)
    for marks in (";:", ","):
        for index in half:
            if words[index][-1] in marks:
                return index + 1
    return MAX_SENTENCE


def _mean_line(text: str) -> float:
    lines = [line for line in text.split("\n") if line.strip()]
    return sum(map(len, lines)) / len(lines) if lines else 0


def _capital(word: str) -> str:
    """A word with a capital; Roman numerals stay as they are written."""
    if re.fullmatch(r"[ivxlc]+", word) and word != "i":
        return word.upper()
    return word[:1].upper() + word[1:]
