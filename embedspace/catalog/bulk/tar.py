"""Shards of webdataset: tar files; the members of a sample follow each other and share the name up to its dot."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from tarfile import EOFHeaderError, HeaderError, ReadError  # type: ignore[attr-defined]
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedspace.catalog.bulk.records import table_of
from embedspace.catalog.bulk.shards import Shard
from embedspace.catalog.bulk.table import ItemTable
from embedspace.errors import InputError

__all__ = ["TarShard"]

_ROWS = 4096
_Sample = tuple[NDArray[np.floating[Any]], dict[str, Any]]


class _Header(tarfile.TarInfo):
    """A member's header, of which `tarfile` silently takes a damaged one, or none, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        """Return the next member's; see `TarInfo`."""
        try:
            return super().fromtarfile(tarfile)
        except EOFHeaderError:  # the end, as it is written
            raise
        except HeaderError as error:
            raise ReadError(f"damaged or cut off after {tarfile.offset} bytes ({error})") from error


class TarShard(Shard):
    """Samples of a vector (`.npy`), perhaps a record (`.json`) and a caption (`.txt`); other members are left out."""

    def look(self) -> None:
        """Read the first sample; see `Shard`."""
        sample = next(self._samples(), None)
        self.embed_dim = 0 if sample is None else len(sample[0])

    def tables(self, first: int) -> Iterator[ItemTable]:
        """Yield its samples; see `Shard`."""
        samples = itertools.islice(self._samples(), first, None)
        while some := list(itertools.islice(samples, _ROWS)):
            for number, (vector, _) in enumerate(some, first + 1):
                if len(vector) != self.embed_dim:
                    raise InputError(
                        f"{self.path}: row {number}: a vector of length {len(vector)}; those before it have "
                        f"{self.embed_dim}"
                    )
            vectors = np.stack([vector for vector, _ in some])
            yield table_of(vectors, [record for _, record in some], self.modality, str(self.path), first)
            first += len(some)

    def _samples(self) -> Iterator[_Sample]:
        try:
            with tarfile.open(self.path, "r|*", tarinfo=_Header) as archive:
                for key, members in itertools.groupby(self._members(archive), key=lambda member: member[0]):
                    yield self._sample(key, {suffix: raw for _, suffix, raw in members})
        except tarfile.TarError as error:
            raise self.unreadable(error) from error

    @staticmethod
    def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
        """Yield (key, suffix, content) of the members that are read."""
        for member in archive:
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if member.isfile() and suffix.rpartition(".")[2] in ("npy", "json", "txt"):
                file = archive.extractfile(member)
                raw = b"" if file is None else file.read()
                if len(raw) != member.size:
                    raise ReadError(f"{member.name} is cut off")
                yield f"{folder}{slash}{stem}", suffix.rpartition(".")[2], raw

    def _sample(self, key: str, members: dict[str, bytes]) -> _Sample:
        if "npy" not in members:
            raise InputError(f"{self.path}: sample {key!r} has no .npy member, its vector")
        try:
            vector = np.load(io.BytesIO(members["npy"]), allow_pickle=False)
            record = json.loads(members.get("json", b"{}"))
            caption = members.get("txt", b"").decode()
        except (ValueError, EOFError) as error:
            raise InputError(f"{self.path}: sample {key!r}: {str(error).splitlines()[0]}") from error
        if vector.ndim != 1 or vector.dtype.kind != "f":
            raise InputError(
                f"{self.path}: sample {key!r}: an array of shape {vector.shape} and type {vector.dtype}; expected "
                "(embed_dim,) of float"
            )
        if not isinstance(record, dict):
            raise InputError(f"{self.path}: sample {key!r}: its .json is no object")
        facts = {"key": key, **({"caption": caption} if caption else {}), **record}
        return vector, facts
