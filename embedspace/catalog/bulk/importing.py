"""Bringing an encoding that was made elsewhere into a catalog: checked first, then written, and resumed if killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedspace.catalog.bulk.finding import find_shards
from embedspace.catalog.bulk.origin import Origin, origin_of_folder
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.table import ItemTable
from embedspace.catalog.catalog import Catalog
from embedspace.catalog.records import Progress
from embedspace.catalog.store.bulk.progress import forget_imports, imported_rows, note_import
from embedspace.errors import FingerprintMismatchError, InputError

__all__ = ["Encoding", "ImportReport", "import_encoding", "read_encoding"]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A folder of encoded items whose files were looked at.

    Attributes:
        path: The folder, or the one file.
        shards: Its files, in order.
        origin: Which encoder made the vectors, as far as the files say.
    """

    path: Path
    shards: Sequence[Shard]
    origin: Origin | None

    @property
    def embed_dim(self) -> int:
        """Length of the vectors; 0 where there are none."""
        return next((shard.embed_dim for shard in self.shards if shard.embed_dim), 0)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        files: Files that were read.
        added: Items new to the catalog.
        updated: Places that hold other content now.
        known: Items that were there already.
        resumed: Rows that an earlier, killed import had written.
        seconds: Wall time.
    """

    files: int
    added: int
    updated: int
    known: int
    resumed: int
    seconds: float


def read_encoding(path: str | Path, *, modality: str = "") -> Encoding:
    """Look at a folder of encoded items, or one file of them, without reading the rows.

    Args:
        path: Parquet files, arrays (.npy) with a .jsonl beside each, or webdataset shards (.tar).
        modality: What the rows are that name none.

    Raises:
        InputError: If a file cannot be read or lacks a column, two are the same, or they are of several spaces.
        MissingExtraError: If there is parquet and pyarrow is not installed.
    """
    path = Path(path)
    shards = find_shards(path, modality)
    origins = [shard.origin for shard in shards if shard.origin is not None]
    if not origins:
        return Encoding(path, shards, origin_of_folder(path if path.is_dir() else path.parent))
    prints = {name: digest for origin in origins for name, digest in origin.fingerprints.items()}
    calibration = next((origin.calibration_json for origin in origins if origin.calibration_json), "")
    return Encoding(path, shards, Origin(origins[0].embed_dim, prints, calibration))


def import_encoding(
    catalog: Catalog,
    encoding: Encoding,
    *,
    callback: Callable[[Progress], None] | None = None,
) -> ImportReport:
    """Add the items of a folder; what a killed import has written is not written again.

    Args:
        catalog: An open catalog.
        encoding: From `read_encoding`.
        callback: Called with the progress after every batch.

    Raises:
        InputError: If a row is wrong: nothing of its batch is written, those before it stay, and the same command goes
            on once the file is mended.
        FingerprintMismatchError: If the vectors are of another encoder than the catalog's.
    """
    started = time.perf_counter()
    _check(catalog, encoding)
    if encoding.origin is not None:
        catalog.adopt_fingerprints(encoding.origin.fingerprints, encoding.origin.calibration_json)
    run = _Run(catalog, encoding, callback)
    report = catalog.add_many(run.tables(), written=run.note)
    forget_imports(catalog.store, [str(shard.path.absolute()) for shard in encoding.shards])
    seconds = time.perf_counter() - started
    files = len(encoding.shards)
    return ImportReport(files, report.added, report.updated, report.known, run.resumed, seconds)


def _check(catalog: Catalog, encoding: Encoding) -> None:
    if encoding.embed_dim not in (0, catalog.embed_dim):
        raise InputError(
            f"{encoding.path}: vectors of length {encoding.embed_dim}; {catalog.path} holds {catalog.embed_dim}"
        )
    if encoding.origin is not None:
        _check_origin(encoding.origin, catalog, encoding.path)


def _check_origin(origin: Origin, catalog: Catalog, where: Path) -> None:
    """Refuse vectors of another encoder than a catalog's.

    Raises:
        FingerprintMismatchError: If one of its modalities has another digest there.
    """
    ours, theirs = catalog.fingerprints, origin.fingerprints
    differ = origin.differing(ours)
    if differ and catalog.info().segments:
        details = "; ".join(f"{name}: catalog {ours[name][:12]}, here {theirs[name][:12]}" for name in differ)
        raise FingerprintMismatchError(
            f"{where}: its vectors are of another encoder than those of {catalog.path} ({details}); import them into a "
            "catalog of their own"
        )


class _Run:
    """One import under way."""

    def __init__(self, catalog: Catalog, encoding: Encoding, callback: Callable[[Progress], None] | None) -> None:
        self.catalog, self.encoding, self.callback = catalog, encoding, callback
        self.shards = {str(shard.path): shard for shard in encoding.shards}
        self.known = {*catalog.fingerprints}
        counts = [shard.rows for shard in encoding.shards]
        self.total = None if None in counts else sum(count or 0 for count in counts)
        self.resumed = self.done = 0

    def tables(self) -> Iterator[ItemTable]:
        """Yield what is not written yet."""
        for shard in self.encoding.shards:
            first = imported_rows(self.catalog.store, *_identity(shard))
            self.resumed += first
            self.done += first
            for table in shard.read(first):
                self._require_encoder(table)
                yield table

    def _require_encoder(self, table: ItemTable) -> None:
        names = [table.modalities] if isinstance(table.modalities, str) else table.modalities
        for name in sorted(set(names) - self.known):
            raise InputError(
                f"{table.name}: nothing says which encoder made its {name} vectors, and the catalog has none; name "
                "their space (--space)"
            )

    def note(self, batch: ItemTable) -> None:
        """Record a batch, inside the transaction that writes it."""
        note_import(self.catalog.store, *_identity(self.shards[batch.name]), batch.first + len(batch))
        self.done += len(batch)
        if self.callback is not None:
            done = self.done
            self.callback(Progress(done, done, done - self.resumed, 0, batch.name, total=self.total))


def _identity(shard: Shard) -> tuple[str, int, int]:
    return os.path.abspath(shard.path), shard.size, shard.mtime_ns
