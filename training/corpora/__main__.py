"""Build the corpora from pinned packages: python -m training.corpora.

    python -m training.corpora                        # everything; what is built is skipped
    python -m training.corpora --only stamps          # some sources; repeat for several
    python -m training.corpora --list

Each source lands in build/corpora/<source>/ with a manifest.jsonl; a run that was killed goes on where it was. The
splits are assigned anew at the end, from the near-copies on record.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from embedspace.errors import EmbedspaceError
from training.corpora import splits
from training.corpora.duplicates import IMAGE_SOURCES
from training.corpora.manifest import CORPORA
from training.corpora.sources import SOURCES, build_source, is_built, load_source


def _listed(name: str) -> str:
    manifest = CORPORA / name / "manifest.jsonl"
    count = sum(1 for _ in manifest.open(encoding="utf-8")) if manifest.exists() else 0
    state = "built" if is_built(name) else "stale" if count else "-"
    return f"{name:14} {state:6} {count:6}  {' '.join(load_source(name).PACKAGES)}"


def build(names: Sequence[str], force: bool = False) -> None:
    """Build sources in the order of the registry, then split.

    Args:
        names: Which; all if empty.
        force: Also those that are built.
    """
    for name in names or SOURCES:
        if is_built(name) and not force:
            print(f"{name}: built already")
            continue
        started = time.monotonic()
        count = build_source(name)
        print(f"{name}: {count} items in {time.monotonic() - started:.0f} s", flush=True)
        if name in IMAGE_SOURCES:
            _split()
    _split()


def _split() -> None:
    missing = [name for name in IMAGE_SOURCES if not (CORPORA / name / "manifest.jsonl").exists()]
    if "stamps" in missing:
        return
    summary = splits.apply_splits()
    without = f", without {' '.join(missing)}" if missing else ""
    print(f"splits{without}: {json.dumps(summary['hash'])}, gallery of {summary['gallery']}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; a mistake or a failed package is one line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.corpora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar="SOURCE", help="build this source; repeatable")
    parser.add_argument("--force", action="store_true", help="build again what is built")
    parser.add_argument("--list", action="store_true", help="say what there is and stop")
    options = parser.parse_args(arguments)
    try:
        for name in options.only:
            load_source(name)
        if options.list:
            print("\n".join(_listed(name) for name in SOURCES))
        else:
            build(options.only, options.force)
    except EmbedspaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
