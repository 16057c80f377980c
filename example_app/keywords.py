"""What a text is about: YAKE proposes phrases, their spread over the sections says which are telling."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from yake import KeywordExtractor

from .lesson import Section
from .vectors import STOPWORDS, terms

CANDIDATES = 40
ENOUGH = 4  # candidates that look like nouns; with fewer, the others are taken too
PER_SECTION = 6
DETERMINERS = "an?|the|this|that|these|those|of|its?|his|her|their|our|my|your|some|no|each|every"
FUNCTION_WORDS = (
    "is|are|was|were|be|has|have|had|of|in|on|at|to|by|for|from|with|into|as|and|or|but|that|which|who|when|where|"
    "can|could|will|would|may|might|must|shall|should|does|do|did|than|then|so|if|because|through|over|under|you|it|we"
)
# Words that stand in every text and say nothing about this one.
WEAK_WORDS = (
    "thing things part parts kind sort time times way ways made make makes place point end number case fact "
    "subject manner matter great good little large small long man men day days year years hand present called "
    "give given find found side two three four five first second back"
)
WEAK = frozenset(WEAK_WORDS.split())


def find_keywords(section: Section, sections: Sequence[Section], *, most: int = PER_SECTION) -> tuple[str, ...]:
    """The phrases that say best what a section is about, compared with the other sections."""
    texts = [_flat(other.text) for other in sections]
    here = _flat(section.text)
    scored: list[tuple[float, str]] = []
    for phrase in candidates(section.text):
        flat = _flat(phrase)
        spread = sum(flat in text for text in texts)
        count = here.count(flat)
        if count:
            telling = math.log((1 + len(texts)) / max(1, spread)) if len(texts) > 1 else 1.0
            scored.append((math.sqrt(count) * (0.3 + telling) * (1 + 0.3 * phrase.count(" ")), phrase))
    scored.sort(key=lambda pair: -pair[0])
    return tuple(_distinct(phrase for _, phrase in scored))[:most]


def candidates(text: str, *, most: int = CANDIDATES) -> list[str]:
    """YAKE's keywords of a text, as they are written in running text, weak ones left out."""
    extractor = KeywordExtractor(lan="en", n=2, dedupLim=0.8, top=most)
    phrases = [_lowered(str(phrase), text) for phrase, _ in extractor.extract_keywords(text)]
    telling = [phrase for phrase in phrases if _is_telling(phrase)]
    nouns = [phrase for phrase in telling if _is_used_as_a_noun(phrase, text)]
    return nouns if len(nouns) >= ENOUGH else telling or _plain_words(text)


def lesson_keywords(text: str, *, most: int = 8) -> tuple[str, ...]:
    """What the whole text is about."""
    return tuple(_distinct(candidates(text)))[:most]


def in_turn(sections: Sequence[Section]) -> list[str]:
    """All sections' keywords: the first of each, then the second of each, and so on."""
    ranks = range(max((len(section.keywords) for section in sections), default=0))
    return [section.keywords[rank] for rank in ranks for section in sections if rank < len(section.keywords)]


def with_title(section: Section, taken: Iterable[str]) -> Section:
    """The section under its heading, or under its keywords where it has none."""
    if section.title:
        return section
    used = {title.lower() for title in taken}
    fresh = [word for word in section.keywords if not any(word.lower() in title for title in used)]
    title = " and ".join((fresh or list(section.keywords))[:2]) or f"Part {section.number}"
    return replace(section, title=title[:1].upper() + title[1:])


def _is_telling(phrase: str) -> bool:
    words = phrase.lower().split()
    return (
        bool(words)
        and not any(word in WEAK or word in STOPWORDS or word.endswith("ly") for word in words)
        and all(len(word) > 2 and re.fullmatch(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", word) for word in words)
    )


def _is_used_as_a_noun(phrase: str, text: str) -> bool:
    """Whether the text has it behind an article or the like and before a word that is no noun: "the wick of"."""
    if phrase[0].isupper():
        return True
    if " " in phrase and phrase.endswith(("ed", "ing")):
        return False
    ends = rf"(?=\s+(?:{FUNCTION_WORDS})\b|[^\w\s])"
    begins = r"\b(?:an?|the)\s+" if phrase.endswith("ing") else rf"\b(?:{DETERMINERS})\s+(?:\w+\s+)?"
    return re.search(rf"{begins}{re.escape(phrase)}{ends}", text, re.IGNORECASE) is not None


def _plain_words(text: str) -> list[str]:
    return [word for word in dict.fromkeys(terms(text)) if word not in WEAK][:CANDIDATES]


def _distinct(phrases: Iterable[str]) -> list[str]:
    """Phrases, those left out that say the same as an earlier one in other words."""
    kept: list[str] = []
    for phrase in phrases:
        stems = set(terms(phrase)) or {phrase}
        if not any(stems <= (set(terms(other)) or {other}) or stems >= set(terms(other)) for other in kept):
            kept.append(phrase)
    return kept


def _lowered(phrase: str, text: str) -> str:
    """A phrase in lower case, unless the text never writes it so (a name)."""
    return phrase.lower() if re.search(rf"\b{re.escape(phrase.lower())}\b", text) else phrase


def _flat(text: str) -> str:
    return f" {' '.join(terms(text))} "
