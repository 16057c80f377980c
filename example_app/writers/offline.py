"""Writes a lesson without a model: the text's own key sentences in a frame of templates.

The same text gives the same lesson. The frame is two people who read the text together, so that whatever the text is
about, its sentences can be spoken as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import Random

from ..lesson import Section
from ..summary import key_sentences

SUMMARY_SENTENCES = 3
NOTES_SENTENCES = 5

# (listener, teller, how it begins)
FRAMES = (
    (
        "Mira",
        "her grandmother",
        "The rain had kept Mira indoors all afternoon. On the highest shelf of the study she found a thin book with a "
        "worn spine: “{title}”. “Read it to me,” she said, and her grandmother turned up the lamp and began.",
    ),
    (
        "Jonas",
        "the old man",
        "On the last train of the evening Jonas had run out of things to look at. The old man opposite closed his "
        "book, kept a finger between the pages and smiled. “{title},” he read from the cover. “Shall I tell you "
        "about it? It is a long way yet.”",
    ),
    (
        "Noor",
        "her uncle",
        "The power had gone out in the whole street. Noor lit the storm lamp, her uncle pulled a chair to the table, "
        "and between them lay “{title}”. “We have all evening,” he said. “Let us see what is in it.”",
    ),
)
FIRST = "“It begins with {topic},” said {teller}. “{one}”"
TURNS = (
    "{Teller} turned the page. “Now we come to {topic}. {one}”",
    "“And {topic}?” asked {listener}. “What has that to do with it?” {Teller} nodded, as if that were just the "
    "question to ask. “{one}”",
    "{listener} leaned closer. “Here it is about {topic},” said {teller}. “{one}”",
    "“Listen to this,” said {teller}, and a finger went along the line. “{one}”",
    "“Go on,” said {listener}. The next page had {topic} at the top. “{one}”",
)
MORE = (
    "“There is more,” said {teller}. “{two}”",
    "“And then?” — “{two}”",
    "{Teller} looked up for a moment, and read on: “{two}”",
    "“Wait, say that again,” said {listener}, and {teller} did, and went on. “{two}”",
)
THOUGHTS = (
    "{listener} tried to picture it: {topic}. It was easier than it had sounded.",
    "{listener} said it half aloud, so as not to forget: {topic}.",
    "For a while nobody spoke. There was a good deal to think about in {topic}.",
    "“{Key},” said {listener}. “I shall remember that.”",
    "{listener} drew it in the air with one finger: first {key}, then the rest.",
)
END = (
    "{Teller} closed the book. “What do you remember?” {listener} thought about it and counted on the fingers: "
    "{all}. “Then you could tell it to somebody else,” said {teller}. And the next day {listener} did."
)
ASK = (
    "How would you explain {key} in one sentence?",
    "What would you show the class to make {key} visible?",
    "Where have you met {key} before?",
    "What would be different without {key}?",
)


class OfflineWriter:
    """Takes the sentences that carry the text, and puts them in a frame."""

    name = "offline templates"

    def summary(self, section: Section) -> tuple[str, ...]:
        return tuple(key_sentences(section.sentences, most=SUMMARY_SENTENCES))

    def story(self, title: str, sections: Sequence[Section]) -> Iterator[str]:
        for paragraph in _paragraphs(title, sections):
            yield from re.findall(r"\S+\s*", paragraph)
            yield "\n\n"

    def notes(self, section: Section) -> tuple[str, ...]:
        topic = _topic(section)
        return (
            f"Open with what the listeners know: ask for one thing that comes to mind about {topic}.",
            *key_sentences(section.sentences, most=NOTES_SENTENCES),
            f"Sum up in your own words, and write on the board: {', '.join(section.keywords[:4]) or topic}.",
        )


def question_for(section: Section) -> str:
    """A question that the speaker asks at the end of a section."""
    key = section.keywords[0] if section.keywords else f"“{section.title}”"
    return ASK[section.number % len(ASK)].format(key=key)


def _paragraphs(title: str, sections: Sequence[Section]) -> Iterator[str]:
    random = Random(title)
    listener, teller, opening = random.choice(FRAMES)
    turns, more, thoughts = (_shuffled(lines, random) for lines in (TURNS, MORE, THOUGHTS))
    words = {"listener": listener, "teller": teller, "Teller": teller[:1].upper() + teller[1:]}
    yield opening.format(title=title)
    for index, section in enumerate(sections):
        key = section.keywords[0] if section.keywords else section.title
        said = [_spoken(sentence) for sentence in section.key_sentences] or [_spoken(section.text)]
        words |= {"topic": _topic(section), "key": key, "Key": key[:1].upper() + key[1:], "one": " ".join(said[:2])}
        yield (turns[index % len(turns)] if index else FIRST).format(**words)
        if len(said) > 2:
            yield more[index % len(more)].format(two=" ".join(said[2:4]), **words)
        yield thoughts[index % len(thoughts)].format(**words)
    yield END.format(all=_listed([section.keywords[0] for section in sections if section.keywords] or [title]), **words)


def _topic(section: Section) -> str:
    return _listed(section.keywords[:2]) if section.keywords else f"“{section.title}”"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def _shuffled(lines: Sequence[str], random: Random) -> list[str]:
    return random.sample(lines, k=len(lines))


def _spoken(sentence: str) -> str:
    """A sentence that can stand in quotation marks: its own become single ones, its braces are text."""
    single = re.sub(r'(^|[\s(—])["“]', r"\1‘", sentence)
    return re.sub(r'["”]', "’", single)
