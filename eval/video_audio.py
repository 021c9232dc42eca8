"""Measure search between videos and sounds: by meaning, by timing, and by both.

    python -m eval.video_audio                      # 256 test clips, then 1,024 others; eval/results/video_audio.*
    python -m eval.video_audio --alone              # by timing alone, in a minute: what is meant is not encoded
    python -m eval.video_audio --split val          # where the weight of timing is chosen; build/timing

The clips are rendered (`training/corpora/video`): a stamp moves, and something is heard at its impacts. Test clips have
stamps, sounds and kinds of motion that no training saw. The first 256 are those of the corpus; the 1,024 are rendered
with other seeds, by the same rules (`build/timing`). A clip's own sound is to be found among all of a gallery, and the
other way. Beside it stand the timing without anything that was learned (how suddenly the picture's change stops, and
how suddenly bands grow louder), sounds moved by two seconds (their meaning stays, their timing does not), and other
clips' sounds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from embedspace.encoders.timing.network import moments_to_steps
from embedspace.encoders.timing.profiles import HOPS, SAMPLE_RATE, TICKS
from embedspace.evaluate.intervals import bootstrap, cluster_codes, interval_of
from embedspace.files import replacing
from embedspace.media.audio import load_audio
from embedspace.query.timing import TIMING_WEIGHT
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run
from training.timing.clips import BUILD, clip_path, load_clips, rendered_clips

HERE = Path(__file__).parent
GALLERIES = {"test": ((0, 256), (256, 1024)), "val": ((0, 128), (128, 256))}
"""Split -> first clip and number of clips of each gallery."""
WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
MOVED = 2.0
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Clips of a gallery, encoded.

    Attributes:
        videos: (N, embed_dim) what each means, as a video; None where timing is measured alone.
        sounds: (N, embed_dim) what its sound means.
        seen: (N, 64) timing of what is seen.
        heard: (N, 64) timing of what is heard.
        moved: (N, 64) timing of what is heard, moved by `MOVED` seconds.
        plain: (N, 64) timing of what is seen, without a network.
        plainly_heard: (N, 64) timing of what is heard, without a network.
        concepts: What each shows.
        kinds: How it moves.
        ids: Of the clips.
    """

    videos: Rows | None
    sounds: Rows | None
    seen: Rows
    heard: Rows
    moved: Rows
    plain: Rows
    plainly_heard: Rows
    concepts: list[str]
    kinds: list[str]
    ids: list[str]


def meanings(split: str, first: int, count: int, space: EmbeddingSpace) -> tuple[Rows, Rows]:
    """Return what clips mean as videos, and what their sounds mean, (N, embed_dim) each; they are kept in `BUILD`."""
    items = list(rendered_clips(split, first, count))
    kept = BUILD / f"meaning-{split}-{first}-{count}-{space.fingerprints()['audio'][:8]}.npz"
    if not kept.is_file():
        sounds = [load_audio(clip_path(item), sample_rate=SAMPLE_RATE).waveform for item in items]
        meant = space.encode_audio(sounds, sample_rate=SAMPLE_RATE)
        videos = space.encode([clip_path(item) for item in items], modality="video")
        with replacing(kept) as partial, partial.open("wb") as file:
            np.savez(file, sounds=meant, videos=videos)
    with np.load(kept) as file:
        return file["videos"], file["sounds"]


def encoded(split: str, first: int, count: int, space: EmbeddingSpace, *, alone: bool) -> Gallery:
    """Return a gallery; with `alone` by timing alone."""
    items = list(rendered_clips(split, first, count))
    videos, meant = (None, None) if alone else meanings(split, first, count, space)
    timed = space.with_timing()
    clips = load_clips(split, first, count)
    see, hear = timed.encoder("motion"), timed.encoder("onset")
    seen = see.encode(list(zip(clips.rows.float(), clips.columns.float(), strict=True)))[:, :64]
    heard = hear.encode([(bands,) for bands in clips.bands.float()])[:, :64]
    by = round(MOVED * heard.shape[1] / 4.0)
    drop, flux = plain_curves(clips.rows.float(), clips.bands.float())
    return Gallery(
        videos, meant, seen, heard, np.roll(heard, by, axis=1), drop, flux,
        [item.concept for item in items], clips.kinds, [item.id for item in items],
    )  # fmt: skip


def plain_curves(rows: torch.Tensor, bands: torch.Tensor) -> tuple[Rows, Rows]:
    """Return (N, 64) unit rows without a network: where the change of the picture ends, and where bands grow louder."""
    energy = rows[:, 0].square().mean(dim=1).sqrt()
    drop = (energy - functional.pad(energy[:, 1:], (0, 1))).clamp(min=0)
    flux = functional.pad((bands[:, :, 2:] - bands[:, :, :-2]).clamp(min=0).mean(dim=1), (1, 1))
    curves = [drop @ moments_to_steps(TICKS, 64), flux @ moments_to_steps(HOPS, 64)]
    unit = [functional.normalize(curve - curve.mean(dim=1, keepdim=True), dim=1) for curve in curves]
    return unit[0].numpy(), unit[1].numpy()


def ranks_of(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the rank of each row's own column, 1 the best; ties count against it."""
    own = np.diagonal(scores)[:, None]
    ranks: NDArray[np.int64] = (scores >= own).sum(axis=1)
    return ranks


def recalls(scores: NDArray[np.float64], concepts: Sequence[str]) -> dict[str, Any]:
    """Return R@1, R@5 and R@10 of both ways, the last with intervals over concepts."""
    out: dict[str, Any] = {}
    for way, matrix in (("video_to_audio", scores), ("audio_to_video", scores.T)):
        ranks = ranks_of(matrix)
        hits = (ranks <= 10).astype(np.float64)
        low, high = interval_of(bootstrap(hits[:, None], clusters=cluster_codes(concepts))[:, 0])
        out[way] = {
            "r1": _percent((ranks <= 1).mean()), "r5": _percent((ranks <= 5).mean()),
            "r10": [_percent(hits.mean()), _percent(low), _percent(high)], "median_rank": float(np.median(ranks)),
        }  # fmt: skip
    return out


def _percent(value: float | NDArray[np.float64]) -> float:
    return round(100 * float(value), 1)


def systems(gallery: Gallery, weight: float) -> dict[str, NDArray[np.float64]]:
    """Return the scores of each way to search, (N, N): videos along the rows."""
    g = gallery
    timing, moved = g.seen.astype(np.float64) @ g.heard.T, g.seen.astype(np.float64) @ g.moved.T
    found = {"timing, nothing learned": g.plain.astype(np.float64) @ g.plainly_heard.T, "timing": timing}
    if g.videos is None or g.sounds is None:
        return {
            **found,
            "timing, sounds moved by two seconds": moved,
            "timing, other clips' sounds": np.roll(timing, 1, axis=1),
        }
    meaning = g.videos.astype(np.float64) @ g.sounds.T
    return {
        "meaning": meaning,
        **found,
        "both": meaning + weight * timing,
        "both, sounds moved by two seconds": meaning + weight * moved,
        "both, other clips' sounds": np.roll(meaning + weight * timing, 1, axis=1),
    }


def measured(gallery: Gallery, weight: float) -> dict[str, Any]:
    """Return the figures of a gallery: of all its clips by each way, and of each kind of motion by both."""
    found = systems(gallery, weight)
    entry: dict[str, Any] = {
        "clips": len(gallery.ids),
        "chance_r10": _percent(10 / len(gallery.ids)),
        "split_hash": hashlib.sha256(json.dumps(gallery.ids).encode()).hexdigest(),
        "systems": {name: recalls(scores, gallery.concepts) for name, scores in found.items()},
        "kinds": {},
    }
    for kind in sorted(set(gallery.kinds)):
        own = np.array([one == kind for one in gallery.kinds])
        best = found.get("both", found["timing"])
        ranks = [ranks_of(best)[own], ranks_of(best.T)[own]]
        entry["kinds"][kind] = {"clips": int(own.sum()), "r10": [_percent((r <= 10).mean()) for r in ranks]}
    return entry


def chosen_weights(gallery: Gallery) -> dict[str, list[float]]:
    """Return weight -> R@10 of both ways."""
    out = {}
    for weight in WEIGHTS:
        scores = systems(gallery, weight)["both"]
        out[str(weight)] = [_percent((ranks_of(s) <= 10).mean()) for s in (scores, scores.T)]
    return out


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n\n{entry['description']}\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, weights of timing "
        f"{entry['timing'][:12]}, encoder of videos {entry['video'][:12]}, of sounds {entry['audio'][:12]}; weight of "
        f"timing {entry['weight']} (chosen on validation). 95% intervals over concepts.\n"
    )
    for gallery in entry["galleries"]:
        yield f"Among {gallery['clips']:,} clips (split hash {gallery['split_hash'][:12]}):\n"
        yield "| by | video → audio R@1 | R@5 | R@10 | audio → video R@1 | R@5 | R@10 |\n|---|---|---|---|---|---|---|"
        for name, ways in gallery["systems"].items():
            cells = []
            for way in ways.values():
                r10 = "{} [{}, {}]".format(*way["r10"])
                cells += [str(way["r1"]), str(way["r5"]), r10]
            yield f"| {name} | {' | '.join(cells)} |"
        chance = gallery["chance_r10"]
        yield f"| chance | {round(chance / 10, 1)} | {round(chance / 2, 1)} | {chance} | | | |\n"
        kinds = (f"{k} {v['r10'][0]} and {v['r10'][1]} ({v['clips']} clips)" for k, v in gallery["kinds"].items())
        yield f"R@10 of both ways by motion: {', '.join(kinds)}.\n"
    if entry["weights"]:
        yield "Weight of timing → R@10 of both ways, first gallery:\n"
        yield "| weight | video → audio | audio → video |\n|---|---|---|"
        yield from (f"| {weight} | {r[0]} | {r[1]} |" for weight, r in entry["weights"].items())


def main() -> int:
    """Measure, and write video_audio.json and .md."""
    parser = argparse.ArgumentParser(description="Measure search between videos and sounds on rendered clips.")
    parser.add_argument("--split", default="test", choices=sorted(GALLERIES))
    parser.add_argument("--small", action="store_true", help="the first gallery alone")
    parser.add_argument("--alone", action="store_true", help="by timing alone")
    parser.add_argument("--weight", type=float, default=TIMING_WEIGHT)
    parser.add_argument("--out", type=Path, help="eval/results for the test; build/timing for validation")
    given = parser.parse_args()
    began = time.monotonic()
    space = EmbeddingSpace.from_pretrained()
    chosen = GALLERIES[given.split][: 1 if given.small else None]
    galleries = [encoded(given.split, *which, space, alone=given.alone) for which in chosen]
    prints = space.with_timing().fingerprints()
    entry = {
        **made_by("video_audio"),
        "description": f"Rendered clips of the split {given.split}: stamps that move, heard at their impacts. Rendered "
        "clips are not film.",
        "timing": prints["motion"],
        "video": prints["video"],
        "audio": prints["audio"],
        "weight": given.weight,
        "galleries": [measured(gallery, given.weight) for gallery in galleries],
        "weights": chosen_weights(galleries[0]) if given.split == "val" and not given.alone else {},
        "seconds": round(time.monotonic() - began),
    }
    out = given.out or (HERE / "results" if given.split == "test" else BUILD)
    publish(out, entry, lines(entry))
    return 0


if __name__ == "__main__":
    run(main)
