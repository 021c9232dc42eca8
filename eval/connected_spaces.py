"""Two spaces that share nothing but text, for `eval.connectors`: B's text tower, its pictures and sounds, shared texts.

Space A is the one that ships. Space B reads texts by another tower, WordLlama's static table of LLaMA's token vectors
(no attention, no weights in common with MiniLM), and its pictures and sounds are placed among B's texts alone, by
kernel regression from frozen features. The joint space is the same regression from the same features onto A's texts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor

from embedspace.encoders.shipped.image_features import ImageFrontEnd, crop_to_content
from embedspace.errors import ConfigError
from embedspace.evaluate.items import Row
from embedspace.space import EmbeddingSpace
from embedspace.train.kernel_regression import KernelItems, fit_regression
from training.align.augment import open_view
from training.align.calibrate import built
from training.align.features import FEATURES
from training.align.vectors import class_names
from training.corpora.fetch import read_member, unpacked
from training.corpora.manifest import CORPORA
from training.corpora.text.words import concept_of

__all__ = [
    "Sounds",
    "StaticTower",
    "key_of",
    "picture_features",
    "picture_rows",
    "regressed",
    "says_the_same",
    "shared_texts",
    "sound_queries",
    "wordnet_names",
]

Rows = NDArray[np.float32]
Tower = Callable[[Sequence[str]], Rows]
SPOKEN = ("speech", "human", "recipes")
"""Sources whose texts are not names."""
BASIS = 512
_BATCH = 8
_STORE_EVERY = 16


class StaticTower:
    """A text tower: the mean of a text's token vectors.

    Source:
        WordLlama (2024, "l2_supercat", 256 wide): LLaMA 2's token table, projected and tuned for similarity.
    """

    def __init__(self) -> None:
        tensors = load(read_member("wordllama", "weights/l2_supercat_256.safetensors"))
        (self.table,) = (tensor.float() for tensor in tensors.values())
        definition = read_member("wordllama", "l2_supercat_tokenizer_config.json")
        self.tokenizer = Tokenizer.from_str(definition.decode())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def __call__(self, texts: Sequence[str]) -> Rows:
        """Return (N, 256) unit rows."""
        coded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        means = torch.stack([self.table[torch.tensor(one.ids)].mean(dim=0) for one in coded])
        return F.normalize(means, dim=1).numpy()


def wordnet_names(limit: int) -> list[str]:
    """Return that many names of WordNet's nouns, verbs and adjectives, the first by their hash."""
    folder = unpacked("wordnet-base") / "usr/share/wordnet"
    names: set[str] = set()
    for part in ("noun", "verb", "adj"):
        for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
            if not line.startswith(" "):
                fields = line.split(" ")
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                names.update(re.sub(r"\(.*\)", "", word).replace("_", " ") for word in words)
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:limit]


def shared_texts(more: int) -> list[str]:
    """Return captions, keywords and names of training items, ImageNet's classes and some of WordNet's names.

    Nothing of a validation or test item is among them unless a training item says it, too.
    """
    texts: dict[str, None] = {}
    sources = sorted(path.parent.name for path in CORPORA.glob("*/manifest.jsonl"))
    for row in built(source for source in sources if source not in SPOKEN):
        if row.get("split", "train") == "train" and row.get("language", "en") == "en":
            own = [str(row["concept"])] if row.get("concept") else []
            texts.update(dict.fromkeys([*row.get("captions", ()), *row.get("keywords", ()), *own]))
    titles = (str(row["captions"][0]) for row in built(("recipes",)) if row["split"] == "train")
    texts.update(dict.fromkeys([*titles, *sorted(class_names()), *wordnet_names(more)]))
    return list(texts)


def picture_rows(source: str, split: str, gallery: Iterable[str]) -> list[Row]:
    """Return pictures of a source and a split ("" for any) whose caption is in the gallery."""
    known = set(gallery)
    return [r for r in built((source,)) if split in ("", r.get("split", "train")) and r["captions"][0] in known]


def picture_features(source: str, rows: Sequence[Row]) -> Tensor:
    """Return (N, feature_dim) features of both frozen networks, without the tail that was tuned for A.

    They are kept under the features folder; what is there is not computed again.
    """
    path = FEATURES / "image" / f"{source}.0.npz"
    kept: dict[str, NDArray[np.float16]] = {}
    logits: dict[str, NDArray[np.float16]] = {}
    if path.is_file():
        with np.load(path) as stored:
            kept = dict(zip(stored["ids"].tolist(), stored["features"], strict=True))
            logits = dict(zip(stored["ids"].tolist(), stored["logits"], strict=True))
    todo = [row for row in rows if row["id"] not in kept]
    front = ImageFrontEnd() if todo else None
    for number, start in enumerate(range(0, len(todo), _BATCH), 1):
        assert front is not None
        batch = todo[start : start + _BATCH]
        found, scores = front(
            [front.preprocess(crop_to_content(open_view(CORPORA, str(row["path"]), 0))) for row in batch]
        )
        names = [str(row["id"]) for row in batch]
        kept |= zip(names, found.numpy().astype(np.float16), strict=True)
        logits |= zip(names, scores.numpy().astype(np.float16), strict=True)
        if number % _STORE_EVERY == 0 or start + _BATCH >= len(todo):
            _store(path, kept, logits)
            print(f"{source}: {start + len(batch)}/{len(todo)}", flush=True)
    return torch.from_numpy(np.stack([kept[str(row["id"])] for row in rows]).astype(np.float32))


def _store(path: Path, features: dict[str, NDArray[np.float16]], logits: dict[str, NDArray[np.float16]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        ids = list(features)
        np.savez(
            file, ids=np.array(ids), features=np.stack([features[i] for i in ids]),
            logits=np.stack([logits[i] for i in ids]),
        )  # fmt: skip
    partial.replace(path)


def regressed(features: Tensor, targets: Rows, *others: Tensor) -> list[Rows]:
    """Fit features of pictures onto (N, embed_dim) text vectors; returns unit rows of other pictures, set by set."""
    items = KernelItems(
        features, torch.from_numpy(targets), torch.ones(len(features)), features[:0], torch.zeros(0, dtype=torch.long)
    )
    head = fit_regression(items, BASIS)
    with torch.no_grad():
        none = torch.zeros(())  # no prior
        return [head(other, none).numpy() for other in others]


@dataclass(frozen=True)
class Sounds:
    """Sounds that a kernel regression learns from, compared as the shipped encoder compares them, and test sounds.

    Attributes:
        keys: (N, 512) unit rows of the training sounds.
        rows: Their rows of the manifests.
        asked: (M, 512) unit rows of the test sounds.
        shares: (M, classes) shares of the tagger's classes of the test sounds.
        classes: Names of the tagger's classes.
        bandwidth: The kernel's bandwidth.
        prior_share: Weight of the classes' words.
    """

    keys: Tensor
    rows: list[Row]
    asked: Tensor
    shares: Tensor
    classes: tuple[str, ...]
    bandwidth: float
    prior_share: float

    @classmethod
    def of(cls, space: EmbeddingSpace, asked: Sequence[Row]) -> Sounds:
        """Take the training sounds out of the shipped encoder, and encode the asked ones as far as their features.

        Raises:
            ConfigError: If the corpora do not hold the sounds that the encoder learnt from.
        """
        encoder = space.encoder("audio")
        memory = encoder.projections.memory
        rows = [r for r in built(("sounds", "instruments")) if r.get("split", "train") == "train"]
        if len(rows) != len(memory.keys):
            raise ConfigError(f"{len(rows)} training sounds in the corpora, {len(memory.keys)} in the encoder")
        coordinates, shares = [], []
        with torch.inference_mode():
            for row in asked:
                decoded = space.decode(CORPORA / str(row["path"]), "audio", as_modality="audio")
                features, logits = encoder.front(
                    [piece.content for piece in decoded.inputs if piece.modality == "audio"]
                )
                coordinates.append(F.normalize(memory.coordinates(features).mean(dim=0), dim=0))
                shares.append((logits / encoder.config.temperature).softmax(dim=1).mean(dim=0))
        names = tuple(encoder.front.sound.classes)
        return cls(
            memory.keys,
            rows,
            torch.stack(coordinates),
            torch.stack(shares),
            names,
            memory.bandwidth,
            memory.prior_share,
        )

    def regressed(self, tower: Tower, ridge: float = 0.2, balance: float = 0.3) -> tuple[Rows, Rows]:
        """Fit the training sounds onto a tower's texts; returns unit rows of the asked and of the training sounds."""
        firsts = [str(row["captions"][0]) for row in self.rows]
        captions = sorted({str(c) for row in self.rows for c in row["captions"]})
        vectors = dict(zip(captions, torch.from_numpy(tower(captions)), strict=True))
        parts = [torch.stack([vectors[str(c)] for c in row["captions"]]) for row in self.rows]
        targets = F.normalize(torch.stack([part[0] + part.mean(dim=0) for part in parts]), dim=1).double()
        _, same, count = np.unique(firsts, return_inverse=True, return_counts=True)
        weights = torch.from_numpy(count[same] ** -balance)
        weights = weights / weights.mean()
        inner = self._kernel(self.keys).double()
        centre = (weights[:, None] * targets).sum(dim=0) / weights.sum()
        weighted = inner * weights[:, None]
        jitter = 1e-6 * torch.eye(len(inner), dtype=torch.float64)
        values = torch.linalg.solve(weighted.T @ inner + ridge * (inner + jitter), weighted.T @ (targets - centre))
        prior = F.normalize(self.shares @ torch.from_numpy(self._class_vectors(tower)), dim=1)
        out = F.normalize(self._kernel(self.asked) @ values.float(), dim=1)
        known = F.normalize(inner.float() @ values.float(), dim=1)
        return F.normalize(out + self.prior_share * prior, dim=1).numpy(), known.numpy()

    def _kernel(self, coordinates: Tensor) -> Tensor:
        return torch.exp(self.bandwidth * (coordinates @ self.keys.T - 1))

    def _class_vectors(self, tower: Tower) -> Rows:
        """Return what a tower makes of the classes' names, synonyms averaged, (classes, embed_dim)."""
        words = [(k, word.lower()) for k, name in enumerate(self.classes) for word in name.split(", ")]
        rows = torch.from_numpy(tower([text for _, word in words for text in (f"the sound of {word}", word)]))
        owners = torch.tensor([k for k, _ in words for _ in range(2)])
        return F.normalize(torch.zeros(len(self.classes), rows.shape[1]).index_add_(0, owners, rows), dim=1).numpy()


def says_the_same(text: str) -> str:
    """Return what makes two texts the same where captions are withheld: no case, article, count or plural."""
    return concept_of(text)


def sound_queries() -> list[tuple[str, str, list[Row]]]:
    """Return (title, key, pictures): what Tux Paint's effects search."""
    stamps = [r for r in built(("stamps",)) if r["extra"].get("unique")]
    emoji = [r for r in built(("emoji-twitter",)) if r["modality"] == "image"]
    held_out = [r for r in stamps if r["split"] == "test"]
    return [("all stamps", "caption", stamps), ("held-out stamps", "caption", held_out), ("emoji", "concept", emoji)]


def key_of(row: Row, key: str) -> str:
    """Return what a sound and a picture of the same thing have in common."""
    return str(row["captions"][0] if key == "caption" else row["concept"])
