"""Index settings: which engine and kind of index, from how many vectors on, and how it is built and searched."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.catalog.index.gpu import device_number
from embedspace.config import build, load
from embedspace.errors import ConfigError

__all__ = ["IndexSettings"]

_INDEXES = ("exact", "hnsw", "ivf")
_QUANTIZERS = ("auto", "none", "fp16", "sq8", "pq4")
_EARLIER = {"quantizer": "sq8", "overfetch": 8, "exact_below": 50_000}
"""Defaults of earlier versions, which wrote all of them into each catalog: they were not chosen."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How a catalog searches one modality. A settings file lists only what differs from these defaults.

    Attributes:
        name: Shown by `info`.
        engine: What searches: "local", exact search and FAISS beside the catalog, or the name of a registered one, see
            `embedspace.catalog.index.base`. All other settings are the local engine's.
        index: "exact" (never approximate), "hnsw" or "ivf".
        quantizer: How the index stores a vector: "none" (float32), "fp16", "sq8" (8 bits per dimension), "pq4" (product
            codes of 2 bits per dimension, "ivf" on the CPU only), or "auto": "pq4" from `compress_above` vectors on,
            "sq8" below, with "hnsw" and on a GPU. Scores are exact in any case: candidates are scored again with the
            catalog's own vectors.
        compress_above: From so many vectors on "auto" means "pq4".
        min_vectors: Below this many vectors of a modality the search stays exact.
        nlist: Cells of an IVF index; 0 means 4 * sqrt(vectors).
        nprobe: Cells that a search visits; 0 means as many as were measured, when the index was built, to reach
            `target_recall`.
        target_recall: Share of the exact ten best that an IVF index is to find, with queries of every modality that
            the catalog has.
        hnsw_m: Links per node of an HNSW graph.
        ef_construction: Candidates while building an HNSW graph.
        ef_search: Candidates while searching it.
        overfetch: Candidates taken from the index per wanted hit; 0 means 10 with "pq4", 8 with others.
        train_vectors: Vectors that an IVF or SQ index learns from; more where its cells are many.
        rebuild_fraction: An HNSW index is rebuilt when newer rows exceed this share of it; until then they are searched
            exactly beside it. An IVF index takes newer rows in, and forgets deleted ones when they exceed this share.
        exact_below: A filter that leaves at most this many rows is searched exactly; 0 means where that is estimated
            to take less time than the index.
        seed: Seed of the sample that the index learns from.
        device: Where a FAISS index of the kind "ivf" is built and searched: "cpu", or "cuda", "cuda:1" with a GPU build
            of FAISS. On a machine without, the same index is searched on the CPU.
    """

    name: str = "default"
    engine: str = "local"
    index: str = "ivf"
    quantizer: str = "auto"
    compress_above: int = 500_000
    min_vectors: int = 100_000
    nlist: int = 0
    nprobe: int = 0
    target_recall: float = 0.96
    hnsw_m: int = 32
    ef_construction: int = 80
    ef_search: int = 96
    overfetch: int = 0
    train_vectors: int = 100_000
    rebuild_fraction: float = 0.2
    exact_below: int = 0
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse values that no index could be built with."""
        where = f"index settings {self.name!r}"
        for name, allowed in (("index", _INDEXES), ("quantizer", _QUANTIZERS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"{where}: {name} = {value!r}; allowed: {', '.join(allowed)}")
        for field in dataclasses.fields(self):
            default: Any = field.default
            number: Any = getattr(self, field.name)
            if not isinstance(number, type(default)) or isinstance(number, bool):
                raise ConfigError(
                    f"index settings {self.name!r}: {field.name} = {number!r}; expected {type(default).__name__}"
                )
            if not isinstance(number, str) and number < 0:
                raise ConfigError(f"{where}: {field.name} = {number!r}; must not be negative")
        if not 0.5 <= self.target_recall <= 1.0:
            raise ConfigError(f"{where}: target_recall = {self.target_recall!r}; must be from 0.5 to 1.0")
        try:
            on_gpu = device_number(self.device) is not None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if on_gpu and self.index != "ivf":
            raise ConfigError(f"{where}: device = {self.device!r} is for index = 'ivf', not {self.index!r}")
        if self.quantizer == "pq4" and (on_gpu or self.index != "ivf"):
            raise ConfigError(f"{where}: quantizer = 'pq4' is for index = 'ivf' on the CPU")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> IndexSettings:
        """Make settings of their keys; what is left out has its default.

        Raises:
            ConfigError: If a key is unknown or a value wrong.
        """
        return build(cls, values, "index settings")

    @classmethod
    def from_toml(cls, path: str | Path) -> IndexSettings:
        """Read a settings file; their name is the file's unless it says another.

        Raises:
            ConfigError: If the file is missing, no TOML, or has an unknown key or wrong value.
        """
        return load(cls, path, what="index settings", hint="some are in indexes/settings")

    def to_json(self) -> str:
        """Return the resolved settings, every key with its value."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> IndexSettings:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: If the text is not index settings.
        """
        try:
            values = json.loads(text)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"not index settings: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"not index settings: {text!r}")
        if "target_recall" not in values:
            values = {name: value for name, value in values.items() if _EARLIER.get(name) != value}
        return cls.from_mapping(values)
