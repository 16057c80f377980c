"""Cuts a document into sections that are about one thing each.

Headings are respected. Running text between them is cut where its words change, by dynamic programming over the
similarity of neighbouring sentences (Utiyama and Isahara, "A Statistical Model for Domain-Independent Text
Segmentation", 2001, is the idea; the score here is plainer).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise

import numpy as np

from .lesson import Section
from .reading import Chapter, Document
from .vectors import tf_idf

SECTION_WORDS = 700  # about five minutes of reading aloud
MAX_SECTIONS = 12
MIN_WORDS = 60  # a shorter chapter joins its neighbour
UNIT = 4  # sentences of a paragraph that are never parted
EVENNESS = 0.6  # what a section of unusual length costs, against one whose words differ
MID_PARAGRAPH = 0.2  # what it costs to begin a section in the middle of a paragraph


def outline(document: Document) -> list[Section]:
    """The sections of a document, in order; titles that come from no heading are empty as yet."""
    chapters = _merged(list(document.chapters))
    sections: list[tuple[str, Sequence[str]]] = []
    for chapter in chapters:
        count = max(1, round(_words(chapter.sentences) / _section_words(document)))
        for index, sentences in enumerate(cut(chapter.paragraphs, count)):
            sections.append((chapter.heading or "" if index == 0 else "", sentences))
    return [Section(number, title, tuple(sentences)) for number, (title, sentences) in enumerate(sections, start=1)]


def cut(paragraphs: Sequence[Sequence[str]], count: int) -> list[Sequence[str]]:
    """Cut paragraphs into ``count`` stretches of sentences, each as coherent and as even as can be had."""
    starts_inside = [start > 0 for paragraph in paragraphs for start in range(0, len(paragraph), UNIT)]
    units = [paragraph[at : at + UNIT] for paragraph in paragraphs for at in range(0, len(paragraph), UNIT)]
    count = min(count, len(units))
    if count < 2:
        return [list(chain.from_iterable(units))]
    total = len(units)
    vectors = tf_idf([" ".join(unit) for unit in units])
    sums = np.vstack([np.zeros(vectors.shape[1]), np.cumsum(vectors, axis=0)])
    lengths = np.concatenate([[0], np.cumsum([_words(unit) for unit in units])])
    fair = lengths[-1] / count
    inside = np.array(starts_inside, dtype=float)

    best = np.full((count + 1, total + 1), np.inf)
    back = np.zeros((count + 1, total + 1), dtype=int)
    best[0, 0] = 0
    for end in range(1, total + 1):
        starts = np.arange(end)
        # How far the units from each start to here stand from their common direction; 0 if they are all alike.
        spread = (end - starts) - np.linalg.norm(sums[end] - sums[starts], axis=1)
        uneven = ((lengths[end] - lengths[starts]) / fair - 1) ** 2
        cost = spread / total * count + EVENNESS * uneven + MID_PARAGRAPH * inside[starts]
        for parts in range(1, count + 1):
            through = best[parts - 1, starts] + cost
            back[parts, end] = int(np.argmin(through))
            best[parts, end] = through[back[parts, end]]

    ends = [total]
    for parts in range(count, 0, -1):
        ends.append(int(back[parts, ends[-1]]))
    ends.reverse()
    return [list(chain.from_iterable(units[start:end])) for start, end in pairwise(ends)]


def _merged(chapters: list[Chapter]) -> list[Chapter]:
    """Chapters, the smallest joined to a neighbour until none is too small and they are not too many."""
    while len(chapters) > 1:
        sizes = [_words(chapter.sentences) for chapter in chapters]
        small = sizes.index(min(sizes))
        if sizes[small] >= MIN_WORDS and len(chapters) <= MAX_SECTIONS:
            break
        left = small - 1 if small == len(sizes) - 1 or (small and sizes[small - 1] < sizes[small + 1]) else small
        first, second = chapters[left], chapters[left + 1]
        chapters[left : left + 2] = [Chapter(first.heading or second.heading, first.paragraphs + second.paragraphs)]
    return chapters


def _section_words(document: Document) -> float:
    return max(SECTION_WORDS, _words(document.sentences) / MAX_SECTIONS)


def _words(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)
