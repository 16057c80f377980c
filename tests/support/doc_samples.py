"""Runs the samples of a documentation page, in order, as its reader would.

- `python`: executed. All blocks of a page are one module, ``app``; a block that begins with ``# name.py`` is a file of
  that name (``app.py`` starts the module afresh, any other is written and imported).
- `console`: what follows ``$`` is run. ``curl`` is replayed against the page's ``app`` (``$ID`` is the last
  ``request_id`` that was answered), ``flask``, ``pytest``, ``gunicorn`` and ``celery`` are started for real, ``make``
  and ``pip`` are checked against what there is. What is printed below a command is compared: ``…`` stands for anything,
  a header or a JSON field that is not shown is not compared.
- `javascript`: its syntax is checked.

Comments hide what a reader need not see: ``<!-- invisible-code-block: python … -->``.
"""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

from sybil import Document, Example
from sybil.evaluators.python import pad
from sybil.parsers.myst import CodeBlockParser

from tests.support.paths import ROOT

SLEEP_AT_MOST = 0.1  # a sample that pretends to work for seconds is not waited for

EXECUTED = {"python", "console", "javascript"}
SHOWN = {"text", "nginx", "toml", "html", "ini", "http", "json"}
"""Languages of blocks that are only looked at."""

NOT_STARTED = {"cd", "git", ".", "sudo", "nginx"}
NOT_STARTED |= {"uvicorn", "uwsgi", "waitress-serve"}  # tests/system/test_servers.py starts them so


class Page:
    """One page, and the folder that its samples live in."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.folder = folder
        self.namespace: dict[str, Any] = {}
        self.request_id = ""
        self._files: list[str] = []
        self._document = Document.parse(
            str(path),
            CodeBlockParser("python", self._python),
            CodeBlockParser("console", self._console),
            CodeBlockParser("javascript", self._javascript),
        )

    def run(self) -> int:
        """Run every sample; how many there were."""
        self._new_module()
        examples = list(self._document)
        try:
            for example in examples:
                example.evaluate()
        finally:
            for name in self._files:
                sys.modules.pop(name, None)
            sys.modules.pop("app", None)
        return len(examples)

    # -- python ------------------------------------------------------------------------------------------------------

    def _python(self, example: Example) -> None:
        source = str(example.parsed)
        file = re.match(r"# ([\w/]+\.py)\n", source)
        if file:
            target = self.folder / file[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source)
            importlib.invalidate_caches()
            if file[1] == "app.py":
                self._new_module()
            elif not target.name.startswith("test_"):
                self._import(file[1])
                return
            else:
                return
        app = self.namespace.get("app")
        if app is not None:  # a page goes on adding views where its reader would restart the server
            app._got_first_request = False
        code = compile(pad(source, example.line + example.parsed.line_offset), example.path, "exec", dont_inherit=True)
        exec(code, self.namespace)
        if self.namespace.get("time") is time:
            self.namespace["time"] = types.SimpleNamespace(**{**vars(time), "sleep": _nap})

    def _new_module(self) -> None:
        """An empty module ``app``, which Flask takes for a file of the page's folder."""
        module = types.ModuleType("app")
        module.__file__ = str(self.folder / "app.py")
        module.__spec__ = spec_from_file_location("app", module.__file__)
        sys.modules["app"] = module
        self.namespace = vars(module)
        self.namespace["until"] = self._until

    def _until(self, status: str) -> None:
        """Wait until the last task is in this state: for hidden blocks, so that what a page shows is there."""
        until = time.monotonic() + 20
        client = self.namespace["app"].test_client()
        while (task := client.get(f"/tasks/{self.request_id}").get_json()).get("status") != status:
            assert time.monotonic() < until, f"not {status}: {task}"
            time.sleep(0.02)

    def _import(self, file: str) -> None:
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package = name.partition(".")[0]
        for known in [m for m in sys.modules if m == package or m.startswith(package + ".")]:
            del sys.modules[known]
        self._files.append(name)
        importlib.import_module(name)

    # -- console -----------------------------------------------------------------------------------------------------

    def _console(self, example: Example) -> None:
        for command, expected in _commands(str(example.parsed)):
            words = shlex.split(command, comments=True)
            match words[0]:
                case "curl":
                    self._curl(words[1:], expected, command)
                case "flask" if words[-1] == "run" or "run" in words:
                    continue  # `curl` needs no server here
                case "flask" | "pytest":
                    options = ["-p", "no:cacheprovider"] if words[0] == "pytest" else []
                    self._start([sys.executable, "-m", *words, *options], expected, command)
                case "gunicorn":
                    self._start([sys.executable, "-m", "gunicorn", "--check-config", *words[1:]], expected, command)
                case "celery":  # all but the worker: does it find the app?
                    self._start([sys.executable, "-m", *words[: words.index("worker")], "report"], expected, command)
                case "rq" | "dramatiq" | "huey_consumer":  # does its worker find the app?
                    modules = [word.partition(".")[0] for word in words]
                    module = next(name for name in modules if name in self._files)
                    self._start([sys.executable, "-c", f"import {module}"], expected, command)
                case "make":
                    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
                    assert words[1] in targets, f"{command}: the Makefile has no such target"
                case "pip" | "python3":
                    extras = re.findall(r"^([\w-]+) = \[", _section("project.optional-dependencies"), re.MULTILINE)
                    for name in re.findall(r"\[([\w,-]+)\]", command):
                        assert set(name.split(",")) <= set(extras), f"{command}: pyproject.toml has no such extra"
                case word if word in NOT_STARTED or re.match(r"[A-Z_]+=", word):
                    continue
                case word:
                    raise AssertionError(f"{word!r} in a console block: doc_samples.py does not know this command")

    def _start(self, words: list[str], expected: str, command: str) -> None:
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "COLUMNS": "120"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        if expected:
            _compare_text(expected, done.stdout, command)

    def _curl(self, words: list[str], expected: str, command: str) -> None:
        method, url, data, headers, show_headers = "", "", None, [], False
        queue = iter(words)
        for word in queue:
            match word:
                case "-X":
                    method = next(queue)
                case "-H":
                    name, _, value = next(queue).partition(":")
                    headers.append((name, value.strip()))
                case "-d" | "--json":
                    data = next(queue)
                    if word == "--json":
                        headers.append(("Content-Type", "application/json"))
                case "-i":
                    show_headers = True
                case "-N" | "-s":
                    pass
                case _ if word.startswith("-"):
                    raise AssertionError(f"{command}: doc_samples.py does not know curl {word}")
                case _:
                    url = re.sub(r"^(http://)?(localhost|127\.0\.0\.1)(:\d+)?", "", word)
        url = url.replace("$ID", self.request_id)
        client = self.namespace["app"].test_client()
        response = client.open(url, method=method or ("POST" if data else "GET"), data=data, headers=headers)
        text = response.get_data(as_text=True)
        found = re.search(r'"request_id":\s*"([^"]+)"', text)
        if found:
            self.request_id = found[1]

        if not expected:
            assert response.status_code < 400, f"{command}\n{response.status}\n{text}"
            return
        if show_headers:
            head, _, expected = expected.partition("\n\n")
            status, *lines = head.splitlines()
            assert status == f"HTTP/1.1 {response.status}", f"{command}\n{response.status}\n{text}"
            for line in lines:
                name, _, value = line.partition(": ")
                assert _matches(value, response.headers.get(name)), f"{command}\n{name}: {response.headers.get(name)}"
        if response.mimetype.endswith("json"):
            _compare_json(_shown_json(expected), response.get_json(), command)
        else:
            _compare_text(expected, text, command)

    # -- javascript --------------------------------------------------------------------------------------------------

    def _javascript(self, example: Example) -> None:
        from playwright._impl._driver import compute_driver_executable  # Playwright brings a Node.js along

        file = self.folder / "sample.mjs"
        file.write_text(str(example.parsed))
        node = compute_driver_executable()[0]
        done = subprocess.run([node, "--check", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def fences(path: Path) -> Iterator[tuple[int, str]]:
    """Line and language of each code block of a page."""
    opened = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"\s*```+(.*)$", line)
        if not fence:
            continue
        if not opened and not fence[1].startswith("{"):
            yield number, fence[1].strip()
        opened = not opened


def _commands(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, and what is shown below each."""
    block = block.replace("\\\n", " ")
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command.strip(), output.strip()


def _nap(seconds: float) -> None:
    time.sleep(min(seconds, SLEEP_AT_MOST))


def _section(name: str) -> str:
    text = (ROOT / "pyproject.toml").read_text()
    return text.partition(f"[{name}]\n")[2].partition("\n[")[0]


def _matches(expected: str, actual: str | None) -> bool:
    pattern = re.escape(expected).replace("…", ".*")
    return actual is not None and re.fullmatch(pattern, actual, re.DOTALL) is not None


def _compare_text(expected: str, actual: str, command: str) -> None:
    """Line by line, in order; lines that are not shown do not count where the block says ``…``."""
    assert _matches(expected.strip(), actual.strip()), f"{command}\n-- shown:\n{expected}\n-- got:\n{actual}"


def _shown_json(text: str) -> Any:
    """JSON as pages show it: ``…`` may stand for a value, or for further fields."""
    text = re.sub(r",?\s*…\s*}", "}", text)
    return json.loads(re.sub(r'("(?:[^"\\]|\\.)*")|…', lambda found: found[1] or '"…"', text) or "{}")


def _compare_json(expected: Any, actual: Any, command: str) -> None:
    assert _holds(expected, actual), f"{command}\n-- shown:\n{expected}\n-- got:\n{actual}"


def _holds(expected: Any, actual: Any) -> bool:
    match expected:
        case dict():
            return isinstance(actual, dict) and all(
                key in actual and _holds(value, actual[key]) for key, value in expected.items()
            )
        case list():
            return isinstance(actual, list) and len(expected) == len(actual) and all(map(_holds, expected, actual))
        case str() if "…" in expected:
            return expected == "…" or _matches(expected, str(actual))
        case _:
            return bool(expected == actual)
