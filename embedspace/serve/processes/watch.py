"""The program that keeps folders indexed: it writes the catalog, and tells how far it is in JSON lines.

What the system says of changes is a hint: it may be told late, several times, or never. After two seconds of quiet, and
every ten minutes, the folders are looked through again; what is known and unchanged costs a look at its size and time.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from embedspace.catalog import IngestReport, Progress
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.opening import open_or_create
from embedspace.errors import CatalogLockedError, EmbedspaceError
from embedspace.space import EmbeddingSpace

__all__ = ["main", "rescan"]

QUIET_MS = 2_000
RESCAN_SECONDS = 600.0
_CHANGING_MS = 30_000
"""Where something changes all the time, folders are looked through after so long all the same."""
_TELL_SECONDS = 0.25

Tell = Callable[..., None]


def rescan(catalog: Path, folders: list[Path], space: EmbeddingSpace, tell: Tell) -> IngestReport:
    """Bring the catalog up to what lies in the folders; what is gone is forgotten, unless it would be most of it."""
    last = 0.0

    def progress(now: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_SECONDS:
            last = time.monotonic()
            tell(running=True, done=now.done, total=now.total or now.seen, failed=now.failed)

    with open_or_create(catalog, space) as opened:
        report = ingest(opened, folders, space, prune=True, callback=progress)
    bad = report.failed[-1] if report.failed else None
    error = None if bad is None else f"{bad.uri}: {bad.reason.removeprefix(f'{bad.uri}: ')}"
    tell(running=False, done=report.seen, total=report.seen, failed=len(report.failed), last_error=error)
    return report


def _open_space(name: str | None, device: str) -> EmbeddingSpace:
    if name is not None and name.endswith(".toml"):
        return EmbeddingSpace.compose(name, device=device)
    return EmbeddingSpace.from_pretrained(name, device=device)


def _told(state: dict[str, Any]) -> Tell:
    out = sys.stdout
    sys.stdout = sys.stderr

    def tell(**changes: Any) -> None:  # noqa: ANN401
        state.update(changes)
        print(json.dumps(state), file=out, flush=True)

    return tell


def _end_with_the_server() -> None:
    """Interrupt the program when its standard input ends: the server is gone, or ends it."""
    while os.read(0, 1 << 16):  # not sys.stdin: Python aborts where a thread holds its lock at the end
        pass
    _thread.interrupt_main()


def _is_outside(catalog: Path) -> Callable[[Any, str], bool]:
    """Return what leaves out the catalog's own files, or each change would be followed by another."""
    inside = f"{catalog.resolve()}/"
    return lambda _, path: not path.startswith(inside)


def _await_change(changes: Iterator[Any]) -> None:
    """Return when something has changed, or when it is time to look through the folders all the same."""
    until = time.monotonic() + RESCAN_SECONDS
    while not next(changes) and time.monotonic() < until:
        pass


def main() -> None:
    """Keep the folders indexed until standard input ends."""
    import watchfiles

    os.nice(10)
    asked = json.loads(sys.argv[1])
    catalog, folders = Path(asked["catalog"]), [Path(folder) for folder in asked["folders"]]
    tell = _told({"watching": True, "running": True, "done": 0, "total": None, "failed": 0, "last_error": None})
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    try:
        tell()
        changes = watchfiles.watch(
            *folders,
            watch_filter=_is_outside(catalog),
            step=QUIET_MS,
            debounce=_CHANGING_MS,
            rust_timeout=QUIET_MS,
            yield_on_timeout=True,
            raise_interrupt=True,
        )
        with ThreadPoolExecutor(1) as thread:
            watched = thread.submit(next, changes)  # from here on; what changes during the first look is not missed
            space = _open_space(asked["space"], asked["device"])
            with contextlib.suppress(FileNotFoundError):  # a folder that is missing: the look says which
                watched.result()
        while True:
            try:
                rescan(catalog, folders, space, tell)
            except CatalogLockedError as error:  # another ingest runs: later
                tell(running=False, last_error=str(error))
                time.sleep(5)
                continue
            _await_change(changes)
    except EmbedspaceError as error:
        tell(running=False, watching=False, last_error=str(error))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        tell(running=False, last_error=f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main()
