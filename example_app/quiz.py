"""Cloze questions: a sentence of the text with its keyword left out, among other keywords of the lesson."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from random import Random

from .lesson import Question, Section
from .vectors import terms

GAP = "_____"
CHOICES = 4
PER_SECTION = 2
GOOD_LENGTH = range(6, 36)  # words


def make_quiz(section: Section, words: Sequence[str], *, most: int = PER_SECTION) -> tuple[Question, ...]:
    """Questions on a section.

    :param words: the keywords of the whole lesson, from which the wrong answers are taken.
    """
    random = Random(f"{section.number}/{section.title}")
    questions: list[Question] = []
    used: set[str] = set()
    for answer in section.keywords:
        sentence = _sentence_with(answer, section, used)
        if sentence is None:
            continue
        wrong = _wrong_answers(answer, sentence, [*words, *section.keywords], random)
        if not wrong:
            continue
        choices = [_as_written(answer, sentence), *wrong]
        random.shuffle(choices)
        right = choices.index(_as_written(answer, sentence))
        questions.append(Question(_with_gap(sentence, answer), tuple(choices), right, sentence))
        used.add(sentence)
        if len(questions) == most:
            break
    return tuple(questions)


def _sentence_with(answer: str, section: Section, used: set[str]) -> str | None:
    """A sentence of good length that names the answer once; one of the section's key sentences if there is one."""
    for good in (True, False):
        for sentence in dict.fromkeys([*section.key_sentences, *section.sentences]):
            fits = len(sentence.split()) in GOOD_LENGTH and not sentence.endswith("?")
            if sentence not in used and len(_pattern(answer).findall(sentence)) == 1 and (fits or not good):
                return sentence
    return None


def _wrong_answers(answer: str, sentence: str, words: Iterable[str], random: Random) -> list[str]:
    """Other keywords, those first that look like the answer; none that would fit as well."""
    taken = set(terms(answer)) | set(terms(sentence))
    fitting = [word for word in dict.fromkeys(words) if not taken & set(terms(word))]
    random.shuffle(fitting)
    fitting.sort(key=lambda word: (word.count(" ") != answer.count(" "), word.istitle() != answer.istitle()))
    return fitting[: CHOICES - 1]


def _with_gap(sentence: str, answer: str) -> str:
    return _pattern(answer).sub(GAP, sentence)


def _as_written(answer: str, sentence: str) -> str:
    found = _pattern(answer).search(sentence)
    written = found.group() if found else answer
    return answer if written.lower() == answer.lower() else written


def _pattern(answer: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
