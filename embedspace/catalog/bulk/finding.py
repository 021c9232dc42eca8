"""Finding the files of an encoding, and refusing what cannot be one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from embedspace.catalog.bulk.arrays import ArrayShard
from embedspace.catalog.bulk.lines import LinesShard, has_vectors
from embedspace.catalog.bulk.parquet import ParquetShard
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.tar import TarShard
from embedspace.catalog.store.schema import DATABASE
from embedspace.errors import InputError

__all__ = ["find_shards"]

_KINDS: dict[str, type[Shard]] = {".parquet": ParquetShard, ".npy": ArrayShard, ".tar": TarShard, ".jsonl": LinesShard}


def find_shards(folder: Path, modality: str) -> list[Shard]:
    """Return the shards in a folder, or of one file, in the order of their names.

    Args:
        folder: A folder, looked through with those in it, or a file.
        modality: What the rows are that name none.

    Raises:
        InputError: If there are none, one cannot be read, two are the same, or their vectors differ in length or
            encoder.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder")
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if path.name == DATABASE or path.suffix == ".packed":
            what = "a catalog" if path.name == DATABASE else f"a part of a catalog ({path.name})"
            raise InputError(
                f"{path.parent}: {what}, which is not imported; write it out first: embedspace catalog export CATALOG "
                "FILE.parquet"
            )
    found = [_KINDS[path.suffix](path, modality) for path in files if _is_shard(path, named=path == folder)]
    if not found:
        known = ".parquet, .jsonl, .npy (beside it a .jsonl of the same name), .tar (webdataset)"
        raise InputError(f"{folder}: nothing to import; known: {known}")
    _refuse_twice(found)
    _refuse_mixed(found)
    return found


def _is_shard(path: Path, *, named: bool) -> bool:
    """Return whether a file is read; in a folder a .jsonl without vectors is not, nor one that goes with an array."""
    if path.suffix == ".jsonl" and not named:
        return not path.with_suffix(".npy").exists() and has_vectors(path)
    return path.suffix in _KINDS


def _refuse_twice(shards: list[Shard]) -> None:
    """Refuse a shard that was written twice."""
    by_size: dict[int, list[Shard]] = {}
    for shard in shards:
        by_size.setdefault(shard.size, []).append(shard)
    for alike in by_size.values():
        seen: dict[tuple[bytes, ...], Shard] = {}
        for shard in alike if len(alike) > 1 else ():
            digest = tuple(_digest(path) for path in (shard.path, shard.path.with_suffix(".jsonl")) if path.exists())
            if (other := seen.setdefault(digest, shard)) is not shard:
                raise InputError(f"{shard.path}: the same as {other.path}, written twice; delete one of them")


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _refuse_mixed(shards: list[Shard]) -> None:
    """Refuse shards of different spaces."""
    first = next((shard for shard in shards if shard.embed_dim), None)
    for shard in shards:
        if first is not None and shard.embed_dim not in (0, first.embed_dim):
            raise InputError(
                f"{shard.path}: vectors of length {shard.embed_dim}, those of {first.path} have {first.embed_dim}; "
                "import each space into a catalog of its own"
            )
    known: dict[str, tuple[str, Path]] = {}
    for shard in shards:
        for name, digest in (shard.origin.fingerprints if shard.origin else {}).items():
            other, path = known.setdefault(name, (digest, shard.path))
            if other != digest:
                raise InputError(
                    f"{shard.path}: its {name} vectors are of another encoder ({digest[:12]}) than those of {path} "
                    f"({other[:12]}); import each space into a catalog of its own"
                )
