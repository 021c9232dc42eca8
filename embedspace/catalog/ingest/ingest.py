"""Ingest: scan -> decode in threads -> encode in batches -> store, one transaction per batch.

What is unchanged (same path, size and modification time) is not even opened; what has known content (moved, copied,
touched) is hashed and not encoded. The process may be killed at any moment: batches that were committed stay, the rest
is done by the next run.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.ingest.counting import SourceCounter
from embedspace.catalog.ingest.ingestion import Ingestion
from embedspace.catalog.ingest.scan import scan
from embedspace.catalog.records import Failure, IngestReport, Loss, Progress
from embedspace.errors import FingerprintMismatchError, InputError
from embedspace.modality import is_modality, modality_names
from embedspace.segment import SegmentEncoder
from embedspace.stages import timed_stages

__all__ = ["IngestReport", "Progress", "ingest"]


def ingest(
    catalog: Catalog,
    sources: Sequence[str | Path],
    encoder: SegmentEncoder,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    prune: bool = False,
    confirm_loss: Callable[[Loss], bool] | None = None,
    as_modality: str | None = None,
    retry_failed: bool = False,
    text_fields: Sequence[str] | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Bring a catalog up to date with files, folders and manifests.

    Args:
        catalog: An open catalog.
        sources: Files, folders (recursive) and manifests (.csv .tsv .jsonl .json .parquet).
        encoder: Makes the vectors; it must be the one the catalog was made with.
        batch_size: Items encoded, and committed, at a time.
        workers: Threads that read and decode; one per core, at most 4, where `None`.
        prune: Forget places under the sources where nothing is any more, and items that thereby lie nowhere.
        confirm_loss: Asked before more than half of a source's places (and more than ten) are forgotten, or all of an
            empty one; where `None` they are kept, and the report says so.
        as_modality: What recordings are, "audio" or "speech"; decided by their content where `None`.
        retry_failed: Try again what failed before and is unchanged.
        text_fields: Columns of a manifest that hold the text of a row without a file.
        callback: Called with the progress, in the calling thread.

    Returns:
        The report, also after Ctrl-C (`interrupted`); unreadable files are skipped and listed with the reason.

    Raises:
        InputError: If none of the sources exists.
        FingerprintMismatchError: If the catalog's vectors come from another encoder.
        CatalogLockedError: If another process keeps writing to the catalog.
        StorageFullError: If the disk is full; what was committed before is intact.
    """
    missing = _missing(sources)
    _check(catalog, encoder, as_modality)
    catalog.adopt_fingerprints(encoder.fingerprints(), encoder.calibration_json())
    started, counter = time.perf_counter(), SourceCounter(sources)
    run = Ingestion(
        catalog, encoder, batch_size=batch_size, workers=workers or min(4, os.cpu_count() or 1),
        retry_failed=retry_failed, callback=callback, counter=counter,
    )  # fmt: skip
    run.report.failed.extend(Failure(uri, "no such file or folder") for uri in missing)
    present = [source for source in sources if str(source) not in missing]
    with contextlib.closing(counter), contextlib.closing(run.pipeline), timed_stages(run.report.stages):
        try:
            for source in present:
                run.source(source, scan(source, as_modality=as_modality, text_fields=text_fields), prune=prune)
            run.finish()
            if prune:
                run.prune(present, confirm_loss)
        except KeyboardInterrupt:
            run.report.interrupted = True
    run.report.seconds, run.report.decoding = time.perf_counter() - started, run.pipeline.seconds
    return run.report


def _missing(sources: Sequence[str | Path]) -> list[str]:
    """Return the sources that do not exist.

    Raises:
        InputError: If none does.
    """
    missing = [str(source) for source in sources if not os.path.exists(source)]
    if sources and len(missing) == len(sources):
        raise InputError(f"no such file or folder: {', '.join(missing)}")
    return missing


def _check(catalog: Catalog, encoder: SegmentEncoder, as_modality: str | None) -> None:
    """Refuse a modality that nobody knows, and an encoder of another width than the catalog's."""
    if as_modality is not None and not is_modality(as_modality):
        raise InputError(f"unknown modality {as_modality!r}; known: {', '.join(modality_names())}")
    if encoder.embed_dim != catalog.embed_dim:
        raise FingerprintMismatchError(
            f"{catalog.path}: is for vectors of length {catalog.embed_dim}, the encoder makes {encoder.embed_dim}. "
            f"Run: embedspace catalog migrate {catalog.path}, or index into a new catalog"
        )
