"""When a FAISS index is built, takes newer rows in, or is built anew: after writes, never while somebody searches."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from enum import Enum

from embedspace.catalog.index.ann.built import AnnIndex, build_index, extended, index_size, kind_of
from embedspace.catalog.index.ann.files import index_path, load_index, save_index
from embedspace.catalog.index.ann.probing import held_out, probed_for
from embedspace.catalog.index.gpu import device_number
from embedspace.catalog.index.runs import Rows
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.store.store import Store

__all__ = ["Moment", "Upkeep"]

Stamp = tuple[int, int, int] | None

_GROWN = 3
"""An index over so many times the vectors that it was trained on has too few cells."""


class Moment(Enum):
    """When upkeep is done; the values are how many newer rows are worth it: at least, and as a share of the index."""

    BACKGROUND = (20_000, 0.04)
    CLOSE = (1_000, 0.01)
    OPTIMIZE = (1, 0.0)


class Upkeep:
    """The indexes of one catalog, as files."""

    def __init__(self, store: Store, settings: IndexSettings) -> None:
        """Keep the indexes of a store."""
        self.store, self.settings = store, settings
        self._paths: dict[str, str] = {}

    def exact(self, count: int) -> bool:
        """Return whether so many rows are searched without an index."""
        return self.settings.index == "exact" or count < self.settings.min_vectors

    def described(self, count: int, ann: AnnIndex | None) -> str:
        """Return in words how so many rows are searched."""
        if self.exact(count):
            return "exact"
        words = f"{self.settings.index}, {ann.kind if ann else self.settings.quantizer}"
        return f"{words}: not built yet" if ann is None else f"{words}: {ann.size} vectors, built at {ann.built_at}"

    def stamp(self, modality: str) -> Stamp:
        """Return what changes when the file of an index is replaced; `None` where there is none."""
        if modality not in self._paths:
            self._paths[modality] = str(index_path(self.store.folder, modality))
        try:
            facts = os.stat(self._paths[modality])
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def stored(self, modality: str) -> AnnIndex | None:
        """Return the stored index of a modality, if it may be used."""
        path = index_path(self.store.folder, modality)
        return load_index(path, self.settings, self.store.catalog_id, self.store.embed_dim)

    def due(self, ann: AnnIndex | None, rows: Rows, moment: Moment) -> bool:
        """Return whether an index should be made of rows now."""
        if self.exact(len(rows)) or not rows.living:
            return False
        if ann is None:
            return True
        least, share = moment.value
        share = max(share, self.settings.rebuild_fraction) if ann.shell is None and ann.cells == 0 else share
        fresh = rows.after(ann.built_at).living
        dead = max(0, ann.size + fresh - rows.living)
        if moment is Moment.OPTIMIZE and self._anew(ann, rows, moment):
            return True
        return fresh > max(least - 1, share * ann.size) or dead > self.settings.rebuild_fraction * ann.size

    def _anew(self, ann: AnnIndex, rows: Rows, moment: Moment) -> bool:
        """Return whether an index has to be trained again; an HNSW graph, or one of an earlier version, always."""
        if ann.shell is None:
            return bool(ann.cells) or rows.after(ann.built_at).living > 0
        if moment is Moment.OPTIMIZE and ann.kind != kind_of(self.settings, rows.living, rows.embed_dim):
            return True
        return rows.living > _GROWN * max(ann.trained, 1)

    def size(self, rows: Rows) -> int:
        """Return about how many bytes an index takes."""
        return index_size(rows, self.settings)

    def make(self, modality: str, rows: Mapping[str, Rows], ann: AnnIndex | None, moment: Moment) -> AnnIndex:
        """Build an index, or add what is newer to one, write it, and return it as it lies on disk.

        Args:
            modality: What it is of.
            rows: Modality -> all its rows.
            ann: The index there is.
            moment: Why it is made.
        """
        its = rows[modality]
        if ann is None or ann.shell is None or self._anew(ann, its, moment):
            made = self._probed(modality, rows, build_index(its, self.settings))
        else:
            made = extended(ann, its)
        return self.written(modality, made)

    def written(self, modality: str, ann: AnnIndex) -> AnnIndex:
        """Write an index and return it as it lies on disk; as it is in memory where that is impossible."""
        path = index_path(self.store.folder, modality)
        saved = save_index(ann, path, self.store.catalog_id, self.store.embed_dim)
        mappable = saved and ann.shell is not None and device_number(self.settings.device) is None
        return (self.stored(modality) if mappable else None) or ann

    def _probed(self, modality: str, rows: Mapping[str, Rows], ann: AnnIndex) -> AnnIndex:
        """Measure how many cells a search has to visit."""
        if not ann.cells or self.settings.nprobe:
            return ann
        held = held_out(rows, modality, self.settings.seed)
        effort = probed_for(ann, rows[modality], held, self.settings.target_recall, ann.overfetch)
        return dataclasses.replace(ann, nprobe=effort.nprobe, recall=effort.least)
