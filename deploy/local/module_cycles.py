"""Prints every cycle of imports, between modules or between sub-packages; ends with 1 if there is one.

Looks at the syntax alone, so imports inside functions and for type checking count too. Run by ``make cycles``.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imports() -> Iterator[tuple[str, str]]:
    """Give each import of one of our modules by another."""
    paths = {_name(path): path for path in ROOT.glob("k2_*/**/*.py")}
    for module, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            yield from ((module, name) for name in names if name in paths and name != module)


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def cycles(place: Callable[[str], str]) -> Iterator[str]:
    """Give the imports that lie on a cycle between places."""
    graph: dict[str, set[str]] = defaultdict(set)
    for importer, imported in imports():
        if place(importer) != place(imported):
            graph[place(importer)].add(place(imported))
    for importer in sorted(graph):
        for imported in sorted(graph[importer]):
            if importer in _reached(graph, imported):
                yield f"{importer} -> {imported}"


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for place in graph.get(waiting.pop(), set()) - found:
            found.add(place)
            waiting.append(place)
    return found


def sub_package(module: str) -> str:
    """Name the sub-package of a room that holds a module; the module itself, if it lies in the room."""
    return ".".join(module.split(".")[:2])


if __name__ == "__main__":
    found = [*cycles(lambda module: module), *cycles(sub_package)]
    sys.stdout.writelines(f"{cycle}\n" for cycle in found)
    sys.exit(bool(found))
