"""Ingest with many encoders: shards to parts by Ray, then the ordinary ingest out of the parts."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.scan import scan
from embedspace.catalog.ingest.spread.parts import PartsEncoder, parts_in
from embedspace.catalog.ingest.spread.rays import encode_with_ray
from embedspace.catalog.ingest.spread.shards import Shard, cut_shards, part_path
from embedspace.catalog.records import IngestReport, Progress
from embedspace.errors import SpreadError
from embedspace.segment import SegmentEncoder

__all__ = ["ingest_spread"]


def ingest_spread(
    catalog: Catalog,
    sources: Sequence[str | Path],
    encoder: SegmentEncoder,
    *,
    opened: Callable[[], SegmentEncoder],
    actors: int,
    parts: Path | None = None,
    batch_size: int = 32,
    callback: Callable[[Progress], None] | None = None,
    **options: Any,  # noqa: ANN401
) -> IngestReport:
    """Bring a catalog up to date as `ingest` does, but for who encodes: actors of Ray.

    It may be killed at any moment: parts that were written are not encoded again.

    Args:
        catalog: An open catalog.
        sources: Files, folders and manifests.
        encoder: What made the catalog's vectors; it encodes only what actors could not.
        opened: Returns the same encoder in an actor.
        actors: How many encode side by side.
        parts: Folder of the parts, seen by all actors; they stay there, for `catalog import`. Where `None` they are
            beside the catalog and are deleted at the end.
        batch_size: Items of a shard, encoded at a time.
        callback: Called with the progress.
        options: As `ingest` takes them.

    Raises:
        MissingExtraError: If Ray or pyarrow is not installed.
        SpreadError: If Ray cannot start, runs out of memory or loses a shard; what was written is kept.
        EmbedspaceError: As `ingest`.
    """
    folder = parts or catalog.path.with_name(f"{catalog.path.name}.parts")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpreadError(f"{folder}: cannot be made ({error.strerror}); name another folder with --parts") from error
    shards = _shards(catalog, sources, encoder, batch_size, options)
    total, done = sum(len(shard.candidates) for shard in shards), 0
    try:
        for count in encode_with_ray(shards, opened, folder, actors) if shards else ():
            done += count
            if callback is not None:
                callback(Progress(done, done, done, 0, str(folder), total))
    except KeyboardInterrupt:
        return IngestReport(interrupted=True)
    known = parts_in([part_path(folder, shard.name) for shard in shards])
    report = ingest(
        catalog, sources, PartsEncoder(known, encoder), batch_size=batch_size, callback=callback, **options
    )  # fmt: skip
    if parts is None and not report.interrupted:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _shards(
    catalog: Catalog, sources: Sequence[str | Path], encoder: SegmentEncoder, size: int, options: Mapping[str, Any]
) -> list[Shard]:
    """Return what the catalog lacks of the sources, in shards."""
    scans = (
        scan(source, as_modality=options.get("as_modality"), text_fields=options.get("text_fields"))
        for source in sources
        if Path(source).exists()
    )
    found = itertools.chain.from_iterable(scans)
    prints, retry = dict(encoder.fingerprints()), bool(options.get("retry_failed"))
    return list(cut_shards(catalog.store, found, prints, size, retry_failed=retry))
