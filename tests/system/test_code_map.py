"""What the pages for contributors and the troubleshooting page name is in the code, under that name."""

import ast
import importlib
import re

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "flask_bgtasks"
CODE_MAP = ROOT / "docs" / "explanation" / "code-map.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
TROUBLESHOOTING = ROOT / "docs" / "howto" / "troubleshooting.md"
PICTURE = ROOT / "docs" / "_static" / "code-map.svg"

PATH = re.compile(r"[\w.-]*[\w-]/[\w./-]*|[\w-]+\.(py|js|md|toml)")
CLASS = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")
METHOD = re.compile(r"([A-Z][a-z]\w+)\.([a-z]\w*)")
FUNCTION = re.compile(r"([a-z]\w*)\(\)")
PLACEHOLDER = re.compile(r"%[-#0-9.]*[srdgf]")

NOT_OURS = {"Prefer"}
"""Words in backticks that look like a class of the package: headers, say."""


def spans(text):
    """What stands in backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL))


def trees():
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield module, ast.parse(path.read_text())


@pytest.fixture(scope="module")
def classes():
    """The module of each class of the package, by the class's name."""
    return {node.name: module for module, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


@pytest.fixture(scope="module")
def functions():
    return {
        node.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


@pytest.fixture(scope="module")
def texts():
    """Every text in the code, with ``…`` for what is filled in."""
    found = []
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(PLACEHOLDER.sub("…", node.value))
    return "\n".join(found)


def unknown_names(text, classes, functions):
    """The paths, classes, methods and functions of a page that do not exist."""
    for span in spans(text):
        if method := METHOD.fullmatch(span):
            owner = classes.get(method[1])
            if owner is None or not hasattr(getattr(importlib.import_module(owner), method[1]), method[2]):
                yield span
        elif function := FUNCTION.fullmatch(span):
            if function[1] not in functions:
                yield span
        elif PATH.fullmatch(span):
            places = (PACKAGE / span, ROOT / span)
            if not any(place.exists() or place.with_suffix(".py").exists() for place in places):
                yield span
        elif CLASS.fullmatch(span) and span not in NOT_OURS and span not in classes:
            yield span


def unknown_quotes(text, texts):
    """The lines of a page's ``text`` blocks that no text of the code could have made."""
    for block in re.findall(r"^ *```text\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.strip().splitlines():
            parts = [part.strip(" :,.;()") for part in line.split("…")]
            if not re.search(".*".join(re.escape(part) for part in parts if part), texts):
                yield line.strip()


@pytest.mark.parametrize("page", [CODE_MAP, CONTRIBUTING], ids=lambda page: page.name)
def test_every_path_and_name_of_a_page_exists(page, classes, functions):
    assert list(unknown_names(page.read_text(), classes, functions)) == []


def test_every_message_that_troubleshooting_quotes_is_in_the_code(texts):
    assert list(unknown_quotes(TROUBLESHOOTING.read_text(), texts)) == []


def test_the_code_map_names_every_folder():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}

    assert set(re.findall(r"^\| `(\w+)/`", CODE_MAP.read_text(), re.MULTILINE)) == folders


def test_the_picture_shows_the_rows_of_the_contract():
    contract = (ROOT / "pyproject.toml").read_text().partition('id = "layers"')[2]
    layers = re.search(r"^layers = \[(.*?)^\]", contract, re.MULTILINE | re.DOTALL)[1]
    rows = [re.split(r" [|:] ", row) for row in re.findall(r'"(.+?)"', layers)]

    shown = {}
    for y, name in re.findall(r'class="folder" x="\d+" y="(\d+)"[^>]*>(\w+)<', PICTURE.read_text()):
        shown.setdefault(int(y), []).append(name)

    assert [names for _, names in sorted(shown.items())] == rows


@pytest.mark.parametrize("wrong", ["app/nowhere.py", "Enginer", "Engine.rum", "acept()", "nowhere/"])
def test_a_wrong_name_is_found(wrong, classes, functions):
    assert list(unknown_names(f"See `Engine`, `Engine.run`, `accept()` and `{wrong}`.", classes, functions)) == [wrong]


def test_a_wrong_quote_is_found(texts):
    page = "```text\nthe grace period is over: … given back for other processes to run\nthe disk is green\n```\n"

    assert list(unknown_quotes(page, texts)) == ["the disk is green"]
