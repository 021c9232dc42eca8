"""Dependencies run one way, imports are cheap, and the declared dependencies are those imported."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedspace

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "embedspace"

BOTTOM = {"config", "files", "errors", "plugins", "modality", "segment", "calibration", "vocabulary", "stages"}
SPACE = BOTTOM | {"media", "encoders", "space"}
ALLOWED = {
    "errors": set(),
    "plugins": {"errors"},
    "modality": {"errors", "plugins"},
    "segment": {"errors", "modality"},
    "calibration": {"errors", "modality"},
    "config": {"errors"},
    "files": {"errors"},
    "stages": set(),
    "vocabulary": {"errors", "modality", "calibration", "files"},
    "media": BOTTOM,
    "encoders": BOTTOM | {"media"},
    "space": BOTTOM | {"media", "encoders", "generate"},
    "query": SPACE,
    "generate": BOTTOM | {"media", "encoders"},
    "train": SPACE | {"generate", "catalog"},
    "catalog": BOTTOM,
    "evaluate": SPACE | {"query", "catalog", "generate"},
    "integrations": SPACE | {"query", "catalog", "generate", "evaluate"},
    "warm": set(),
    "serve": SPACE | {"query", "catalog", "generate", "evaluate", "warm"},
    "cli": SPACE | {"query", "catalog", "generate", "evaluate", "train", "serve", "integrations"},
    "__main__": {"cli", "warm"},
}
"""Part of the package -> the parts it may import, besides itself."""

FRONT_DOORS = {("embedspace/space/compose.py", "train")}
"""A file may call a part above it inside a function: people look for `compose` at the space, and it fits connectors."""

CATALOG_LIBRARIES = {"numpy", "faiss", "pyarrow", "qdrant_client", "qdrant_edge", "httpx", "ray", "lancedb"}
IMPORT_NAMES = {
    "faiss-cpu": "faiss",
    "pillow": "PIL",
    "ir-measures": "ir_measures",
    "open-clip-torch": "open_clip",
    "sentence-transformers": "sentence_transformers",
    "espeakng-loader": "espeakng_loader",
    "huggingface-hub": "huggingface_hub",
    "qdrant-client": "qdrant_client",
    "qdrant-edge-py": "qdrant_edge",
    "langchain-core": "langchain_core",
    "llama-index-core": "llama_index",
    "prometheus-client": "prometheus_client",
    "scikit-learn": "sklearn",
}

WHOLE_EXTRAS = {"embedspace/serve/"}
"""Folders that are imported only where their extra is installed: the verb looks first, and says what is missing."""
BROUGHT_ALONG = {"starlette": "fastapi", "pydantic": "fastapi", "anyio": "fastapi", "h11": "uvicorn"}
"""Imported library -> the declared one whose interface it is part of."""

Import = tuple[str, int, str]  # file, line, absolute dotted name


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions, under TYPE_CHECKING and by `import_module("name")` too."""
    package = _module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    where = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield where, node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                yield where, node.lineno, f"{module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            if isinstance(node.args[0], ast.Constant):
                yield where, node.lineno, str(node.args[0].value)


def _part(dotted: str) -> str | None:
    """Return the part of embedspace a dotted name belongs to, None for the package itself or another library."""
    pieces = dotted.split(".")
    if pieces[0] != "embedspace" or len(pieces) == 1:
        return None
    if pieces[1] in embedspace.__all__:  # `from embedspace import Catalog` counts as its home
        return None if pieces[1] == "__version__" else embedspace._HOME.get(pieces[1], "errors")
    return pieces[1]


def _package_imports() -> list[Import]:
    return [found for path in sorted(PACKAGE.rglob("*.py")) for found in _imports(path)]


def _imports_inside_functions() -> set[tuple[str, int]]:
    """Files and lines of imports that run only when a function of the package is called, or never: for types."""
    return {
        (str(path.relative_to(ROOT)), node.lineno)
        for path in PACKAGE.rglob("*.py")
        for block in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING")
        for node in ast.walk(block)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }


def _complaints(allowed: dict[str, set[str]], imports: list[Import]) -> list[str]:
    wrong = []
    inside = _imports_inside_functions()
    for where, line, name in imports:
        own = Path(where).with_suffix("").parts[1]
        other = _part(name)
        if own == "__init__" or other is None or other == own:
            continue
        if (where, other) in FRONT_DOORS and (where, line) in inside:
            continue
        if other not in allowed[own]:
            wrong.append(f"{where}:{line}: {own} must not import {name}")
    return wrong


def test_every_part_has_a_place_in_the_order() -> None:
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert parts <= set(ALLOWED), f"say in ALLOWED what {sorted(parts - set(ALLOWED))} may import"


def test_imports_run_one_way() -> None:
    assert _complaints(ALLOWED, _package_imports()) == []


def test_imports_check_sees_what_it_is_for() -> None:
    bad: list[Import] = [
        ("embedspace/catalog/store/store.py", 1, "embedspace.space.EmbeddingSpace"),
        ("embedspace/media/image.py", 2, "embedspace.encoders"),
        ("embedspace/space.py", 3, "embedspace.Catalog"),
        ("embedspace/query/composition.py", 4, "embedspace.cli.main"),
        ("embedspace/generate/api.py", 5, "embedspace.space"),  # a space owns its generators, not the other way round
        ("embedspace/space/compose.py", 1, "embedspace.train"),  # on the top of the module
    ]
    good: list[Import] = [
        ("embedspace/space.py", 1, "embedspace.encoders.base"),
        ("embedspace/space.py", 1, "embedspace.__version__"),
    ]
    assert len(_complaints(ALLOWED, bad + good)) == 6


def test_the_allowed_order_has_no_cycle() -> None:
    left = {part: set(others) for part, others in ALLOWED.items()}
    while left:
        free = [part for part, others in left.items() if not others & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for part in free:
            del left[part]


def _circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of nodes that lead to each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        reached[start], waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - reached[start]
            reached[start] |= new
            waiting += new
    found = {frozenset(b for b in graph if b in reached[a] and a in reached[b]) for a in graph if a in reached[a]}
    return [set(one) for one in found]


def _file_graph() -> dict[str, set[str]]:
    """Module of the package -> modules that it imports anywhere, for types alone as well."""
    modules = {_module_name(path): path for path in PACKAGE.rglob("*.py")}

    def home(name: str) -> str:
        while name not in modules and "." in name:
            name = name.rpartition(".")[0]
        return name

    graph = {}
    for module, path in modules.items():
        imported = {home(name) for _, _, name in _imports(path) if name.startswith("embedspace.")}
        graph[module] = imported - {module, "embedspace"}  # the package itself loads every name on first use
    return graph


def test_no_circle_of_files() -> None:
    assert [sorted(circle) for circle in _circles(_file_graph())] == [], "files that import each other"


def test_circles_check_sees_what_it_is_for() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f"}}
    assert sorted(map(sorted, _circles(graph))) == [["a", "b", "c"], ["f"]]
    assert "embedspace.catalog.store.store" in _file_graph()["embedspace.catalog.catalog"]


_SQL = re.compile(
    r"\b(SELECT\s.*\sFROM|INSERT\s+(OR|INTO)|DELETE\s+FROM|UPDATE\s+\w+\s+SET|PRAGMA\s|CREATE\s+TABLE)\b", re.DOTALL
)


def _statements(source: str) -> list[int]:
    """Return the lines of a module that import sqlite3, run a statement, or hold a text that is one."""
    tree = ast.parse(source)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    lines = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        runs = isinstance(node, ast.Attribute) and node.attr in ("execute", "executemany", "executescript")
        text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
        if "sqlite3" in names or runs or (text and _SQL.search(str(node.value))):
            lines.append(node.lineno)
    return lines


def test_sql_only_in_the_store() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if PACKAGE / "catalog" / "store" not in path.parents
        for line in _statements(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_sql_check_sees_what_it_is_for() -> None:
    for bad in (
        "import sqlite3", "connection.execute(text)", "rows('SELECT a FROM b')", "f'DELETE FROM {table}'",
        "x = \"INSERT OR REPLACE INTO meta VALUES (1)\"",
    ):  # fmt: skip
        assert _statements(bad) == [1], bad
    assert _statements('"""Says SELECT a FROM b."""\nmessage = "select the best from all"\n') == []
    assert _statements((PACKAGE / "catalog" / "store" / "store.py").read_text(encoding="utf-8")) != []


def test_the_searcher_knows_only_the_contract_of_an_index() -> None:
    searching = [name for where, _, name in _package_imports() if where.startswith("embedspace/catalog/search/")]
    known = {name.rsplit(".", 1)[0] for name in searching if name.startswith("embedspace.catalog.index.")}
    assert known == {"embedspace.catalog.index.base"}


def test_catalog_knows_no_model_library() -> None:
    allowed = CATALOG_LIBRARIES | set(sys.stdlib_module_names) | {"embedspace"}
    wrong = [
        f"{where}:{line}: {name}"
        for where, line, name in _package_imports()
        if where.startswith("embedspace/catalog/") and name.split(".")[0] not in allowed
    ]
    assert wrong == []


def test_encoders_know_no_faiss() -> None:
    outside = ("embedspace/catalog/", "embedspace/evaluate/")
    imports = _package_imports()
    wrong = [where for where, _, name in imports if name.split(".")[0] == "faiss" and not where.startswith(outside)]
    assert wrong == []


def test_package_imports_nothing_beside_it() -> None:
    beside = {"training", "eval", "indexes", "tests"}
    assert [found for found in _package_imports() if found[2].split(".")[0] in beside] == []


def _beside(text: str) -> list[str]:
    """Return the modules beside the package that a text names."""
    return re.findall(r"(?<![\w./-])(?:training|eval|indexes|tests)\.(?!toml|md|json)[a-z_][\w.]*", text)


def test_no_text_of_the_package_names_a_module_that_the_wheel_lacks() -> None:
    assert _beside("run: python -m training.corpora --only x") == ["training.corpora"]
    assert _beside("the recipes in training/recipes; some training. Then eval/run.py") == []
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in _beside(node.value)
    ]
    assert wrong == []


def _declared() -> tuple[set[str], set[str]]:
    """Return the import names of the run-time dependencies, and of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> set[str]:
        bare = [re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements]
        return {IMPORT_NAMES.get(name, name) for name in bare}

    extras = [line for group in project["optional-dependencies"].values() for line in group]
    return names(project["dependencies"]) - {"embedspace-weights"}, names(extras) - {"embedspace"}


def test_dependencies_are_what_is_imported() -> None:
    required, optional = _declared()
    used = {name.split(".")[0] for _, _, name in _package_imports()} - set(sys.stdlib_module_names) - {"embedspace"}
    used = {BROUGHT_ALONG.get(name, name) for name in used}
    assert used - required - optional == set(), "imported and not declared"
    assert required - used == set(), "declared and not imported"


def test_extras_are_never_imported_on_the_top_of_a_module() -> None:
    required, optional = _declared()
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if str(path.relative_to(ROOT)).startswith(tuple(WHOLE_EXTRAS)):
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{path.name}: {name}" for name in names if name.split(".")[0] in optional - required]
    assert wrong == []


def _loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in a fresh interpreter, besides those that were there."""
    code = f"import json, sys; old = set(sys.modules); {statement}; print(json.dumps([*(set(sys.modules) - old)]))"
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(finished.stdout))


def test_import_embedspace_is_cheap() -> None:
    loaded = _loaded_by("import embedspace")
    assert {"torch", "faiss", "numpy", "PIL", "typer", "rich", "asyncio"}.isdisjoint(loaded)
    assert {name for name in loaded if name.startswith("embedspace")} == {"embedspace"}
    assert len(loaded) < 20  # a plain interpreter loads such a number in about 5 ms; the limit is 50


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("embedspace.errors", {"torch", "faiss", "numpy", "PIL", "av", "soundfile"}),
        ("embedspace.modality", {"torch", "faiss", "numpy", "PIL", "av", "soundfile"}),
        ("embedspace.media.text", {"torch", "faiss", "numpy", "PIL", "av", "soundfile"}),
        ("embedspace.media.image", {"torch", "faiss", "av", "soundfile", "scipy"}),
        ("embedspace.media.audio", {"torch", "faiss", "PIL", "av", "scipy"}),
        ("embedspace.media.video", {"torch", "faiss", "scipy"}),
        ("embedspace.vocabulary", {"torch", "faiss", "PIL", "av", "soundfile", "scipy"}),
        ("embedspace.space", {"torch", "faiss", "PIL", "av", "soundfile", "scipy"}),
        ("embedspace.catalog", {"torch", "torchaudio", "pyarrow", "PIL", "av"}),
        ("embedspace.cli", {"torch", "faiss", "PIL", "av", "pyarrow"}),
    ],
)
def test_a_module_loads_only_what_it_needs(module: str, heavy: set[str]) -> None:
    assert _loaded_by(f"import {module}") & heavy == set()
