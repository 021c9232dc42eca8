"""Measure the vocoder on sounds: does it make frames better heard than Griffin-Lim's algorithm does?

    python -m training.corpora --only sounds --only instruments
    python -m training.judges.sounds               # the judge, an hour
    python -m eval.vocoder                         # eval/results/vocoder.json and .md; minutes of one core

Held-out recordings become log-mel frames, as the generator of sounds draws them, and are made heard again by both. The
judge of sounds says which of its fifty concepts it hears; it has heard none of these recordings, but learnt from some
others that Griffin-Lim had made heard. How far magnitudes of four transforms are from the recording's is what the
vocoder was trained to make small.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.evaluate.generation.judges import known_among, load_judge
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.generate.conversion.converter import SHIPPED, load_vocoder
from embedspace.generate.spectrogram import LEVEL, SpectrogramConfig, to_spectrogram, to_waveform
from embedspace.train.generators.conversion.vocoder import stft_loss
from eval.writing import made_by, publish, run
from training.corpora.sounds.clips import SPEECH_RATE, read_clip
from training.judges.sounds import CONCEPTS, clips

RESULTS = Path("eval/results")
_SECONDS = 4.0
Samples = NDArray[np.float32]


def _levelled(waveform: Samples, frames: int) -> Samples:
    """Return a clip of whole frames, at one level."""
    kept = waveform[: min(len(waveform), int(_SECONDS * SPEECH_RATE)) // frames * frames]
    return kept * np.float32(LEVEL / max(float(np.abs(kept).max(initial=0.0)), 1e-5))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="folder of a vocoder")
    parser.add_argument("--clips", type=int, help="so many of them; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    size, vocoder, judge = SpectrogramConfig(), load_vocoder(given.weights), load_judge("training.judges.sounds:load")
    items = [item for item in clips(["test", "val"]) if item.extra["seconds"] > 0.3][: given.clips]
    real = [_levelled(read_clip(item, SPEECH_RATE), size.hop_length) for item in items]

    def griffin_lim(frames: torch.Tensor) -> torch.Tensor:
        return to_waveform(frames, size, torch.Generator().manual_seed(0))

    makers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"Griffin-Lim": griffin_lim, "vocoder": vocoder}
    concepts = [item.concept for item in items]
    rows: dict[str, Any] = {"the recording": _row(judge, real, real, concepts, 0.0)}
    for name, make in makers.items():
        started = time.process_time()
        with torch.inference_mode():
            made = [make(to_spectrogram(torch.from_numpy(one)[None], size))[0].numpy() for one in real]
        cost = (time.process_time() - started) / (sum(map(len, real)) / SPEECH_RATE)
        rows[name] = _row(judge, made, real, concepts, cost)
    entry = {
        **made_by("vocoder"), "judge": judge.digest, "seed": 0, "clips": len(items),
        "weights": hashlib.sha256((given.weights / "vocoder.safetensors").read_bytes()).hexdigest(),
        "split_sha256": hashlib.sha256("\n".join(item.id for item in items).encode()).hexdigest(), "rows": rows,
    }  # fmt: skip
    publish(given.out, entry, _lines(entry))
    return 0


def _row(judge: Any, made: list[Samples], real: list[Samples], concepts: list[str], cost: float) -> dict[str, Any]:  # noqa: ANN401 - see Judge
    features = judge.features(made, SPEECH_RATE)
    names = sorted(set(CONCEPTS))
    hit = known_among(judge, features, concepts, names, 1).astype(np.float64)
    away = [
        float(stft_loss(torch.from_numpy(a)[None], torch.from_numpy(b)[None])) for a, b in zip(made, real, strict=True)
    ]
    mixed = np.random.default_rng(0).permutation(concepts).tolist()
    return {
        "named": [round(100 * x, 1) for x in clustered_mean(hit, concepts)],
        "shuffled": round(100 * float(known_among(judge, features, mixed, names, 1).mean()), 1),
        "distance": [round(x, 3) for x in clustered_mean(away, concepts)],
        "seconds_per_second": round(cost, 4),
    }


def _lines(entry: dict[str, Any]) -> list[str]:
    def cell(values: list[float]) -> str:
        return f"{values[0]:g} [{values[1]:g}, {values[2]:g}]"

    return [
        "# Vocoder",
        "",
        f"`{entry['command']}`, commit {entry['commit']}, vocoder {entry['weights'][:12]}, judge "
        f"{entry['judge'][:12]}, clips {entry['split_sha256'][:12]}, seed {entry['seed']}. {entry['clips']} held-out "
        f"recordings of {len(CONCEPTS)} concepts, made frames and heard again. Intervals draw concepts whole; chance "
        "is 2%. The judge learnt from some recordings that Griffin-Lim had made heard, from none that the vocoder had.",
        "",
        "| | named by the judge, % | shuffled | distance of transforms | seconds per second of sound |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {cell(one['named'])} | {one['shuffled']:g} | {cell(one['distance'])} | "
            f"{one['seconds_per_second']:g} |"
            for name, one in entry["rows"].items()
        ),
    ]


if __name__ == "__main__":
    run(main)
