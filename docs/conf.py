"""Builds the documentation: MyST Markdown, the furo theme, reference pages made from the code."""

import importlib.metadata
import inspect
from collections.abc import Mapping
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from flask_bgtasks import settings, signals
from flask_bgtasks.http import problems

project = "flask-bgtasks"
copyright = "The flask-bgtasks authors"
release = importlib.metadata.version("flask-bgtasks")
version = release.rpartition(".")[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "explanation/capacity-figures.md"]  # the second is included by a page
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = f"flask-bgtasks {version}"
html_static_path = ["_static"]
copybutton_prompt_text = "$ "


class SettingsTable(Directive):
    """``{settings}``: every ``BGTASKS_*`` setting, from the module that reads them."""

    def run(self) -> list[nodes.StepNode]:
        rows = ["| Setting | Default | |", "| --- | --- | --- |"]
        rows += [f"| `{name}` | `{_shown(default)}` | {meaning} |" for name, default, meaning in settings.described()]
        return _markdown(self, rows)


class SignalList(Directive):
    """``{signals}``: every signal, its meaning and what a receiver gets."""

    def run(self) -> list[nodes.StepNode]:
        rows = ["| Signal | Sent when, with |", "| --- | --- |"]
        rows += [
            f"| `{name}` | {inspect.cleandoc(value.__doc__ or '').replace('``', '`')} |"
            for name, value in vars(signals).items()
            if isinstance(value, signals.Signal)
        ]
        return _markdown(self, rows)


class ProblemList(Directive):
    """``{problems}``: every problem type, under the anchor that its ``type`` ends in."""

    def run(self) -> list[nodes.StepNode]:
        made: list[nodes.StepNode] = []
        for kind in problems.TYPES.values():
            section = nodes.section(ids=[kind.name], names=[kind.name])
            section += nodes.title("", "", nodes.literal("", kind.name), nodes.Text(f" ({kind.status})"))
            meaning = kind.meaning.replace("``", "`")
            section += _markdown(self, [f"*{kind.title}.* {meaning}"])
            made.append(section)
        return made


def _markdown(directive: Directive, lines: list[str]) -> list[nodes.StepNode]:
    node = nodes.container()
    directive.state.nested_parse(lines, directive.content_offset, node)
    return list(node.children)


def _shown(default: Any) -> str:
    if isinstance(default, int) and not isinstance(default, bool) and default >= 2**20 and default % 2**20 == 0:
        return f"{default // 2**20} MiB"
    if hasattr(default, "days"):
        return f"{default.days} days"
    if isinstance(default, (tuple, Mapping)):
        return str(list(default))
    return str(default) or "—"


def setup(app: Sphinx) -> None:
    app.add_directive("settings", SettingsTable)
    app.add_directive("signals", SignalList)
    app.add_directive("problems", ProblemList)
