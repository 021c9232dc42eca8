"""Functions, files and folders stay of a size that is read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "embedspace"

FUNCTION_LINES, FILE_LINES, FOLDER_FILES = 60, 340, 15


def _functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of lines of each function; a class inside one counts by its own functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            classes = [inner for inner in ast.walk(node) if isinstance(inner, ast.ClassDef)]
            yield node.name, _lines(node) - sum(map(_lines, classes))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_functions_are_readable_stages() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {name}: {lines} lines"
        for folder in ("embedspace", "training", "eval", "indexes")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, lines in _functions(path.read_text(encoding="utf-8"))
        if lines > FUNCTION_LINES
    ]
    assert long == [], f"longer than {FUNCTION_LINES} lines: divide them into stages"


def test_functions_are_counted_whole() -> None:
    body = "\n".join(f"    x = {number}" for number in range(FUNCTION_LINES))
    assert dict(_functions(f"def long(\n    a: int,\n) -> None:\n{body}\n")) == {"long": FUNCTION_LINES + 3}
    inner = "def outer():\n    class Inner:\n        def one(self):\n            return 1\n\n    return Inner\n"
    assert dict(_functions(inner)) == {"outer": 3, "one": 2}
    assert dict(_functions("async def waits():\n    pass\n")) == {"waits": 2}


def test_files_and_folders_of_the_package_stay_small() -> None:
    files: dict[Path, list[Path]] = {}
    for path in PACKAGE.rglob("*.py"):
        files.setdefault(path.parent, []).append(path)
    assert {str(folder): len(own) for folder, own in files.items() if len(own) > FOLDER_FILES} == {}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for own in files.values() for path in own}
    assert {str(path): count for path, count in lines.items() if count > FILE_LINES} == {}
    assert len(lines) > 100 and PACKAGE / "catalog" in files
