"""Pairs of media and captions, from manifests and from WebDataset shards."""

from __future__ import annotations

import glob
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from embedspace.catalog.ingest.manifests import BadRow, row_of
from embedspace.catalog.ingest.tables import read_rows
from embedspace.errors import ConfigError, InputError, MissingExtraError, UnknownModalityError
from embedspace.media.source import one_line
from embedspace.modality import modality_of
from embedspace.train.align.recipe import PairsRecipe

__all__ = ["Pair", "Pairs", "read_pairs"]

Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One item and what is said of it.

    Attributes:
        id: Id of the item, unique among all.
        modality: Modality of the item.
        media: The file, or its bytes; a text is paired with texts.
        captions: At least one, the best first.
        split: "train" or "validation".
    """

    id: str
    modality: str
    media: Path | bytes | str
    captions: tuple[str, ...]
    split: Split

    @property
    def key(self) -> str:
        """Hex digest of the item as it is now: a file that changed has another one."""
        if isinstance(self.media, Path):
            state = self.media.stat()
            what = f"{self.media.resolve()} {state.st_size} {state.st_mtime_ns}".encode()
        else:
            what = self.media if isinstance(self.media, bytes) else self.media.encode()
        return hashlib.sha256(what).hexdigest()


@dataclass
class Pairs:
    """What was read.

    Attributes:
        rows: The pairs.
        skipped: Rows that are no pairs, each with its reason.
    """

    rows: list[Pair] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def of(self, modality: str, split: Split) -> list[Pair]:
        """Return the pairs of a modality and split."""
        return [pair for pair in self.rows if pair.modality == modality and pair.split == split]

    @property
    def modalities(self) -> list[str]:
        """Modalities of the items, in order of first appearance."""
        return list(dict.fromkeys(pair.modality for pair in self.rows))

    @property
    def digest(self) -> str:
        """Hex digest of which items are in which split, with which captions."""
        what = [[pair.id, pair.modality, pair.captions, pair.split] for pair in self.rows]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def read_pairs(recipe: PairsRecipe, folder: Path) -> Pairs:
    """Read the pairs that a recipe names.

    Args:
        recipe: The [pairs] table.
        folder: Where relative paths begin.

    Raises:
        ConfigError: If a manifest or shard is missing or unreadable, or nothing is left to train on.
        MissingExtraError: If a parquet file or shards need a library that is not installed.
    """
    pairs = Pairs()
    for name in recipe.manifests:
        path = folder / name
        try:
            for number, row in enumerate(read_rows(path), 1):
                _add(pairs, recipe, row, number, path, path.parent)
        except InputError as error:
            raise ConfigError(f"pairs.manifests: {error}") from error
    for path in _shards(recipe, folder):
        for number, row in enumerate(_samples(path), 1):
            _add(pairs, recipe, row, number, path, path.parent)
    counts = {split: sum(pair.split == split for pair in pairs.rows) for split in ("train", "validation")}
    if counts["train"] < 2:
        why = f"; {len(pairs.skipped)} rows were skipped, the first because {pairs.skipped[0]}" if pairs.skipped else ""
        raise ConfigError(
            f"pairs: {counts['train']} pairs to train on in {', '.join([*recipe.manifests, *recipe.shards])}: "
            f"rows need a file, a caption ({', '.join(recipe.captions)}) and the split {' or '.join(recipe.train)}{why}"
        )
    return pairs


def _add(
    pairs: Pairs, recipe: PairsRecipe, raw: Mapping[str, Any] | BadRow, number: int, manifest: Path, folder: Path
) -> None:
    """Add a row's pair, or the reason why it is none; rows of other splits are passed over."""
    found = raw if isinstance(raw, BadRow) else _pair(recipe, raw, number, manifest, folder)
    if isinstance(found, BadRow):
        pairs.skipped.append(f"{manifest} row {found.number}: {found.reason}")
    elif found is not None:
        pairs.rows.append(found)


def _pair(
    recipe: PairsRecipe, raw: Mapping[str, Any], number: int, manifest: Path, folder: Path
) -> Pair | BadRow | None:
    captions = _captions(recipe, raw)
    row = row_of({key: value for key, value in raw.items() if key not in recipe.captions}, number)
    if isinstance(row, BadRow) or not captions:
        return BadRow(number, row.reason if isinstance(row, BadRow) else "no caption")
    media = _media(row.path, row.embedded, row.content, folder)
    modality = row.modality or str(raw.get("modality") or recipe.modality)
    if not modality:
        try:
            modality = str(modality_of(row.path))
        except UnknownModalityError as error:
            return BadRow(number, str(error))
    if isinstance(media, Path) and not media.is_file():
        return BadRow(number, f"{media}: no such file")
    split = _split(recipe, raw, captions[0])
    if split is None:
        return None
    return Pair(f"{manifest.name}#{row.name}", modality, media, captions, split)


def _media(path: str, embedded: bytes | None, content: str | dict[str, str] | None, folder: Path) -> Path | bytes | str:
    if embedded is not None:
        return embedded
    if path:
        return folder / path
    return "\n".join(content.values()) if isinstance(content, dict) else content or ""


def _captions(recipe: PairsRecipe, raw: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for column in recipe.captions:
        value = raw.get(column)
        entries = value if isinstance(value, list | tuple) else [value]
        found += [" ".join(entry.split()) for entry in entries if isinstance(entry, str)]
    return tuple(dict.fromkeys(filter(None, found)))


def _split(recipe: PairsRecipe, raw: Mapping[str, Any], caption: str) -> Split | None:
    """Return a row's split, None if it is in neither. Items of one caption stay together where none is named."""
    named = raw.get(recipe.split)
    if named in (None, ""):
        share = int(hashlib.sha256(caption.casefold().encode()).hexdigest()[:8], 16) / 16**8
        return "validation" if share < recipe.validation_share else "train"
    if named in recipe.train:
        return "train"
    return "validation" if named in recipe.validation else None


def _shards(recipe: PairsRecipe, folder: Path) -> list[Path]:
    """Return the tar files that patterns with braces or wildcards name."""
    if not recipe.shards:
        return []
    try:
        from webdataset.shardlists import expand_urls
    except ImportError as error:
        raise MissingExtraError("pairs.shards needs webdataset; run: pip install 'embedspace[train]'") from error
    found: list[Path] = []
    for pattern in recipe.shards:
        if ":" in pattern:
            raise ConfigError(
                f"pairs.shards: {pattern!r}: only files are read, nothing is downloaded and no pipe opened"
            )
        paths = [
            Path(path) for name in expand_urls(str(folder / pattern)) for path in sorted(glob.glob(name)) or [name]
        ]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise ConfigError(f"pairs.shards: {missing[0]}: no such file")
        found += paths
    return found


def _samples(path: Path) -> Iterator[dict[str, Any] | BadRow]:
    """Yield the samples of a shard as rows: the media's bytes under the modality, captions and what its .json says."""
    try:
        with path.open("rb") as stream:
            yield from _rows(path, stream)
    except (tarfile.TarError, OSError) as error:
        raise ConfigError(f"pairs.shards: {path}: not a tar file, or a damaged one: {one_line(error)}") from error


def _rows(path: Path, stream: BinaryIO) -> Iterator[dict[str, Any] | BadRow]:
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    files = ({**file, "__url__": str(path)} for file in tar_file_iterator(stream))
    for number, sample in enumerate(group_by_keys(files), 1):
        row: dict[str, Any] = {"id": f"{sample['__key__']}"}
        for suffix, content in sample.items():
            if suffix.startswith("__"):
                continue
            try:
                _read_member(row, suffix.rsplit(".", 1)[-1].lower(), content)
            except ValueError as error:
                yield BadRow(number, f"{sample['__key__']}.{suffix}: {error}")
                break
        else:
            yield row


def _read_member(row: dict[str, Any], suffix: str, content: bytes) -> None:
    """Add one file of a sample to its row; files of unknown kinds are passed over."""
    if suffix == "json":
        told = json.loads(content.decode())
        row.update(told if isinstance(told, dict) else {})
    elif suffix in ("txt", "text", "caption"):
        row["txt"] = content.decode()
    else:
        try:
            kind = str(modality_of(f"x.{suffix}"))
        except UnknownModalityError:
            return
        row["modality"] = kind
        row["file"] = {"bytes": content, "path": f"{row['id']}.{suffix}"}
