"""The packed vectors of a catalog: parts that never change, and which of their segments were deleted since.

The first part is `vectors.packed`, as earlier versions wrote it. As soon as there are more, or deletions, a manifest
(`vectors.json`) names the parts in the order of their segments and holds a bitmap of what lives in each. It is replaced
as a whole after a new part is complete and before an old one is deleted, so that at every moment it describes what is
there. Where it does not (a part is missing, damaged, or another program wrote `vectors.packed` anew) the parts before
that one are used, and the rest is read from SQLite, which is the truth.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.index.packed import Packed, PackedFacts, load_packed, write_packed
from embedspace.catalog.index.runs import SMALL, Run
from embedspace.catalog.index.sampling.drawn import DRAWN
from embedspace.catalog.store.store import Store
from embedspace.catalog.store.vectors import SegmentRows, modality_counts, segment_batches
from embedspace.files import write_text

__all__ = [
    "BATCH",
    "MANIFEST",
    "PACKED",
    "Part",
    "Parts",
    "load_parts",
    "new_part",
    "part_of_runs",
    "read_manifest",
    "save_parts",
    "sweep",
    "write_part",
]

PACKED = "vectors.packed"
MANIFEST = "vectors.json"
_CHECKED_BYTES = 32 << 20
"""Checksums of more than this are left to `verify`: a cold search has no time for them."""
_LEFTOVER_SECONDS = 3600
BATCH = 8192
"""Rows that are checksummed together."""

Masks = Mapping[str, NDArray[np.bool_] | None]


@dataclass(frozen=True, slots=True)
class Part:
    """One packed file, and which of its rows live.

    Attributes:
        name: Name of the file.
        packed: What it holds.
        alive: Modality -> (N,) which rows live; all where `None` or not named.
    """

    name: str
    packed: Packed
    alive: Masks

    def runs(self) -> Iterator[tuple[str, Run]]:
        """Yield modality and rows."""
        for modality, rows in self.packed.rows.items():
            if not len(rows):
                continue
            run = Run(rows, self.alive.get(modality))
            if modality in self.packed.drawn:
                run.draws[DRAWN] = self.packed.drawn[modality]
            if run.alive is None and modality in self.packed.items:
                run.items = self.packed.items[modality]
            yield modality, run


@dataclass(frozen=True, slots=True)
class Parts:
    """All parts, in the order of their segments, and up to which state of the catalog they are complete."""

    parts: tuple[Part, ...] = ()
    last_seq: int = 0
    deletions: int = 0

    def with_alive(self, alive: Mapping[int, Masks], deletions: int) -> Parts:
        """Return the parts with other bitmaps, number of the part -> modality -> mask, as of some deletions."""
        parts = [replace(part, alive=alive.get(number, part.alive)) for number, part in enumerate(self.parts)]
        return Parts(tuple(parts), self.last_seq, deletions)

    def rewritten_from(self, *, thorough: bool) -> int:
        """Return from which part on a new one takes the place of all: the number of parts says none, merely append.

        Args:
            thorough: Clear away whatever slows searches down, however much is written.
        """
        small = len(self.parts)
        while small and self.parts[small - 1].packed.count < SMALL:
            small -= 1
        if thorough:
            dead = sum(run.living < len(run) * 0.95 for part in self.parts for _, run in part.runs())
            return 0 if dead or small > _MANY else small
        return small if len(self.parts) - small >= _MANY else len(self.parts)


_MANY = 8
"""So many small parts become one; so many large ones when there is time."""


def load_parts(store: Store, *, check: bool = True) -> Parts:
    """Map the packed vectors of a catalog into memory.

    Args:
        store: The catalog's rows.
        check: Leave out what does not have its checksum, of the newest 32 MB: the rest is left to `verify`.

    Returns:
        All parts that are sound, up to the first that is not; vectors of another length than the catalog's are none.
    """
    parts = _manifest_parts(store)
    if parts is None:
        alone = load_packed(store.folder / PACKED, store.catalog_id)
        parts = Parts() if alone is None else _alone(alone)
    budget = _CHECKED_BYTES
    for number in reversed(range(len(parts.parts))):
        packed = parts.parts[number].packed
        if packed.facts.embed_dim != store.embed_dim:
            return Parts()
        for modality, rows in packed.rows.items():
            budget -= rows.vectors.nbytes
            if check and budget >= 0 and not packed.sound(modality):
                parts = _first(parts, number)
                break
    return parts


def _alone(packed: Packed) -> Parts:
    return Parts((Part(PACKED, packed, {}),), packed.facts.last_seq, packed.facts.deletions)


def _first(parts: Parts, count: int) -> Parts:
    """Return the first parts; what comes after them has to be read from SQLite."""
    if not count:
        return Parts()
    return Parts(parts.parts[:count], parts.parts[count - 1].packed.facts.last_seq, parts.deletions)


def _manifest_parts(store: Store) -> Parts | None:
    """Return the parts that the manifest names, `None` where it does not describe what is there."""
    body = read_manifest(store)
    try:
        parts: list[Part] = []
        for entry in [] if body is None else body["parts"]:
            packed = load_packed(store.folder / Path(entry["file"]).name, store.catalog_id)
            if packed is None or packed.checksums != entry["checksums"] or packed.facts.last_seq != entry["last_seq"]:
                return _first(Parts(tuple(parts), 0, int(body["deletions"])), len(parts)) if parts and body else None
            alive = {name: _mask(text, len(packed.rows[name])) for name, text in entry["alive"].items()}
            parts.append(Part(entry["file"], packed, alive))
        return None if body is None else Parts(tuple(parts), int(body["last_seq"]), int(body["deletions"]))
    except (ValueError, KeyError, TypeError, AttributeError, zlib.error):
        return None


def read_manifest(store: Store) -> dict[str, Any] | None:
    """Return what the manifest says, `None` where it is missing, damaged, or of another catalog."""
    try:
        found = json.loads((store.folder / MANIFEST).read_text("utf-8"))
        body: dict[str, Any] = found["body"]
        return body if found["digest"] == _digest(body) and body["catalog"] == store.catalog_id else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(body: Any) -> str:  # noqa: ANN401
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()


def _mask(text: str, count: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if len(bits) != -(-count // 8):
        raise ValueError("a bitmap of another length")
    return np.unpackbits(bits, count=count).astype(np.bool_)


def _entry(part: Part) -> dict[str, Any]:
    alive = {
        name: base64.b64encode(zlib.compress(np.packbits(mask).tobytes())).decode()
        for name, mask in part.alive.items()
        if mask is not None
    }
    facts = part.packed.facts
    return {"file": part.name, "last_seq": facts.last_seq, "checksums": part.packed.checksums, "alive": alive}


def save_parts(store: Store, parts: Parts) -> None:
    """Write the manifest; a single part that says it all needs none.

    Raises:
        OSError: If it cannot be written.
    """
    manifest = store.folder / MANIFEST
    (first, *others) = parts.parts
    state = (first.packed.facts.last_seq, first.packed.facts.deletions)
    whole = all(mask is None for mask in first.alive.values())
    if first.name == PACKED and not others and whole and state == (parts.last_seq, parts.deletions):
        manifest.unlink(missing_ok=True)
    else:
        body = {
            "catalog": store.catalog_id,
            "last_seq": parts.last_seq,
            "deletions": parts.deletions,
            "parts": [_entry(part) for part in parts.parts],
        }
        write_text(manifest, json.dumps({"digest": _digest(body), "body": body}))


def new_part(store: Store, parts: Parts, first: int) -> Parts:
    """Write the segments after some parts, read from SQLite, as the last part.

    Args:
        store: The catalog's rows.
        parts: What there is.
        first: The new part takes the place of the parts from this one on.

    Raises:
        OSError: If it cannot be written.
        CatalogError: If the database cannot be read.
    """
    kept = parts.parts[:first]
    after = kept[-1].packed.facts.last_seq if kept else 0
    with store.snapshot("read its vectors"):  # the counts and the rows are of one moment
        _, last_seq, deletions = store.state()
        facts = PackedFacts(store.catalog_id, store.embed_dim, last_seq, deletions)
        counts = modality_counts(store, after)
        rows = {modality: segment_batches(store, modality, after) for modality in counts}
        part = write_part(store.folder, facts, counts, rows, alone=not kept)
    return Parts((*kept, part), last_seq, parts.deletions if kept else deletions)


def write_part(
    folder: Path,
    facts: PackedFacts,
    counts: Mapping[str, int],
    rows: Mapping[str, Iterator[SegmentRows]],
    *,
    alone: bool = False,
) -> Part:
    """Write a part, and map it; see `write_packed`.

    Raises:
        OSError: If it cannot be written, or not be read again.
    """
    name = PACKED if alone else f"vectors-{facts.last_seq}-{uuid.uuid4().hex[:8]}.packed"
    write_packed(folder / name, facts, counts, rows)
    packed = load_packed(folder / name, facts.catalog)
    if packed is None:
        raise OSError(f"{folder / name}: not what was written")
    return Part(name, packed, {})


def part_of_runs(folder: Path, facts: PackedFacts, runs: Mapping[str, tuple[Run, ...]], *, alone: bool) -> Part:
    """Write what lives in some runs of each modality as a part; raises as `write_part`."""
    living = {name: SegmentRows.joined([run.living_rows() for run in its]) for name, its in runs.items() if its}
    counts = {name: len(rows) for name, rows in sorted(living.items())}
    return write_part(folder, facts, counts, {name: in_batches(rows) for name, rows in living.items()}, alone=alone)


def in_batches(rows: SegmentRows) -> Iterator[SegmentRows]:
    """Yield segments as `write_packed` takes them."""
    for first in range(0, len(rows), BATCH):
        yield rows.between(first, first + BATCH)


def sweep(folder: Path, parts: Parts) -> None:
    """Delete parts that nothing names, and half-written files of killed processes; those of living ones are younger."""
    named = {part.name for part in parts.parts} or {PACKED}
    unnamed = [path for path in folder.glob("vectors*.packed") if path.name not in named]
    for path in (*folder.glob("*.partial"), *folder.glob(".*.partial.*"), *unnamed):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                path.unlink()
