"""Cutting what is to be indexed into shards: the batches that one process would encode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from embedspace.catalog.content_ids import file_hash
from embedspace.catalog.ingest.scan import Candidate, Skipped
from embedspace.catalog.records import Failure
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.uris import item_of, known_failures, known_places

__all__ = ["Shard", "cut_shards", "part_path"]

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Shard:
    """Candidates of one kind that are encoded together.

    Attributes:
        name: Digest of what they are and of the encoder: the name of its part.
        candidates: Files and rows, in the order in which they were found.
    """

    name: str
    candidates: tuple[Candidate, ...]


def cut_shards(
    store: Store,
    found: Iterable[Candidate | Skipped | Failure],
    fingerprints: dict[str, str],
    size: int,
    *,
    retry_failed: bool = False,
) -> Iterator[Shard]:
    """Yield shards of what the catalog does not hold; content that comes twice is encoded once.

    Args:
        store: The catalog's rows.
        found: What a scan finds.
        fingerprints: Of the encoder.
        size: Candidates of a shard.
        retry_failed: Also what failed before and is unchanged.
    """
    waiting: dict[str, list[Candidate]] = {}
    seen: set[str] = set()
    for candidate in _unknown(store, found, retry_failed=retry_failed):
        try:
            digest = candidate.content_hash or file_hash(candidate.uri, candidate.kind)
        except OSError:
            continue  # the ingest says why it cannot be read
        known = item_of(store, digest)
        if digest in seen or (known and candidate.as_modality in ("", known[1])):
            continue
        seen.add(digest)
        batch = waiting.setdefault(candidate.kind, [])
        batch.append(candidate)
        if len(batch) >= size:
            yield _shard(waiting.pop(candidate.kind), fingerprints)
    for batch in waiting.values():
        yield _shard(batch, fingerprints)


def _unknown(
    store: Store, found: Iterable[Candidate | Skipped | Failure], *, retry_failed: bool
) -> Iterator[Candidate]:
    entries = (one for one in found if isinstance(one, Candidate) and one.uri.isprintable())
    while chunk := list(islice(entries, _CHUNK)):
        uris = [one.uri for one in chunk]
        places, failures = known_places(store, uris), {} if retry_failed else known_failures(store, uris)
        for one in chunk:
            known, failed, stat = places.get(one.uri), failures.get(one.uri), (one.size, one.mtime_ns)
            settled = known is not None and known[:2] == stat and one.content_hash in ("", known.content_id)
            if not (settled and known and one.as_modality in ("", known.as_modality)) and not (
                failed is not None and failed[:2] == stat
            ):
                yield one


def _shard(candidates: Sequence[Candidate], fingerprints: dict[str, str]) -> Shard:
    facts = [[one.uri, one.kind, one.size, one.mtime_ns, one.as_modality, one.content_hash] for one in candidates]
    text = json.dumps([sorted(fingerprints.items()), facts])
    return Shard(
        hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest(), tuple(candidates)
    )


def part_path(folder: Path, shard: str) -> Path:
    """Return where the part of a shard is."""
    return folder / f"{shard}.parquet"
