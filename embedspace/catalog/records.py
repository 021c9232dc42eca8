"""What goes into a catalog and what comes out of it. Frozen records, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedspace.segment import Segment

__all__ = [
    "AddReport",
    "CatalogInfo",
    "CatalogItem",
    "Failure",
    "Hit",
    "IngestReport",
    "ItemRecord",
    "Loss",
    "Problem",
    "Progress",
    "RemoveReport",
    "VerifyReport",
]


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """One encoded item on its way into a catalog.

    Attributes:
        uri: Absolute path of its file, "<manifest>#<row>" for a row of a manifest (`catalog.places.row_uri`), or any
            name the caller likes.
        kind: "image", "audio", "text" or "video".
        segments: Its vectors, at least one.
        metadata: JSON-able facts that `where` can filter on.
        content_hash: Hex digest that identifies the content; made of the segments where it is empty.
        size: Bytes of the file.
        mtime_ns: Modification time of the file, in nanoseconds.
        as_modality: The modality the user imposed, empty where the content decided.
        source: The manifest that named it, empty for a file found in a folder.
        content: The text itself (a `str`, or field -> text) of an item that has no file; kept so that it can be
            encoded again.
        facts: JSON-able facts found while decoding; `metadata` wins over them.
    """

    uri: str
    kind: str
    segments: Sequence[Segment]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content_hash: str = ""
    size: int = 0
    mtime_ns: int = 0
    as_modality: str = ""
    source: str = ""
    content: str | Mapping[str, str] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AddReport:
    """What `Catalog.add` did: items new to the catalog, paths whose content changed, paths of content already known."""

    added: int = 0
    updated: int = 0
    known: int = 0


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """What `Catalog.remove` did; an item goes with its last place.

    Attributes:
        items: Items that are gone.
        places: Places of items that were forgotten.
        failures: Places that could not be indexed and are no longer listed as failed.
    """

    items: int = 0
    places: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """One item as the catalog holds it.

    Attributes:
        id: Content hash.
        uris: Every place it was found at, oldest first.
        kind: "image", "audio", "text" or "video".
        metadata: Facts of decoding and of manifests, merged.
        segments: Modality -> number of its segments.
    """

    id: str
    uris: tuple[str, ...]
    kind: str
    metadata: dict[str, Any]
    segments: dict[str, int]


@dataclass(frozen=True, slots=True)
class Hit:
    """One item that answers a query, by its best segment.

    Attributes:
        id: Content hash of the item.
        uri: Where it is (the oldest of its places).
        kind: "image", "audio", "text" or "video".
        modality: Modality of the segment that matched.
        score: Cosine of query and segment, -1 to 1.
        probability: That the item is a match, for a user who as often as not looks for what is not there: from the
            score, its lead over the next hit, and how the query scores against all items of the modality. None where
            the space was not calibrated for every modality that the query searched.
        start: Where the segment starts: seconds (audio, speech, video) or characters (text); None for a whole item.
        end: As `start`.
        text: What the segment says, where known.
        label: Name of the matching field ("title", ...), empty where the item has none.
        metadata: The item's metadata.
        rank: 1 is the best.
    """

    id: str
    uri: str
    kind: str
    modality: str
    score: float
    probability: float | None
    start: float | None
    end: float | None
    text: str
    label: str
    metadata: dict[str, Any]
    rank: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or row that could not be indexed; a `known` one failed before, is unchanged, and was not tried again."""

    uri: str
    reason: str
    known: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that `verify` found wrong.

    Attributes:
        what: "database", "vector", "item", "missing file", "changed file", "damaged file", "fingerprint", "derived
            file" or "engine".
        where: Uri, item id or file name.
        detail: What exactly, and what to do about it.
    """

    what: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `Catalog.verify` checked and found."""

    items: int
    segments: int
    files: int
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """A catalog at a glance.

    Attributes:
        path: Its folder.
        format_version: Version of the SQLite schema.
        embed_dim: Length of every vector.
        items: Number of items.
        uris: Number of places; more than `items` where the same content lies at several paths.
        kinds: Kind -> number of items.
        segments: Modality -> number of segments.
        failures: Files that could not be indexed, with the reason.
        fingerprints: Modality -> digest of the encoder that made its vectors.
        fields: Names that `where` knows.
        settings: Name of the index settings.
        indexes: Modality -> how it is searched.
        size_bytes: Size of the whole folder on disk.
        calibrated: Whether probabilities come from a measured calibration.
    """

    path: str
    format_version: int
    embed_dim: int
    items: int
    uris: int
    kinds: dict[str, int]
    segments: dict[str, int]
    failures: tuple[Failure, ...]
    fingerprints: dict[str, str]
    fields: tuple[str, ...]
    settings: str
    indexes: dict[str, str]
    size_bytes: int
    calibrated: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is.

    Attributes:
        seen: Files and rows looked at so far.
        done: How many of these are settled.
        added: New or changed items stored.
        failed: Files that could not be indexed.
        uri: The latest one, or the one that is being encoded.
        total: Files and rows in all; `None` while they are not counted.
        part: Share of a long item at `uri` that is encoded; 0 where none is under way.
    """

    seen: int
    done: int
    added: int
    failed: int
    uri: str
    total: int | None = None
    part: float = 0.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Places of a source that a prune left alone.

    Attributes:
        source: The folder or manifest.
        places: How many.
        known: How many places of it are known in all.
        reason: Why they were left alone.
        sure: Whether nothing is there any more; if not, one could not look.
    """

    source: str
    places: int
    known: int
    reason: str
    sure: bool


@dataclass(slots=True)
class IngestReport:
    """What an ingest did.

    Attributes:
        seen: Files and rows that could be items.
        added: Items new to the catalog.
        updated: Places whose content changed.
        unchanged: Places left as they were.
        moved: Known content at a new place, gone from its old one.
        duplicates: Known content at one more place.
        removed: Items removed because their files are gone (only with `prune`).
        kept: Places that `prune` left alone: one cannot look, or it would be most of a source.
        failed: What could not be indexed, with the reason; `known` ones failed before and were not retried.
        skipped: Suffix -> number of files that hold nothing to encode.
        interrupted: Whether Ctrl-C ended it early.
        seconds: Wall time.
        stages: Stage -> seconds of it: "encode image" and so on, "encode" (what is left of that), "store", "wait for
            decoding"; the rest looks for files.
        decoding: Seconds of reading and decoding in all threads together, most of them while others encode.
    """

    seen: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    duplicates: int = 0
    removed: int = 0
    kept: list[Loss] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    decoding: float = 0.0

    @property
    def settled(self) -> int:
        """Files and rows that are in the catalog now, places forgotten because their files are gone included."""
        return self.added + self.updated + self.unchanged + self.moved + self.duplicates + self.removed
