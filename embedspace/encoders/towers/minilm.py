"""all-MiniLM-L6-v2: the text backbone, with its word-piece tokenizer.

Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2; Reimers and Gurevych, Sentence-BERT, 2019
(https://arxiv.org/abs/1908.10084); Devlin et al., BERT, 2018 (https://arxiv.org/abs/1810.04805).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from embedspace.encoders.towers.backbone import Backbone, read_weights, register_backbone
from embedspace.encoders.towers.layer import TransformerLayer
from embedspace.encoders.words.pieces import WordPieces
from embedspace.errors import InputError

__all__ = ["MiniLM", "TextFeatures"]

_BLOCK_PIECES = 1024
"""Word pieces that go through the network together: what outgrows the cache is slower."""
_Runs = Sequence[tuple[int, int]]
"""Length of windows, and how many of that length follow each other."""


class TextFeatures(NamedTuple):
    """What the model says about a batch of texts.

    Attributes:
        pooled: (B, feature_dim) mean over the word pieces, not normalised; a long text's windows weigh by length.
        normalized: (B, feature_dim) unit norm: what the published model returns.
    """

    pooled: torch.Tensor
    normalized: torch.Tensor


class MiniLM(Backbone):
    """A small BERT with mean pooling."""

    modality = "text"

    def __init__(
        self,
        name: str,
        *,
        feature_dim: int,
        layers: int,
        heads: int,
        vocabulary: int,
        positions: int,
        quantized: bool,
        eps: float,
    ) -> None:
        """Build the layers; weights come from `load`, the tokenizer from `set_tokenizer`."""
        super().__init__(name, feature_dim)
        self.words = (
            _QuantizedEmbedding(vocabulary, feature_dim) if quantized else nn.Embedding(vocabulary, feature_dim)
        )
        self.positions = nn.Parameter(torch.empty(positions, feature_dim))
        self.embedding_norm = nn.LayerNorm(feature_dim, eps)
        self.layers = nn.ModuleList([_Layer(feature_dim, heads, eps) for _ in range(layers)])
        self._tokenizer: WordPieces | None = None

    def set_tokenizer(self, definition: str) -> None:
        """Take the JSON definition of the `tokenizers` library."""
        self._tokenizer = WordPieces(definition)

    def preprocess(self, text: str) -> list[torch.Tensor]:
        """Split one text into word pieces, and those into windows of equal length.

        Args:
            text: Any length; an empty one is encoded as the two marks alone.

        Returns:
            One (pieces + 2,) int64 a window, at most 256 long, each with its start and end mark.
        """
        return [torch.from_numpy(window) for window in self._pieces().windows(text)]

    def unknown(self, text: str) -> list[str]:
        """Return the parts of a text that the vocabulary lacks, in order; each becomes one and the same piece.

        Characters of many scripts and emoji are such parts: all words written in them look alike to the model.
        """
        return self._pieces().unknown(text)

    def words_of(self, text: str) -> list[list[str]]:
        """Return the pieces of each word of a text; numbers and punctuation are left out."""
        return self._pieces().words_of(text)

    def _pieces(self) -> WordPieces:
        if self._tokenizer is None:
            raise InputError(f"backbone {self.name!r} has no tokenizer; make it with create_backbone")
        return self._tokenizer

    def forward(self, texts: Sequence[Sequence[torch.Tensor]]) -> TextFeatures:
        """Encode texts.

        Args:
            texts: What `preprocess` returned, one entry per text.

        Returns:
            (B, feature_dim) rows, pooled and normalised.
        """
        windows = [window for text in texts for window in text]
        owners = torch.tensor([owner for owner, text in enumerate(texts) for _ in text])
        order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
        means = torch.empty(len(windows), self.feature_dim, device=self.positions.device)
        for block in _blocks(order, windows):
            means[block] = self._encode([windows[index] for index in block])
        weights = torch.tensor([float(len(window)) for window in windows], device=means.device)
        total = torch.zeros(len(texts), self.feature_dim, device=means.device).index_add_(
            0, owners, means * weights[:, None]
        )
        share = torch.zeros(len(texts), device=means.device).index_add_(0, owners, weights)
        pooled = total / share[:, None]
        return TextFeatures(pooled, functional.normalize(pooled, dim=1))

    def _encode(self, windows: list[torch.Tensor]) -> torch.Tensor:
        """Mean over the word pieces of windows in the order of their lengths: (B, feature_dim).

        Nothing is padded: the linear maps take the pieces of all windows as one matrix, and attention takes the
        windows of one length together.
        """
        runs = [(length, len(list(run))) for length, run in itertools.groupby(map(len, windows))]
        places = torch.cat([torch.arange(length).repeat(count) for length, count in runs])
        input_ids, places = (ids.to(self.positions.device) for ids in (torch.cat(windows), places))
        x = self.embedding_norm(self.words(input_ids) + self.positions[places])  # (P, C)
        for layer in self.layers:
            x = layer(x, runs)
        return torch.cat([part.mean(dim=1) for part in _split(x, runs)])


class _QuantizedEmbedding(nn.Module):
    """A table of 8-bit rows, each with its own scale; only the rows that are looked up are ever made float."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(rows))
        self.weight: torch.Tensor
        self.scale: torch.Tensor

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.weight[input_ids].to(self.scale.dtype) * self.scale[input_ids][..., None]
        return vectors


class _Layer(TransformerLayer):
    """Post-norm."""

    def forward(self, x: torch.Tensor, runs: _Runs) -> torch.Tensor:
        mixed = torch.cat([self.mix(part).flatten(0, 1) for part in _split(self.qkv(x), runs)])
        x = self.attention_norm(x + self.out(mixed))
        y: torch.Tensor = self.mlp_norm(x + self.feed_forward(x))
        return y


def _split(x: torch.Tensor, runs: _Runs) -> list[torch.Tensor]:
    """Cut the pieces (P, C) of all windows into (windows, length, C) for each length."""
    parts = torch.split(x, [length * count for length, count in runs])
    return [part.view(count, length, -1) for part, (length, count) in zip(parts, runs, strict=True)]


def _blocks(order: list[int], windows: list[torch.Tensor]) -> list[list[int]]:
    """Cut an order into blocks of at most `_BLOCK_PIECES` word pieces, where one window has no more."""
    blocks: list[list[int]] = []
    pieces = 0
    for index in order:
        pieces += len(windows[index])
        if not blocks or pieces > _BLOCK_PIECES:
            blocks.append([])
            pieces = len(windows[index])
        blocks[-1].append(index)
    return blocks


@register_backbone("minilm_l6")
def _create(name: str, weights: Path | None) -> MiniLM:
    tensors, config, path = read_weights(name, weights)
    definition: Any = tensors.pop("tokenizer", None)
    with torch.device("meta"):
        model = MiniLM(name, **config)
    if definition is not None:
        model.set_tokenizer(bytes(definition.numpy()).decode())
    return model.load(tensors, path)
