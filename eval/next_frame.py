"""Measure the next frame of a film: how near is what is drawn from two frames to the one that comes?

    embedspace train generator training/recipes/generators/next_frame.toml --minutes 10
    python -m eval.next_frame build/runs/generators/frames/generator     # eval/results/next_frame.*

Clips of the test split, which no training saw; from each some pairs of frames a tenth of a second apart. Decibels
(PSNR) of the whole frame, and of the pixels that change at all. Beside it: the last frame again; each pixel going on as
it went (linear extrapolation); the network told that nothing moved; and what the autoencoder keeps of the true change,
which no prediction on its latents can exceed by much.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate.files import contact_sheet
from embedspace.generate.translation.frames import FramePredictor, load_predictor
from embedspace.train.generators.frames.recipe import FrameRecipe
from embedspace.train.generators.frames.run import films_of, frames_of_film
from embedspace.train.generators.recipe import GeneratorRecipe
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
CLIPS, EACH = 128, 4
CHANGED = 12
"""Levels, of 255, from which a pixel counts as changed."""
_SHEET = 10
AGAIN = "the last frame again"

Frame = NDArray[np.uint8]


def decibels(made: Frame, wanted: Frame, where: NDArray[np.bool_] | None = None) -> float:
    """Return the PSNR of a frame, or of some of its pixels (H, W); at most 60."""
    apart = (made.astype(np.float64) - wanted) ** 2
    error = float(apart.mean() if where is None else apart[where].mean())
    return 10 * float(np.log10(255**2 / max(error, 255**2 / 1e6)))


def guesses(predictor: FramePredictor, before: Frame, last: Frame, wanted: Frame) -> dict[str, Frame]:
    """Return what each way draws after two frames."""
    straight = 2 * last.astype(np.int16) - before
    latents = predictor.latents([last, wanted])
    return {
        AGAIN: last,
        "each pixel goes on": straight.clip(0, 255).astype(np.uint8),
        "drawn": predictor.next_frame(before, last),
        "drawn, told that nothing moved": predictor.next_frame(last, last),
        "the true change, as the autoencoder keeps it": predictor.moved(last, latents[:1], latents[1:]),
    }


def measured(
    predictor: FramePredictor, films: Sequence[Path], recipe: FrameRecipe
) -> tuple[list[dict[str, Any]], list[tuple[str, list[tuple[str, Any]]]], int]:
    """Return rows of figures, a sheet, and how many frames were drawn."""
    found: dict[str, list[tuple[float, float]]] = {}
    owners: list[str] = []
    sheet: list[tuple[str, list[tuple[str, Any]]]] = []
    for film in films:
        frames = frames_of_film(film, recipe)
        starts = range(0, len(frames) - 2, max(1, (len(frames) - 2) // EACH))
        for start in list(starts)[:EACH]:
            before, last, wanted = frames[start : start + 3]
            changed = np.abs(wanted.astype(np.int16) - last).max(axis=2) >= CHANGED
            if not changed.any():
                continue
            owners.append(film.stem)
            drawn = guesses(predictor, before, last, wanted)
            for way, made in drawn.items():
                found.setdefault(way, []).append((decibels(made, wanted), decibels(made, wanted, changed)))
        if len(owners) and len(sheet) < _SHEET:
            cells = [("before", before), ("last", last), ("drawn", drawn["drawn"]), ("what came", wanted)]
            sheet.append((film.stem, cells))
    again = np.array(found[AGAIN])
    rows = []
    for way, values in found.items():
        own = np.array(values)
        row: dict[str, Any] = {"way": way}
        for number, name in enumerate(("whole", "changed")):
            row[name] = clustered_mean(own[:, number], owners)
            row[f"{name}_less_again"] = clustered_mean(own[:, number] - again[:, number], owners)
        rows.append(row)
    return rows, sheet, len(owners)


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield (
        f"{entry['frames']} frames of {entry['clips']} clips of the test split, {entry['per_second']:g} per second, by "
        f"a network of {entry['parameters']:,} parameters.\n"
    )
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, splits "
        f"{entry['corpora_splits'][:12]}, network {entry['network'][:12]}. Decibels; 95% intervals over clips. "
        f"Changed: pixels that differ by {CHANGED} of 255 levels or more.\n"
    )
    yield "| what | whole, dB | over the last frame | changed, dB | over the last frame |\n|---|---|---|---|---|"
    for row in entry["rows"]:
        told = (_decibels(row[name]) for name in ("whole", "whole_less_again", "changed", "changed_less_again"))
        yield f"| {row['way']} | {' | '.join(told)} |"
    yield "\n![a sheet](next_frame.png)"


def _decibels(value: Sequence[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*value)


def main() -> int:
    """Measure, and write eval/results/next_frame.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure the next frame of films.")
    parser.add_argument("predictor", type=Path, help="the folder that a training wrote")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor, corpora = load_predictor(given.predictor), corpora_folder()
    frames = FrameRecipe(per_second=predictor.config.per_second, films=CLIPS)
    films = films_of(GeneratorRecipe("next_frame", "frames", corpora=str(corpora), frames=frames), None, "test")
    rows, sheet, count = measured(predictor, films, frames)
    entry = {
        **made_by("next_frame"),
        "corpora_splits": splits_digest(corpora),
        "network": hashlib.sha256((given.predictor / "frames.safetensors").read_bytes()).hexdigest(),
        "parameters": sum(one.numel() for one in predictor.network.parameters()),
        "per_second": frames.per_second,
        "clips": len(films),
        "frames": count,
        "rows": rows,
    }
    publish(given.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
