"""What commands under eval that measure one thing share: what a result names, its files, and how they end."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from PIL import Image

from embedspace.errors import EmbedspaceError
from embedspace.evaluate.report import git_commit
from embedspace.media.write import write_image

__all__ = ["made_by", "publish", "run"]


def made_by(name: str) -> dict[str, str]:
    """Return name, command, commit and date of a result that `python -m eval.NAME` measures."""
    return {
        "name": name,
        "command": shlex.join(["python", "-m", f"eval.{name}", *sys.argv[1:]]),
        "commit": git_commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def publish(folder: Path, entry: Mapping[str, Any], lines: Iterable[str], sheet: Image.Image | None = None) -> None:
    """Write NAME.json and NAME.md, and NAME.png where there is a sheet, into a folder, and print the page.

    Args:
        folder: Where they go; made if it is missing.
        entry: What was measured; its `name` is theirs.
        lines: The page.
        sheet: What a person can look at.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, stem = "\n".join(lines), folder / entry["name"]
    stem.with_suffix(".json").write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(page + "\n", encoding="utf-8")
    if sheet is not None:
        write_image(stem.with_suffix(".png"), sheet)
    print(page)


def run(main: Callable[[], int]) -> NoReturn:
    """End the process with what `main` returns; with 2 and one line where something is wrong."""
    try:
        sys.exit(main())
    except EmbedspaceError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
