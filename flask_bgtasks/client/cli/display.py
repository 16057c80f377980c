"""Shows the progress of tasks: one bar on a terminal, elsewhere a line for each change."""

from __future__ import annotations

from typing import Any, TextIO

import click

from ..events import Kind, TaskEvent

BAR_LENGTH = 1000  # steps of the bar: tenths of a percent


class Display:
    """A context manager; given events, it shows them.

    :param file: where to. :param named: whether each line says which task it is about.
    """

    def __init__(self, file: TextIO, *, named: bool = False) -> None:
        self._file = file
        self._named = named
        self._bar: Any = None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Display:
        if self._file.isatty() and not self._named:
            self._bar = click.progressbar(
                length=BAR_LENGTH, file=self._file, show_eta=False, label="waiting", item_show_func=lambda text: text
            )
            self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)

    def show(self, event: TaskEvent) -> None:
        """Show an event, if there is anything to be seen of it."""
        if self._bar is not None:
            self._bar.label = (event.step or event.status)[:30]
            target = round(event.percentage / 100 * BAR_LENGTH)
            self._bar.update(target - self._bar.pos, event.details)
            self._bar.render_progress()
            return
        if event.kind is Kind.OUTPUT:
            return
        text = f"{event.percentage:5.1f}%  {event.step or event.status}"
        if event.details:
            text += f": {event.details}"
        if self._said.get(event.key) != text:
            self._said[event.key] = text
            name = f"{event.request_id or event.key}  " if self._named else ""
            click.echo(name + text, file=self._file)
