"""all-MiniLM-L6-v2 and the text projection in numpy, as `MiniLM` and `LinearProjection` in torch.

A query has ten word pieces: the network takes a few milliseconds for them, and importing torch takes seconds. Nothing
is padded: the linear maps take the pieces of all windows as one matrix, and only attention goes window by window.

Source: as `towers.minilm`; the rational approximation of erf is Eigen's (4e-7 at most), its coefficients from
`Eigen/src/Core/MathFunctionsImpl.h` of version 3.4.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from embedspace.encoders.backbones import open_backbone
from embedspace.encoders.words.pieces import WordPieces
from embedspace.errors import WeightsError
from embedspace.media.source import one_line

__all__ = ["NumpyLinearProjection", "NumpyMiniLM"]

Array = NDArray[np.float32]
Linear = tuple[Array, Array]
"""A matrix (in, out) and its bias (out,)."""

_BLOCK_PIECES = 1024
"""Word pieces that go through the network together, where one window has no more."""
_BLOCK_ROWS = 64
"""Rows of the widest layer that fit into a processor's cache."""
_ERF_NUMERATOR = (
    -2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05, -7.34990630326855e-04,
    -2.95459980854025e-03, -1.60960333262415e-02,
)  # fmt: skip
_ERF_DENOMINATOR = (
    -1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02,
)  # fmt: skip
_HALF = 0.5**0.5


class _Layer:
    """One post-norm transformer layer: (P, C) pieces of several windows in and out."""

    def __init__(self, tensors: Mapping[str, Array], name: str, heads: int, eps: float) -> None:
        self.heads, self.eps = heads, eps
        self.qkv, self.out, self.fc1, self.fc2 = (
            _linear(tensors, f"{name}.{part}") for part in ("qkv", "out", "fc1", "fc2")
        )
        self.attention_norm = tensors[f"{name}.attention_norm.weight"], tensors[f"{name}.attention_norm.bias"]
        self.mlp_norm = tensors[f"{name}.mlp_norm.weight"], tensors[f"{name}.mlp_norm.bias"]

    def __call__(self, x: Array, cuts: Sequence[int]) -> Array:
        qkv, mixed = _mapped(x, self.qkv), np.empty_like(x)
        for start, end in itertools.pairwise(cuts):
            mixed[start:end] = self._attend(qkv[start:end])
        x += _mapped(mixed, self.out)
        _normalise(x, self.attention_norm, self.eps)
        hidden = _mapped(x, self.fc1)
        for start in range(0, len(hidden), _BLOCK_ROWS):
            _gelu(hidden[start : start + _BLOCK_ROWS])
        x += _mapped(hidden, self.fc2)
        _normalise(x, self.mlp_norm, self.eps)
        return x

    def _attend(self, qkv: Array) -> Array:
        """Mix the pieces of one window, (T, 3 C) -> (T, C)."""
        length, width = qkv.shape[0], qkv.shape[1] // 3
        q, k, v = qkv.reshape(length, 3, self.heads, -1).transpose(1, 2, 0, 3)  # (heads, T, C / heads) each
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(0, 2, 1)  # (heads, T, T)
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        mixed: Array = (scores @ v).transpose(1, 0, 2).reshape(length, width)
        return mixed


class NumpyMiniLM:
    """A small BERT with mean pooling, and its tokenizer.

    Attributes:
        feature_dim: Width of its rows.
        pieces: Its tokenizer.
    """

    def __init__(self, file: Any, config: Mapping[str, Any], path: Path) -> None:  # noqa: ANN401 - a safetensors file
        """Take an open file of safetensors, which stays mapped: rows of the word table are read when they are needed.

        Raises:
            WeightsError: If its tensors are not those of the configuration.
        """
        self.feature_dim, self.eps = int(config["feature_dim"]), float(config["eps"])
        width, count = self.feature_dim, int(config["layers"])
        shapes: dict[str, tuple[int, ...]] = {
            "words.scale": (int(config["vocabulary"]),), "positions": (int(config["positions"]), width),
            **_norm_shapes("embedding_norm", width),
        }  # fmt: skip
        for number in range(count):
            shapes |= _layer_shapes(f"layers.{number}", width)
        table = file.get_slice("words.weight")
        if tuple(table.get_shape()) != (int(config["vocabulary"]), width):
            raise WeightsError(f"{path}: words.weight is {tuple(table.get_shape())}; copy or convert the file again")
        others = [name for name in file.keys() if name not in ("words.weight", "tokenizer")]
        tensors = _floats({name: file.get_tensor(name) for name in others})
        _check(tensors, shapes, f"{path}: not the weights of this backbone", "copy or convert the file again")
        self._words, self._scale = table, tensors["words.scale"]
        self._positions = tensors["positions"]
        self._norm = tensors["embedding_norm.weight"], tensors["embedding_norm.bias"]
        heads = int(config["heads"])
        self._layers = [_Layer(tensors, f"layers.{number}", heads, self.eps) for number in range(count)]
        self.pieces = WordPieces(bytes(file.get_tensor("tokenizer")).decode())

    @classmethod
    def read(cls, name: str, path: Path | None = None) -> Self:
        """Open a file of weights; None is the shipped one.

        Raises:
            WeightsError: If it is missing, corrupt, or another network's.
        """
        with open_backbone(name, path, "np") as (file, config, found):
            return cls(file, config, found)

    def __call__(self, texts: Sequence[Sequence[NDArray[np.int64]]]) -> Array:
        """Encode texts.

        Args:
            texts: What `WordPieces.windows` returned, one entry per text.

        Returns:
            (B, feature_dim) unit rows: the mean over the word pieces; a long text's windows weigh by length.
        """
        windows = [window for text in texts for window in text]
        means = [self._encode(block) for block in _blocks(windows)]
        weighted = np.concatenate(means) * np.array([len(window) for window in windows], np.float32)[:, None]
        firsts = np.cumsum([0, *(len(text) for text in texts[:-1])])
        return _unit(np.add.reduceat(weighted, firsts, axis=0))

    def _encode(self, windows: Sequence[NDArray[np.int64]]) -> Array:
        """Return (windows, feature_dim), each the mean over its word pieces."""
        cuts = np.cumsum([0, *map(len, windows)])
        x = self._looked_up(np.concatenate(windows))
        x += np.concatenate([self._positions[: len(window)] for window in windows])
        _normalise(x, self._norm, self.eps)
        for layer in self._layers:
            x = layer(x, cuts.tolist())
        total: Array = np.add.reduceat(x, cuts[:-1], axis=0)
        total /= np.diff(cuts)[:, None]
        return total

    def _looked_up(self, input_ids: NDArray[np.int64]) -> Array:
        """Return (P, feature_dim) rows of the word table."""
        known, place = np.unique(input_ids, return_inverse=True)
        rows = np.concatenate([self._words[number : number + 1] for number in known.tolist()]).astype(np.float32)
        rows *= self._scale[known][:, None]
        found: Array = rows[place]
        return found


class NumpyLinearProjection:
    """Text features -> shared space: a linear map plus a small residual."""

    def __init__(self, tensors: Mapping[str, NDArray[np.generic]], sizes: tuple[int, int, int], what: str) -> None:
        """Take the tensors of a `LinearProjection`.

        Args:
            tensors: As its file holds them.
            sizes: Width of the features, of the space, and of the residual branch; the last 0: there is none.
            what: Begins the message of an error.

        Raises:
            WeightsError: If its tensors are not of these sizes.
        """
        feature_dim, self.embed_dim, hidden_dim = sizes
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": (self.embed_dim, feature_dim)}
        shapes["linear.bias"] = (self.embed_dim,)
        if hidden_dim:
            shapes |= {"residual.0.weight": (hidden_dim, feature_dim), "residual.0.bias": (hidden_dim,)}
            shapes |= {"residual.3.weight": (self.embed_dim, hidden_dim), "residual.3.bias": (self.embed_dim,)}
        floats = _floats(tensors)
        _check(floats, shapes, what, "restore config.json as training wrote it")
        self.linear = _linear(floats, "linear")
        self.residual = (_linear(floats, "residual.0"), _linear(floats, "residual.3")) if hidden_dim else None

    @classmethod
    def read(cls, path: Path, sizes: tuple[int, int, int]) -> Self:
        """Read what `save_tensors` wrote of a `LinearProjection`.

        Raises:
            WeightsError: If it is missing, corrupt, or of other sizes.
        """
        if not path.is_file():
            raise WeightsError(f"{path}: no such weights; name a folder that EmbeddingSpace.save wrote")
        what = f"{path}: these weights do not fit the configuration beside them"
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{what}: {one_line(error)}") from error
        return cls(tensors, sizes, what)

    def __call__(self, features: Array) -> Array:
        """Map (B, feature_dim) unit rows to (B, embed_dim) unit rows."""
        out = _mapped(features, self.linear)
        if self.residual is not None:
            hidden = _mapped(features, self.residual[0])
            _gelu(hidden)
            out += _mapped(hidden, self.residual[1])
        return _unit(out)


def _norm_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _layer_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes = _norm_shapes(f"{name}.attention_norm", width) | _norm_shapes(f"{name}.mlp_norm", width)
    for part, out, into in (("qkv", 3, 1), ("out", 1, 1), ("fc1", 4, 1), ("fc2", 1, 4)):
        shapes |= {f"{name}.{part}.weight": (out * width, into * width), f"{name}.{part}.bias": (out * width,)}
    return shapes


def _floats(tensors: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
    """Return the tensors in float32, 8-bit rows times their scales: as `embedspace.encoders.quantize.from_rows`."""
    out: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if not name.endswith(".row_scale"):
            out[name] = tensor.astype(np.float32)
            if (scale := tensors.get(f"{name}.row_scale")) is not None:
                out[name] *= scale.astype(np.float32)[:, None]
    return out


def _check(tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], what: str, advice: str) -> None:
    """Refuse tensors that are missing, left over or of another shape."""
    problems = [f"missing {name}" for name in sorted(shapes.keys() - tensors.keys())]
    problems += [f"unexpected {name}" for name in sorted(tensors.keys() - shapes.keys())]
    problems += [
        f"{name} is {tensors[name].shape}, should be {shape}"
        for name, shape in sorted(shapes.items())
        if name in tensors and tensors[name].shape != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(f"{what}: {'; '.join(problems[:3])}{more}; {advice}")


def _linear(tensors: Mapping[str, Array], name: str) -> Linear:
    return tensors[f"{name}.weight"].T, tensors[f"{name}.bias"]


def _mapped(x: Array, linear: Linear) -> Array:
    out: Array = x @ linear[0]
    out += linear[1]
    return out


def _normalise(x: Array, norm: Linear, eps: float) -> None:
    """Layer norm of (P, C), in place."""
    x -= x.mean(axis=1, keepdims=True)
    variance = np.einsum("pc,pc->p", x, x) / x.shape[1]
    x *= (1.0 / np.sqrt(variance + eps))[:, None]
    x *= norm[0]
    x += norm[1]


def _gelu(x: Array) -> None:
    """Apply x (1 + erf(x / sqrt 2)) / 2, in place."""
    scaled = np.clip(x * _HALF, -4.0, 4.0)
    square = scaled * scaled
    upper, lower = np.full_like(x, _ERF_NUMERATOR[0]), np.full_like(x, _ERF_DENOMINATOR[0])
    for value, coefficients in ((upper, _ERF_NUMERATOR[1:]), (lower, _ERF_DENOMINATOR[1:])):
        for coefficient in coefficients:
            value *= square
            value += coefficient
    upper *= scaled
    upper /= lower
    upper += 1.0
    upper *= 0.5
    x *= upper


def _unit(rows: Array) -> Array:
    out: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return out


def _blocks(windows: Sequence[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """Cut windows, in their order, into blocks of at most `_BLOCK_PIECES` word pieces."""
    block: list[NDArray[np.int64]] = []
    for window in windows:
        if block and sum(map(len, block)) + len(window) > _BLOCK_PIECES:
            yield block
            block = []
        block.append(window)
    if block:
        yield block
