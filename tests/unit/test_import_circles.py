"""No module imports one that imports it, by whatever way round: in Python, for type checking too, and in JavaScript."""

import ast
import graphlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "flask_bgtasks"


def python():
    """Every module, and the modules that it imports anywhere in its text."""
    found = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in PACKAGE.rglob("*.py")}
    for name, path in found.items():
        package, imported = name.split(".")[:-1], set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:  # a module or a package of that name, or else a name of that module
                    names = (f"{base}.{alias.name}", f"{base}.{alias.name}.__init__", base, f"{base}.__init__")
                    imported |= {*[name for name in names if name in found][:1]}
        yield name, imported & found.keys() - {name}


def javascript():
    """Every script of the browser's part, and the scripts that it imports or exports from."""
    for path in (PACKAGE / "client" / "browser").rglob("*.js"):
        named = re.findall(r"""(?m)(?:^|\s)(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""", path.read_text("utf-8"))
        yield path, {(path.parent / name).resolve() for name in named}


def test_no_python_module_imports_itself_by_way_of_others():
    assert len(list(graphlib.TopologicalSorter(dict(python())).static_order())) > 150  # or a CycleError names them


def test_no_script_imports_itself_by_way_of_others():
    assert len(list(graphlib.TopologicalSorter(dict(javascript())).static_order())) > 20
