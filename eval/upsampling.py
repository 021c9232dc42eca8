"""Measure pictures drawn at four times their side, beside interpolation.

    python -m eval.upsampling                       # two minutes of one core; eval/results/upsampling.*

Firefox's emoji are vector drawings that no network here learnt from. Each is rendered at 384 pixels and made smaller to
96; from those, and from what the generator's autoencoder keeps of them, it is drawn at 384 again. The ratio of signal
to noise is over the whole picture, ground included, and the gain is paired with the bicubic picture's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.errors import MediaError
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.generate.files import contact_sheet
from embedspace.generate.upsampling import resized
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run
from training.corpora.pictures.emoji import FIREFOX
from training.generators.upsampler import SIDE, SMALL, rendered

RESULTS = Path(__file__).parent / "results"
_SHEET = 8
WAYS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}


def drawings(most: int) -> tuple[list[str], list[NDArray[np.uint8]]]:
    """Return names and pictures (SIDE, SIDE, 3), evenly drawn."""
    every = sorted(FIREFOX.pictures().items())
    names, found = [], []
    for k in range(min(most, len(every))):
        name, source = every[k * len(every) // min(most, len(every))]
        try:
            picture = rendered(source)
        except MediaError as error:
            print(f"{name}: left out: {error}")
            continue
        names.append(name)
        found.append(picture)
    return names, found


def decibels(made: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """Return the peak ratio of signal to noise in dB."""
    error = float(np.square(made.astype(np.float64) - real).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-6)))


def measured(
    generator: Any,  # noqa: ANN401 - the image generator
    names: list[str],
    real: list[NDArray[np.uint8]],
) -> tuple[list[dict[str, Any]], dict[str, list[NDArray[np.uint8]]]]:
    """Return rows of figures, and the pictures of the first kind of input."""
    small = [resize_padded(picture, SMALL) for picture in real]
    signed = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        parts = [generator.autoencoder.decode(generator.autoencoder.encode(part)) for part in torch.split(signed, 16)]
    kept = ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    rows, shown = [], {}
    for kind, given in (("drawings", small), ("what the autoencoder keeps", list(kept))):
        ways = {
            name: [np.asarray(Image.fromarray(p).resize((SIDE, SIDE), how)) for p in given]
            for name, how in WAYS.items()
        }
        started = time.perf_counter()
        ways["the upsampler"] = [resized(picture, SIDE, generator.upsampler) for picture in given]
        seconds = (time.perf_counter() - started) / len(given)
        each = {name: np.array([decibels(a, b) for a, b in zip(own, real, strict=True)]) for name, own in ways.items()}
        for name, values in each.items():
            gain = clustered_mean(values - each["bicubic"], names)
            row = {"from": kind, "way": name, "psnr": clustered_mean(values, names), "gain": gain}
            rows.append({**row, "seconds": round(seconds, 4)} if name == "the upsampler" else row)
        shown |= {f"{kind}: {name}": own for name, own in ways.items() if name != "Lanczos"}
    return rows, shown


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield f"{entry['pictures']} of Firefox's emoji, 96 pixels to 384.\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, generator {entry['generator'][:12]}, "
        f"{entry['parameters']:,} parameters. 95% intervals over pictures.\n"
    )
    yield "| from | drawn by | PSNR, dB | over bicubic, dB | s per picture, one thread |\n|---|---|---|---|---|"
    for row in entry["rows"]:
        psnr, gain = ("{:.2f} [{:.2f}, {:.2f}]".format(*row[name]) for name in ("psnr", "gain"))
        yield f"| {row['from']} | {row['way']} | {psnr} | {gain} | {row.get('seconds', '')} |"
    yield "\n![a sheet](upsampling.png)"


def main() -> int:
    """Measure, and write eval/results/upsampling.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure the upsampler.")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--weights", help="a space other than the shipped one")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = EmbeddingSpace.from_pretrained(*([arguments.weights] if arguments.weights else []))
    generator: Any = space.generators["image"]
    names, real = drawings(arguments.pictures)
    rows, shown = measured(generator, names, real)
    entry = {
        **made_by("upsampling"),
        "generator": generator.digest,
        "parameters": sum(parameter.numel() for parameter in generator.upsampler.parameters()),
        "pictures": len(real),
        "rows": rows,
    }
    some = range(0, len(real), max(1, len(real) // _SHEET))
    sheet = [(names[k], [("rendered", real[k]), *((name, own[k]) for name, own in shown.items())]) for k in some]
    publish(arguments.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
