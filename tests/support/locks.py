"""Pin what .venv holds: requirements.lock for running, requirements-dev.lock for the rest that tests need.

    python -m tests.support.locks        # make lock

What running needs is read from the packages' own metadata, beginning with embedspace and two of its
extras, "speech" and "onnx".
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
RUN, DEV = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
NOT_PINNED = {"pip", "wheel", "embedspace", "embedspace-weights"}
"""The installer, and what a checkout holds itself."""
NOT_NEEDED = {"triton"}
"""torch names it, but imports it only to compile for a GPU, which nothing here does: 640 MB less to unpack."""
STARTS = ("embedspace[speech,onnx]", "setuptools")
"""setuptools builds the editable install."""
_HEADS = {
    RUN: "# What running needs, pinned. Made by `make lock`; `make demo` installs it.\n"
    "# torch, torchvision and torchaudio belong together: torchaudio's last release refuses another torch.\n",
    DEV: "# What tests need besides requirements.lock, pinned. Made by `make lock`; `make test` installs it on top.\n",
}


def name_of(text: str) -> str:
    """Return a package's name in the one spelling that compares equal."""
    return re.sub(r"[-_.]+", "-", text).lower()


def installed() -> dict[str, importlib.metadata.Distribution]:
    """Return name -> distribution of this environment."""
    return {name_of(found.metadata["Name"]): found for found in importlib.metadata.distributions()}


def needed(starts: Iterable[str]) -> set[str]:
    """Return the names of what some requirements need here, themselves included."""
    known, extras = installed(), dict[str, frozenset[str]]()
    waiting = [Requirement(start) for start in starts]
    while waiting:
        asked = waiting.pop()
        name, wanted = name_of(asked.name), frozenset(asked.extras)
        if name in extras and wanted <= extras[name]:
            continue
        extras[name] = extras.get(name, frozenset()) | wanted
        for line in (known[name].requires or ()) if name != "embedspace-weights" else ():
            further = Requirement(line)
            if name_of(further.name) in NOT_NEEDED:
                continue
            if further.marker is None or any(further.marker.evaluate({"extra": e}) for e in {"", *extras[name]}):
                waiting.append(further)
    return set(extras)


def pins() -> dict[Path, list[str]]:
    """Return lock file -> its lines "name==version", sorted."""
    run, lines = needed(STARTS), {RUN: list[str](), DEV: list[str]()}
    for name, found in sorted(installed().items()):
        if name not in NOT_PINNED:
            lines[RUN if name in run else DEV].append(f"{found.metadata['Name']}=={found.version}")
    return lines


def main() -> int:
    """Write both files."""
    for path, lines in pins().items():
        path.write_text(_HEADS[path] + "\n".join(lines) + "\n", "utf-8")
        print(f"{path.name}: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
