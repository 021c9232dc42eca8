"""Encode the items of a suite through a space, remembering vectors between runs.

One bad file never ends a run: its row is NaN, which the metrics count as a missing query or an item never found.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.errors import InputError, MediaError
from embedspace.evaluate.items import EvalItem, field_of
from embedspace.files import replacing
from embedspace.modality import Modality
from embedspace.query.reading import Names

__all__ = ["EvalSpace", "Progress", "SuiteEncoder", "read_shard"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many items are done, and how many there are."""

_SHARD = re.compile(r"^(?P<file>.+\.npy)#(?P<start>\d+):(?P<end>\d+)$")
_INT16 = 32_767.0
_BATCH = 64
_STORE_SECONDS = 60
"""Vectors are kept this often, so that a run that is killed goes on where it was."""


class EvalSpace(Protocol):
    """What a suite needs of an embedding space; `EmbeddingSpace` fulfils it."""

    embed_dim: int

    @property
    def calibration(self) -> Calibration:
        """Modality means, for composed queries."""
        ...

    def fingerprints(self) -> Mapping[str, str]:
        """Return modality -> hex digest of all that determines its vectors."""
        ...

    def with_options(self, modality: str, **options: Any) -> EvalSpace:  # noqa: ANN401
        """Return this space with one encoder set otherwise, for baselines."""
        ...

    def names(self, vectors: NDArray[np.float32], modality: str) -> Sequence[Names]:
        """Say what each of (N, embed_dim) unit rows may be called, for composed queries."""
        ...

    def for_documents(self, vectors: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
        """Return (N, K, embed_dim): what each row may be read as where documents are searched, as long as likely."""
        ...

    def encode(self, items: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return (N, embed_dim) unit rows of items of any modality, such as [{"depth": path}]."""
        ...

    def encode_image(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of image files."""
        ...

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of texts."""
        ...

    def encode_audio(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of sound files, or of (T,) waveforms at one sample rate."""
        ...

    def encode_speech(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of what is said in files, or in (T,) waveforms at one sample rate."""
        ...


@functools.lru_cache(maxsize=64)
def _open_shard(path: Path) -> NDArray[np.int16]:
    return cast("NDArray[np.int16]", np.load(path, mmap_mode="r"))


def read_shard(corpora: Path, content: str) -> NDArray[np.float32] | None:
    """Read a clip that lies in a shard of many.

    Args:
        corpora: Folder of the corpora.
        content: "file.npy#start:end": samples start to end of an int16 mono array; anything else is not a shard.

    Returns:
        (T,) float32 in [-1, 1], or None if `content` is not such a reference.

    Raises:
        MediaError: If the shard is missing, damaged or too short.
    """
    match = _SHARD.match(content)
    if match is None:
        return None
    path, start, end = corpora / match["file"], int(match["start"]), int(match["end"])
    try:
        samples = np.asarray(_open_shard(path)[start:end], np.float32) / np.float32(_INT16)
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: cannot read the shard of clips: {error}") from None
    if not 0 < end - start == len(samples):
        raise MediaError(f"{path}: holds no samples {start} to {end}")
    return samples


@dataclass
class SuiteEncoder:
    """Encodes items of one space.

    Attributes:
        space: The space.
        corpora: Folder that the items' paths are relative to.
        cache: Folder of vectors kept between runs, by modality and fingerprint; None to keep none.
        callback: Told of progress.
        failures: Item id -> reason, filled while encoding.
    """

    space: EvalSpace
    corpora: Path
    cache: Path | None = None
    callback: Progress | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def encode(self, items: Sequence[EvalItem], modality: str, doing: str = "") -> NDArray[np.float32]:
        """Return (N, embed_dim) unit rows of items; NaN where an item could not be encoded.

        Args:
            items: What to encode.
            modality: By which encoder.
            doing: What the callback is told.
        """
        keys = [self._cache_key(item) for item in items]
        known = self._load(modality)
        todo = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        pending, stored = list(todo.items()), time.monotonic()
        for start in range(0, len(pending), _BATCH):
            batch = pending[start : start + _BATCH]
            for (key, item), vector in zip(batch, self._encode_batch([i for _, i in batch], modality), strict=True):
                if vector is not None:
                    known[key] = vector
                elif item.id not in self.failures:
                    self.failures[item.id] = "its vector is not finite"
            if time.monotonic() - stored > _STORE_SECONDS:
                self._store(modality, known)
                stored = time.monotonic()
            if self.callback:
                self.callback(doing or f"encode {modality}", min(start + _BATCH, len(pending)), len(pending))
        if pending:
            self._store(modality, known)
        missing = np.full(self.space.embed_dim, np.nan, np.float32)
        rows = [known.get(key, missing) for key in keys]
        return np.stack(rows) if rows else np.empty((0, self.space.embed_dim), np.float32)

    def with_options(self, modality: str, options: Mapping[str, Any]) -> SuiteEncoder:
        """Return an encoder of the same space with one modality's set otherwise; it notes failures here too."""
        return replace(self, space=self.space.with_options(modality, **options)) if options else self

    def _encode_batch(self, items: Sequence[EvalItem], modality: str) -> list[NDArray[np.float32] | None]:
        """Encode together; where that fails, one by one, so that only the bad item is lost."""
        try:
            rows = self._vectors(items, modality)
        except InputError as error:
            if len(items) == 1:
                self.failures[items[0].id] = str(error)
                return [None]
            return [vector for item in items for vector in self._encode_batch([item], modality)]
        return [row if np.isfinite(row).all() else None for row in np.asarray(rows, np.float32)]

    def _vectors(self, items: Sequence[EvalItem], modality: str) -> NDArray[np.float32]:
        if modality == Modality.TEXT:
            return self.space.encode_text([item.content for item in items])
        if modality == Modality.IMAGE:
            return self.space.encode_image([self.corpora / item.content for item in items])
        if modality not in (Modality.AUDIO, Modality.SPEECH):  # one that was registered from elsewhere
            return self.space.encode([{modality: self.corpora / item.content} for item in items])
        encode = self.space.encode_audio if modality == Modality.AUDIO else self.space.encode_speech
        rows = np.empty((len(items), self.space.embed_dim), np.float32)
        groups: dict[int | None, list[tuple[int, Any]]] = {}
        for position, item in enumerate(items):
            clip = read_shard(self.corpora, item.content)
            rate = None if clip is None else int(field_of(item.row, "extra.sample_rate") or 0)
            if rate == 0:
                raise MediaError(f"{item.id}: a clip in a shard needs extra.sample_rate in its manifest row")
            groups.setdefault(rate, []).append((position, self.corpora / item.content if clip is None else clip))
        for rate, entries in groups.items():
            sources = [source for _, source in entries]
            rows[[position for position, _ in entries]] = encode(sources, sample_rate=rate) if rate else encode(sources)
        return rows

    def _cache_key(self, item: EvalItem) -> str:
        """Return what identifies the item's content: its words, or its file with size and time."""
        path = self.corpora / item.content.partition("#")[0]
        state = ""
        with contextlib.suppress(OSError, ValueError):  # a text: it may be longer than a file's name, or hold a zero
            if "\n" not in item.content and path.is_file():
                stat = path.stat()
                state = f"{stat.st_size}:{stat.st_mtime_ns}"
        return hashlib.sha256(f"{item.content}\0{state}".encode()).hexdigest()[:32]

    def _cache_path(self, modality: str) -> Path | None:
        fingerprint = self.space.fingerprints().get(modality, "")
        return self.cache / f"{modality}-{fingerprint[:16]}.npz" if self.cache and fingerprint else None

    def _load(self, modality: str) -> dict[str, NDArray[np.float32]]:
        path = self._cache_path(modality)
        if path is None or not path.exists():
            return {}
        try:
            with np.load(path) as stored:
                return dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))
        except (OSError, ValueError, KeyError):
            return {}  # a torn or foreign file: encode again

    def _store(self, modality: str, known: Mapping[str, NDArray[np.float32]]) -> None:
        path = self._cache_path(modality)
        if path is None or not known:
            return
        known = {**self._load(modality), **known}  # another run may have kept some meanwhile
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, keys=np.array(list(known)), vectors=np.stack(list(known.values())))
