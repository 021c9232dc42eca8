"""What became of one candidate of an ingest: an item to store, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from embedspace.catalog.ingest.pipeline import Prepared
from embedspace.catalog.records import CatalogItem
from embedspace.catalog.store.store import Store
from embedspace.segment import Segment

__all__ = ["Unindexed", "catalog_item"]


@dataclass(frozen=True, slots=True)
class Unindexed:
    """A candidate that could not be indexed, and why."""

    prepared: Prepared
    reason: str

    def record(self, store: Store) -> None:
        """Write it down inside an open transaction; where every byte could be read, what was there before is gone."""
        candidate = self.prepared.candidate
        if self.prepared.readable:
            store.mark_damaged(candidate.uri, candidate.kind, self.prepared.digest)
        store.fail(candidate.uri, self.reason, candidate.size, candidate.mtime_ns)


def catalog_item(prepared: Prepared, segments: list[Segment]) -> CatalogItem:
    """Return the item of a decoded candidate and its segments."""
    candidate, decoded = prepared.candidate, prepared.decoded
    return CatalogItem(
        uri=candidate.uri,
        kind=candidate.kind,
        segments=segments,
        metadata=candidate.metadata,
        content_hash=prepared.digest,
        size=candidate.size,
        mtime_ns=candidate.mtime_ns,
        as_modality=candidate.as_modality,
        source=candidate.manifest,
        content=candidate.content,
        facts={key: _number(value) for key, value in (decoded.metadata if decoded else {}).items()},
    )


def _number(value: Any) -> Any:  # noqa: ANN401
    return value.item() if isinstance(value, np.generic) else value
