"""Writes a lesson with a language model, over the chat completions API that OpenAI and many others serve.

Needs the ``openai`` package, and imports it when a writer is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..lesson import Section

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

DEFAULT_MODEL = "gpt-4o-mini"
TIMEOUT = 60  # seconds without a byte from the model
SECTION_CHARACTERS = 6_000  # of the text that one request carries
SYSTEM = (
    "You are a teacher who turns a text into a lesson. Say only what the text says. Write plain English prose, "
    "without Markdown, without a preamble."
)


class ModelFailed(RuntimeError):
    """The model did not answer; the message is what the user of the demo reads."""


class ModelWriter:
    """Asks an OpenAI-compatible model for each piece of the lesson; the story comes token by token."""

    def __init__(self, api_key: str, *, base_url: str | None = None, model: str = DEFAULT_MODEL) -> None:
        from openai import OpenAI

        self.name = model
        self._client = OpenAI(api_key=api_key, base_url=base_url, timeout=TIMEOUT)

    def summary(self, section: Section) -> tuple[str, ...]:
        return self._lines(f"Summarise this part in three sentences, each on its own line.\n\n{_excerpt(section)}")

    def story(self, title: str, sections: Sequence[Section]) -> Iterator[str]:
        outline = "\n\n".join(f"{s.number}. {s.title}\n{' '.join(s.key_sentences)}" for s in sections)
        request = (
            f"Retell this lesson, “{title}”, as a story for a curious twelve-year-old: one paragraph for each part, "
            f"with people and a place, a blank line between paragraphs.\n\n{outline}"
        )
        with (
            self._said_plainly(),
            self._client.chat.completions.create(model=self.name, messages=_messages(request), stream=True) as stream,
        ):  # the stream is closed when the task is cancelled halfway
            for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    yield text

    def notes(self, section: Section) -> tuple[str, ...]:
        return self._lines(
            f"Write a speaker's notes for this part, “{section.title}”: four to six lines to say aloud, "
            f"each on its own line.\n\n{_excerpt(section)}"
        )

    def _lines(self, request: str) -> tuple[str, ...]:
        with self._said_plainly():
            answer = self._client.chat.completions.create(model=self.name, messages=_messages(request))
        text = answer.choices[0].message.content or ""
        return tuple(line for raw in text.splitlines() if (line := raw.strip().lstrip("-•* ")))

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        """Turn the client's errors into one that names the model and what to look at."""
        from openai import APIError

        try:
            yield
        except APIError as error:
            raise ModelFailed(
                f"The model {self.name} did not answer: {error.message} "
                "Check OPENAI_BASE_URL, OPENAI_API_KEY and LESSON_MODEL."
            ) from error


def _messages(request: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request}]


def _excerpt(section: Section) -> str:
    return section.text[:SECTION_CHARACTERS]
