"""Who writes the lesson's sentences: templates, offline, or any OpenAI-compatible model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from ..lesson import Section
from .offline import OfflineWriter


class Writer(Protocol):
    """Writes what a lesson says. Everything else (sections, keywords, quiz, pictures) needs no writer."""

    @property
    def name(self) -> str:
        """Shown on the page: who wrote this."""

    def summary(self, section: Section) -> tuple[str, ...]:
        """A few sentences that say what the section says."""

    def story(self, title: str, sections: Sequence[Section]) -> Iterator[str]:
        """The lesson retold, piece by piece as it is written; paragraphs end with a blank line."""

    def notes(self, section: Section) -> tuple[str, ...]:
        """What a speaker says about the section, line by line."""


def choose_writer(environ: Mapping[str, str]) -> Writer:
    """The model that the environment names, or the offline templates.

    :param environ: ``OPENAI_API_KEY`` switches a model on; ``OPENAI_BASE_URL`` and ``LESSON_MODEL`` say which.
    """
    key = environ.get("OPENAI_API_KEY")
    if not key:
        return OfflineWriter()
    from .model import DEFAULT_MODEL, ModelWriter  # the openai package is needed only here

    return ModelWriter(
        key, base_url=environ.get("OPENAI_BASE_URL") or None, model=environ.get("LESSON_MODEL") or DEFAULT_MODEL
    )
