"""Run the frozen front ends once over the built corpora and keep what they say.

    python -m training.align.features image                 # every image source, plain view and one augmented view
    python -m training.align.features image --only stamps --views 1
    python -m training.align.features speech audio text
    python -m training.align.features speech --shards "en-*" "*-stamps-*"

Features land in build/features/<kind>/<source>.npz (images, sounds, texts) or as packed sequences (speech); each run
skips what is there and can be killed at any moment.
"""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import os
import random
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.encoders.towers.backbone import WEIGHTS as BACKBONES
from embedspace.encoders.towers.imagenet import imagenet_classes
from embedspace.files import replacing
from embedspace.train.precision import bfloat16_autocast
from training.align.augment import augment_sound, open_view
from training.align.tables import body_of
from training.corpora.manifest import CORPORA, Item, read_manifest

WEIGHTS = BACKBONES.parent
FEATURES = Path(os.environ.get("EMBEDSPACE_FEATURES", "build/features"))


def manifests(modality: str, only: list[str] | None) -> Iterator[tuple[str, list[Item]]]:
    """Yield each source's items of a modality, dropped ones left out."""
    for path in sorted(CORPORA.glob("*/manifest.jsonl")):
        if only and path.parent.name not in only:
            continue
        items = [i for i in read_manifest(path) if i.modality == modality and i.split != "drop"]
        if items:
            yield path.parent.name, items


LEARNT = ("train", "val")
"""Splits of the clips of speech that training reads; all others are for tests."""
SPOKEN = 120
"""Clips of each speech source that the router learns from."""
WINDOW_SECONDS = 6
"""Length of an audio window; see `embedspace.encoders.shipped.audio`."""


# ---- images


_FRONT: Any = None


def _start_image() -> None:
    global _FRONT
    import torch

    torch.set_num_threads(1)
    from embedspace.encoders.shipped.image_features import ImageFrontEnd

    _FRONT = ImageFrontEnd()


def _image_rows(task: tuple[list[str], int]) -> tuple[np.ndarray, np.ndarray]:
    from embedspace.encoders.shipped.image_features import crop_to_content

    paths, view = task
    inputs = [_FRONT.preprocess(crop_to_content(open_view(CORPORA, path, view))) for path in paths]
    features, logits = _FRONT(inputs)
    return features.numpy().astype(np.float16), logits.numpy().astype(np.float16)


def build_images(only: list[str] | None, views: int, processes: int) -> None:
    """Write features of every image source and view."""
    with multiprocessing.get_context("spawn").Pool(processes, _start_image) as pool:
        for source, items in manifests("image", only):
            for view in range(views):
                out = FEATURES / "image" / f"{source}.{view}.npz"
                _extend(
                    out,
                    items,
                    lambda chunk, view=view: ([i.path for i in chunk], view),
                    _image_rows,
                    pool,
                    f"{source} view {view}",
                )


def _extend(
    out: Path,
    items: list[Item],
    task: Callable[[list[Item]], Any],
    rows_of: Callable[[Any], Any],
    pool: Any,  # noqa: ANN401
    name: str,
) -> None:
    """Add the items that the file does not hold yet; what it holds is never computed again."""
    stored = dict(np.load(out)) if out.exists() else {}
    known = set(stored["ids"].tolist()) if stored else set()
    missing = [i for i in items if i.id not in known]
    if not missing:
        return
    tasks = [task(missing[k : k + 8]) for k in range(0, len(missing), 8)]
    rows = list(_progress(pool.imap(rows_of, tasks), len(tasks), name))
    made = {
        "ids": np.array([i.id for i in missing]),
        "features": np.concatenate([r[0] for r in rows]),
        "logits": np.concatenate([r[1] for r in rows]),
    }
    _save(out, **{k: np.concatenate([stored[k], v]) if stored else v for k, v in made.items()})


def _progress(results: Iterator[Any], total: int, name: str) -> Iterator[Any]:
    started = told = time.monotonic()
    for count, result in enumerate(results, 1):
        yield result
        if time.monotonic() - told > 30 or count == total:
            told = time.monotonic()
            print(f"{name}: {count}/{total}, {told - started:.0f} s", flush=True)


def _save(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


# ---- speech: sequences of 25 frames a second, packed


def _speech_inputs(front: Any, items: list[Item]) -> Iterator[tuple[Item, Any]]:  # noqa: ANN401
    from training.corpora.sounds.clips import read_clip

    for item in items:
        waveform = read_clip(item, front.sample_rate)
        yield item, front.preprocess(waveform[: int(front.max_seconds * front.sample_rate)])


def _shards(items: list[Item]) -> dict[str, list[Item]]:
    """Group clips by the file that holds them, at most 512 together, so that a growing corpus keeps its done shards."""
    shards: dict[str, list[Item]] = {}
    counts: dict[str, int] = {}
    for item in items:
        stem = Path(item.path.split("#")[0]).stem if "#" in item.path else "clips"
        counts[stem] = counts.get(stem, 0) + 1
        shards.setdefault(f"{stem}-{(counts[stem] - 1) // 512:05d}", []).append(item)
    return shards


def build_speech(only: list[str] | None, views: int, processes: int, shards: Sequence[str] = ("*",)) -> None:
    """Write packed Whisper sequences, shard by shard of 512 clips: <source>/<n>.npz with ids, starts and frames.

    `shards` are patterns of the shards' names, to begin with what matters most where time is short.
    """
    import torch

    torch.set_num_threads(processes)
    from embedspace.encoders.shipped.speech_features import SpeechFrontEnd

    front = SpeechFrontEnd()
    for source, items in manifests("speech", only):
        started, done = time.monotonic(), 0
        for name, chunk in _shards([i for i in items if i.split in LEARNT]).items():
            ids = np.array([i.id for i in chunk])
            out = FEATURES / "speech" / source / f"{name}.npz"
            if not any(fnmatch.fnmatch(name, pattern) for pattern in shards):
                continue
            done += len(chunk)
            if out.exists() and np.array_equal(np.load(out)["ids"], ids):
                continue
            pairs = sorted(_speech_inputs(front, chunk), key=lambda pair: pair[1].frames.shape[1])
            frames: dict[str, np.ndarray] = {}
            for k in range(0, len(pairs), 16):
                # bfloat16's rounding is small beside the augmentation of the clips
                with bfloat16_autocast():
                    rows = [heard.sequence for heard in front([x for _, x in pairs[k : k + 16]])]
                frames |= {
                    i.id: r.numpy().astype(np.float16) for (i, _), r in zip(pairs[k : k + 16], rows, strict=True)
                }
            ordered = [frames[i] for i in ids]
            lengths = np.array([len(r) for r in ordered], np.int64)
            _save(out, ids=ids, starts=np.concatenate([[0], np.cumsum(lengths)]), frames=np.concatenate(ordered))
            print(f"speech {source}: {done}/{len(items)}, {time.monotonic() - started:.0f} s", flush=True)


def build_recognised(only: list[str] | None, views: int, processes: int) -> None:
    """Write what the recogniser makes of the validation clips: recognised/<source>.npz with ids, texts and vectors."""
    import torch

    from embedspace.encoders.shipped.speech import Recogniser
    from embedspace.encoders.shipped.speech_features import SpeechFrontEnd

    torch.set_num_threads(processes)
    front, recogniser = SpeechFrontEnd(), Recogniser("whisper_base_decoder", "minilm_l6")
    for source, items in manifests("speech", only):
        kept = [i for i in items if i.split == "val"]
        out = FEATURES / "recognised" / f"{source}.npz"
        if not kept or (out.exists() and np.array_equal(np.load(out)["ids"], [i.id for i in kept])):
            continue
        texts: list[str] = []
        vectors: list[np.ndarray] = []
        inputs = _speech_inputs(front, kept)
        for _, window in _progress(inputs, len(kept), f"recognised {source}"):
            vector, text = recogniser(front([window])[0], window.seconds)
            vectors.append(np.zeros(recogniser.text.feature_dim) if vector is None else vector.numpy())
            texts.append(text)
        ids = np.array([i.id for i in kept])
        _save(out, ids=ids, texts=np.array(texts), vectors=np.stack(vectors).astype(np.float16))


def spoken_items(only: list[str] | None) -> list[Item]:
    """Return the clips of speech that the router learns from, drawn by seed from each source."""
    rng = random.Random(0)
    items: list[Item] = []
    for _, found in manifests("speech", only):
        heard = [i for i in found if i.split in LEARNT]
        items += rng.sample(heard, min(SPOKEN, len(heard)))
    return items


def build_spoken(only: list[str] | None, views: int, processes: int) -> None:
    """Write audio features of some speech, none of it for tests, for the speech-or-sound router: audio/spoken.0.npz."""
    out = FEATURES / "audio" / "spoken.0.npz"
    if out.exists():
        return
    items = spoken_items(only)
    with multiprocessing.get_context("spawn").Pool(processes, _start_sound) as pool:
        tasks = [(items[k : k + 8], 0) for k in range(0, len(items), 8)]
        rows = list(_progress(pool.imap(_sound_rows, tasks), len(tasks), "spoken"))
    _save(
        out,
        ids=np.array([i.id for i in items]),
        features=np.concatenate([r[0] for r in rows]),
        logits=np.concatenate([r[1] for r in rows]),
    )


# ---- texts


def build_text(only: list[str] | None, views: int, processes: int) -> None:
    """Write the unit vectors of every distinct caption, keyword and text: texts.npz with texts and features."""
    import torch

    torch.set_num_threads(processes)
    from embedspace.encoders.towers import create_backbone

    wanted: set[str] = set()
    for path in sorted(CORPORA.glob("*/manifest.jsonl")):
        for item in read_manifest(path):
            wanted.update(item.captions, item.keywords)
            if item.modality == "audio":
                wanted.add(item.concept)
            if item.source == "recipes":
                wanted.add(body_of(item.extra))
            wanted.update((item.text,) if item.text and item.modality == "text" else ())
    wanted.update(name for row in imagenet_classes() for name in (row.name, *row.synonyms, *row.hypernyms))
    out = FEATURES / "text" / "texts.npz"
    known: dict[str, np.ndarray] = {}
    if out.exists():
        stored = np.load(out)
        known = dict(zip(stored["texts"].tolist(), stored["features"], strict=True))
    missing = sorted(wanted - known.keys())
    backbone = create_backbone("minilm_l6")
    for k in range(0, len(missing), 512):
        chunk = missing[k : k + 512]
        with torch.inference_mode():
            rows = backbone([backbone.preprocess(t) for t in chunk]).normalized.numpy()  # type: ignore[operator]
        known.update(zip(chunk, rows.astype(np.float16), strict=True))
        print(f"text: {k + len(chunk)}/{len(missing)}", flush=True)
    texts = sorted(known)
    _save(out, texts=np.array(texts), features=np.stack([known[t] for t in texts]))


# ---- sounds


def _sound_rows(task: tuple[list[Item], int]) -> tuple[np.ndarray, np.ndarray]:
    from training.corpora.sounds.clips import read_clip

    inputs, rate = [], _FRONT.sample_rate
    for item in task[0]:
        waveform = read_clip(item, rate)[: rate * WINDOW_SECONDS]
        if task[1]:
            waveform = augment_sound(waveform, rate, zlib.crc32(f"{item.id} {task[1]}".encode()))
        inputs.append(_FRONT.preprocess(waveform[: rate * WINDOW_SECONDS]))
    with bfloat16_autocast():
        features, logits = _FRONT(inputs)
    return features.float().numpy().astype(np.float16), logits.float().numpy().astype(np.float16)


def _start_sound() -> None:
    global _FRONT
    import torch

    torch.set_num_threads(1)
    from embedspace.encoders.shipped.audio_features import AudioFrontEnd

    _FRONT = AudioFrontEnd()


def build_audio(only: list[str] | None, views: int, processes: int) -> None:
    """Write features of every sound and its augmented views: audio/<source>.<view>.npz."""
    with multiprocessing.get_context("spawn").Pool(processes, _start_sound) as pool:
        for source, items in manifests("audio", only):
            for view in range(views):
                out = FEATURES / "audio" / f"{source}.{view}.npz"
                _extend(
                    out, items, lambda chunk, view=view: (chunk, view), _sound_rows, pool, f"audio {source} view {view}"
                )


BUILDERS: dict[str, Callable[..., None]] = {
    "audio": build_audio,
    "image": build_images,
    "recognised": build_recognised,
    "speech": build_speech,
    "spoken": build_spoken,
    "text": build_text,
}


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=sorted(BUILDERS))
    parser.add_argument("--only", nargs="*", help="sources")
    parser.add_argument("--views", type=int, default=2, help="views an image; the first is the plain one")
    parser.add_argument("--shards", nargs="+", default=["*"], help="speech: patterns of shards, such as 'en-*-0-*'")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    for kind in args.kinds:
        more = {"shards": args.shards} if kind == "speech" else {}
        BUILDERS[kind](args.only, args.views, args.processes, **more)


if __name__ == "__main__":
    main()
