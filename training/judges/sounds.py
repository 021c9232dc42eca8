"""A judge of generated sounds that neither conditions nor trains a generator; not for the package.

    python -m training.judges.sounds               # features (minutes on one core), training, accuracy
    python -m training.judges.sounds --views 1     # to try it

Its ears are the encoder of Whisper tiny.en and statistics of log-mel frames; a linear classifier on them knows the
fifty concepts below and says which it hears. The space hears with YAMNet and Whisper base, so that nothing of the judge
conditions a generator. It learns from recordings of the training split that the sound head's gallery does not hold, nor
anything that sounds the same (`near_gallery`), and from the notes of a sound font of its own: those of the corpus are
in the gallery. So a clip of the gallery that is played back is as new to it as any. The accuracy it publishes is on
clips it never heard: the gallery's, held-out ones, folds of what it learnt from, one source after the other left out.

Everything lies under build/judge; suites name `training.judges.sounds:load`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from embedspace.encoders.towers.whisper import SAMPLE_RATE, WhisperEncoder, log_mel
from embedspace.errors import ConfigError
from embedspace.evaluate.generation.measures.copies import aligned_likeness
from embedspace.evaluate.generation.measures.layouts import SOUND_REACH, sound_layouts
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram, to_waveform
from embedspace.media.resample import resample_waveform
from embedspace.vocabulary import SHIPPED_GENERATORS
from training.align.augment import augment_sound
from training.convert.backbones import convert
from training.corpora.fetch import package, unpacked
from training.corpora.manifest import CORPORA, Item, read_manifest
from training.corpora.sounds import instruments
from training.corpora.sounds.clips import read_clip, write_clip

__all__ = ["CONCEPTS", "SoundJudge", "load"]

FOLDER = Path("build/judge")
SEED = 20_252
SECONDS = 4.0
CONCEPTS = (
    *("bird", "cat", "chicken", "cow", "dog", "duck", "eagle", "elephant", "goat", "horse", "pig", "sheep", "snake"),
    *("wolf", "applause", "axe", "bell", "bubble", "door", "footsteps", "gun", "hammer", "saw", "sword", "telephone"),
    *("train", "water", "wave", "whistle", "wind", "accordion", "acoustic guitar", "banjo", "bass drum"),
    *("bass guitar", "choir", "cymbal", "electric guitar", "flute", "harmonica", "harp", "organ", "piano"),
    *("saxophone", "snare drum", "tabla", "tom drum", "trumpet", "violin", "xylophone"),
)
_NAME = "whisper_tiny_en"
_WEIGHTS = FOLDER / "sounds.safetensors"
_ABOUT = FOLDER / "sounds.json"
_KERNEL = 64
_VOCODED = 3
"""Every so many-th view is a sound that went through a spectrogram and back, as generated ones do."""
_FLOOR = 1e-3  # of the peak: quieter at the ends is silence
_GALLERY = SHIPPED_GENERATORS / "audio" / "gallery.json"
_FONT = "timgm6mb-soundfont"
_NOTES = "judge-notes"
_ALIKE = 0.95
"""Log-mel frames of two clips that agree this well, at the best of all delays, are taken to be the same sound."""


class SoundJudge:
    """What a suite asks: features of sounds, and which of fifty concepts is heard.

    Attributes:
        about: Its accuracy on real clips that it never heard, and what it learnt from.
        digest: Of its weights.
        concepts: The names it knows.
    """

    concepts = CONCEPTS

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], about: Mapping[str, Any], digest: str) -> None:
        self.about, self.digest = about, digest
        self._weights = dict(weights)

    def features(self, contents: Sequence[NDArray[Any]], sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
        """Return (N, D) of waveforms (T,)."""
        return _hear([resample_waveform(np.asarray(c, np.float32), sample_rate, SAMPLE_RATE) for c in contents])

    def kernel_features(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, 64), the principal components of the features, of unit mean square."""
        x = (features - self._weights["mean"]) * self._weights["scale"]
        rows: NDArray[np.float32] = x @ self._weights["components"]
        return rows

    def copy_features(self, contents: Sequence[NDArray[Any]], sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
        """Return (N, 64) principal components of what the ears hear; the classifier is no part of it."""
        return self.kernel_features(self.features(contents, sample_rate))

    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, M) logits of some of its concepts.

        Raises:
            ValueError: If it does not know a name.
        """
        x = (features - self._weights["mean"]) * self._weights["scale"]
        logits: NDArray[np.float32] = x @ self._weights["weight"] + self._weights["bias"]
        return logits[:, [CONCEPTS.index(name) for name in names]]


@lru_cache(maxsize=1)
def load() -> SoundJudge:
    """Return the trained judge.

    Raises:
        ConfigError: If it is not trained yet.
    """
    if not (_WEIGHTS.is_file() and _ABOUT.is_file()):
        raise ConfigError(f"{_WEIGHTS}: no judge of sounds yet; train it: python -m training.judges.sounds")
    digest = hashlib.sha256(_WEIGHTS.read_bytes()).hexdigest()
    return SoundJudge(load_file(_WEIGHTS), json.loads(_ABOUT.read_text("utf-8")), digest)


@lru_cache(maxsize=1)
def _ears() -> WhisperEncoder:
    path = FOLDER / f"{_NAME}.safetensors"
    if not path.is_file():
        convert(_NAME, FOLDER)
    return WhisperEncoder.read(_NAME, path)


def _trimmed(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first seconds of a clip without the silence at its ends, its peak at 1."""
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak < 1e-5:
        return np.zeros(SAMPLE_RATE // 10, np.float32)
    loud = np.flatnonzero(np.abs(waveform) > _FLOOR * peak)
    kept = waveform[loud[0] : loud[-1] + 1][: int(SECONDS * SAMPLE_RATE)] / peak
    return np.pad(kept, (0, max(0, SAMPLE_RATE // 10 - len(kept)))).astype(np.float32)


@torch.inference_mode()
def _hear(waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return (N, D): means and deviations over time of the encoder's layers and of log-mel frames; the length."""
    ears, rows = _ears(), []
    for waveform in waveforms:
        clip = torch.from_numpy(_trimmed(waveform))
        frames = log_mel(clip)
        heard = ears(frames[None], layers=(0, 1, 2))
        parts = [torch.tensor([len(clip) / SAMPLE_RATE])]
        for layer in (*heard.layers, heard.last):
            parts.append(layer[0].mean(dim=0))
        parts.append(heard.last[0].std(dim=0, correction=0))
        parts += [frames.mean(dim=1), frames.std(dim=1, correction=0), frames.amax(dim=1)]
        parts.append(frames.diff(dim=1).abs().mean(dim=1))
        rows.append(torch.cat(parts))
    return torch.stack(rows).numpy() if rows else np.zeros((0, 1 + 5 * ears.feature_dim + 4 * 80), np.float32)


# ---- what it learns from


def clips(splits: Sequence[str], sources: Sequence[str] = ("sounds", "instruments")) -> list[Item]:
    """Return the clips of the judge's concepts in some splits."""
    rows = [item for name in sources for item in read_manifest(CORPORA / name / "manifest.jsonl")]
    return [i for i in rows if i.modality == "audio" and i.split in splits and i.concept in CONCEPTS]


def gallery_items() -> set[str]:
    """Return the ids of the clips that the sound head's gallery holds."""
    return set(json.loads(_GALLERY.read_text("utf-8"))["items"])


def near_gallery(items: Sequence[Item], kept: Sequence[Item]) -> set[str]:
    """Return the ids of items that the gallery holds or that sound the same as a clip that it holds.

    Args:
        items: Clips to sort out.
        kept: The gallery's clips.
    """
    held, groups = {item.id for item in kept}, {item.group for item in kept if item.group}
    known = [_layout(item) for item in kept]
    alike = {
        item.id
        for item in items
        if item.id not in held and (aligned_likeness([_layout(item)], known, SOUND_REACH) >= _ALIKE).any()
    }
    return {item.id for item in items if item.id in held or (item.group and item.group in groups)} | alike


def _layout(item: Item) -> NDArray[np.float32]:
    return sound_layouts(np.asarray(read_clip(item, SAMPLE_RATE), np.float32), SAMPLE_RATE)[0]


def own_notes(folder: Path | None = None) -> list[Item]:
    """Return notes and phrases of the judge's instruments by a sound font that no corpus uses; rendered once."""
    folder = (folder or FOLDER / "notes").resolve()
    font = unpacked(_FONT) / "usr/share/sounds/sf2/TimGM6mb.sf2"
    items = []
    for instrument in instruments.instruments():
        if instrument.concept not in CONCEPTS:
            continue
        program = instrument.number if instrument.kind == "program" else None
        for variant, captions, notes in instruments.variants_of(instrument):
            name = f"{instrument.kind}-{instrument.number:03}-{variant}"
            path = folder / f"{name}.flac"
            if not path.exists():
                write_clip(path, instruments.render(notes, program, font), instruments.RATE)
            items.append(
                Item(
                    id=f"{_NOTES}/{name}",
                    modality="audio",
                    path=str(path),  # absolute: not of a corpus
                    captions=captions,
                    concept=instrument.concept,
                    source=_NOTES,
                    licence=package(_FONT).licence,
                    split="train",
                    group=f"{_NOTES}/{instrument.kind}-{instrument.number}",
                    extra={"sample_rate": instruments.RATE},
                )
            )
    return items


def lessons() -> list[Item]:
    """Return what the judge learns from: no clip of the gallery, none that sounds like one, no note of its font."""
    gallery = gallery_items()
    recordings = clips(["train"], ["sounds"])
    rows = read_manifest(CORPORA / "sounds" / "manifest.jsonl")
    left_out = near_gallery(recordings, [item for item in rows if item.id in gallery and item.modality == "audio"])
    return [item for item in recordings if item.id not in left_out] + own_notes()


def heard(items: Sequence[Item], kind: str, view: int) -> NDArray[np.float32]:
    """Return the features of clips in one view; kept between runs."""
    path = FOLDER / "sounds" / f"{kind}.{view}.npz"
    ids = np.array([item.id for item in items])
    if path.is_file():
        with np.load(path) as stored:
            if np.array_equal(stored["ids"], ids):
                rows: NDArray[np.float32] = stored["features"]
                return rows
    started = time.monotonic()
    features = np.concatenate([_hear([_viewed(item, view)]) for item in items])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, ids=ids, features=features)
    print(f"{kind} view {view}: {len(items)} in {time.monotonic() - started:.0f} s", flush=True)
    return features


def _viewed(item: Item, view: int) -> NDArray[np.float32]:
    waveform = np.asarray(read_clip(item, SAMPLE_RATE), np.float32)
    if view:
        waveform = augment_sound(waveform, SAMPLE_RATE, zlib.crc32(f"judge {item.id} {view}".encode()))
    if view % _VOCODED == _VOCODED - 1:
        size = SpectrogramConfig()
        whole = torch.zeros(1, size.samples)
        part = torch.from_numpy(waveform[: size.samples])
        whole[0, : len(part)] = part * (0.5 / part.abs().max().clamp(min=1e-4))
        made = to_waveform(to_spectrogram(whole, size), size, torch.Generator().manual_seed(SEED), num_steps=12)
        waveform = made[0].numpy()
    return waveform


Fitted = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def fit(features: NDArray[np.float32], labels: NDArray[np.int64], decay: float, steps: int = 80) -> Fitted:
    """Return mean, scale, weight and bias of a linear classifier; rare concepts weigh as much as frequent ones."""
    mean = features.mean(axis=0)
    scale = (1.0 / np.maximum(features.std(axis=0), 1e-4) / np.sqrt(features.shape[1])).astype(np.float32)
    x, y = torch.from_numpy((features - mean) * scale).float(), torch.from_numpy(labels)
    counts = torch.bincount(y, minlength=len(CONCEPTS)).clamp(min=1)
    share = (1.0 / counts.sqrt())[y]
    share = share / share.sum()
    weight = torch.zeros(x.shape[1], len(CONCEPTS), requires_grad=True)
    bias = torch.zeros(len(CONCEPTS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (F.cross_entropy(x @ weight + bias, y, reduction="none") * share).sum() + decay * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return mean, scale, weight.detach().numpy(), bias.detach().numpy()


def right(fitted: Fitted, features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (N,) whether each clip's concept comes first."""
    mean, scale, weight, bias = fitted
    found: NDArray[np.bool_] = ((features - mean) * scale @ weight + bias).argmax(axis=1) == labels
    return found


def _told(hits: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Any]:
    each = [float(hits[labels == label].mean()) for label in np.unique(labels)]
    return {
        "clips": len(hits),
        "concepts": len(each),
        "top_1_of_50": round(float(hits.mean()), 4),
        "mean_over_concepts": round(float(np.mean(each)), 4),
    }


def labels_of(items: Sequence[Item]) -> NDArray[np.int64]:
    """Return (N,) positions in `CONCEPTS`."""
    return np.array([CONCEPTS.index(item.concept) for item in items])


def accuracy(views: Sequence[NDArray[np.float32]], items: Sequence[Item], decay: float) -> dict[str, Any]:
    """Return the accuracy on training clips that were left out: in five folds, and source by source."""
    labels = labels_of(items)
    folds = np.array([zlib.crc32(f"{SEED} {item.group or item.id}".encode()) % 5 for item in items])
    sources = np.array([item.source for item in items])
    everywhere = {c: {s for s, own in zip(sources, labels, strict=True) if own == c} for c in np.unique(labels)}
    out = {}
    for name, parts in (("folds of what it learnt from", folds), ("each source left out", sources)):
        hits, own = [], []
        for part in np.unique(parts):
            there = parts == part
            fitted = fit(np.concatenate([v[~there] for v in views]), np.tile(labels[~there], len(views)), decay)
            if name != "folds of what it learnt from":  # a concept that no other source has cannot be known
                there &= np.array([len(everywhere[label]) > 1 for label in labels])
            hits.append(right(fitted, views[0][there], labels[there]))
            own.append(labels[there])
        out[name] = _told(np.concatenate(hits), np.concatenate(own))
    return out


def main() -> int:
    """Train, measure, and write what `load` reads."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--views", type=int, default=5, help="the first is the plain one")
    parser.add_argument("--decay", type=float, default=3e-5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items, held, gallery = lessons(), clips(["test", "val"]), gallery_items()
    copied = [item for item in clips(["train"]) if item.id in gallery]
    views = [heard(items, "train", view) for view in range(arguments.views)]
    labels = labels_of(items)
    fitted = fit(np.concatenate(views), np.tile(labels, len(views)), arguments.decay)
    mean, scale, weight, bias = fitted
    x = (views[0] - mean) * scale
    _, values, components = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    spread = np.sqrt((values[:_KERNEL] ** 2).sum() / len(x) / _KERNEL)
    tensors = {
        "mean": mean,
        "scale": scale,
        "weight": weight,
        "bias": bias,
        "components": np.ascontiguousarray(components[:_KERNEL].T / spread),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, _WEIGHTS)
    features, own = heard(held, "held", 0), labels_of(held)
    tux = np.array([item.source == "sounds-tux" for item in held])
    told = {
        "clips of the gallery": _told(right(fitted, heard(copied, "gallery", 0), labels_of(copied)), labels_of(copied)),
        "held-out recordings (Tux Paint)": _told(right(fitted, features[tux], own[tux]), own[tux]),
        "held-out notes of instruments": _told(right(fitted, features[~tux], own[~tux]), own[~tux]),
        **accuracy(views, items, arguments.decay),
    }
    about = {
        "ears": "Whisper tiny.en and log-mel statistics",
        "learnt_from": "recordings of the training split but the gallery's, notes of a sound font of its own",
        "clips": len(items),
        "of_them_notes": sum(item.source == _NOTES for item in items),
        "gallery": hashlib.sha256("\n".join(sorted(gallery)).encode()).hexdigest(),
        "views": arguments.views,
        "decay": arguments.decay,
        "seed": SEED,
        "concepts": list(CONCEPTS),
        "accuracy": told,
    }
    _ABOUT.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
