"""Measure what the generators assume of the vectors they are given, without training anything.

    python -m training.align.vectors text image audio speech --splits val
    python -m training.generators.thresholds                        # measure; eval/results/generator_thresholds.*
    python -m training.generators.thresholds --write                # and put the figures into the heads that ship
    python -m training.generators.thresholds --write --only speech  # after new speech heads; the others keep theirs

Two figures belong to each modality of a source. `sigma` is the size of the noise in its centred vectors, by the median
cosine of validation items with their captions. The threshold is the cosine with the nearest known caption below which a
vector counts as "outside what the generator knows": one validation item in a hundred lies below it.

The threshold errs in two ways, and the report has both. `refused`: known things below it, measured on concepts that did
not set it. `admitted`: things that nothing is known of and that lie above it: words of random letters, those words read
aloud, noise and plain colours, noise and random tones. `left_out` is the harder question: validation items whose own
concept was taken out of the memory (captions with a cosine of 0.7 and more to theirs) and that still lie above it,
because something similar is known.

A head is told no more noise than its networks were trained with (`max_sigma` of its recipe.json).

Only `sigma` in the heads' config.json and `nearest` in memory.json change; networks, captions and vectors stay.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.calibration.centring import centre
from embedspace.space import EmbeddingSpace
from embedspace.train.generators.recipe import load_generator_recipe
from embedspace.train.generators.run import GeneratorRun, measured_sigma, open_run
from embedspace.train.generators.vocabulary import (
    FEWEST,
    KNOWN,
    Validation,
    refused_share,
    threshold_of,
    validation_rows,
)
from embedspace.vocabulary import SHIPPED_GENERATORS, Vocabulary, load_vocabulary

__all__ = ["measure", "outside_vectors", "write"]

RECIPE = Path("training/recipes/generators/vocabulary.toml")
RESULTS = Path("eval/results")
NAME = "generator_thresholds"
SEED = 20_253
PROBES = 60
SAME = 0.7
"""Captions with this cosine and more are taken to be of one concept."""
_VOICE = "espeak:en-us"
_RATE = 16_000
_SPOKEN = 40


def random_words(count: int, seed: int = SEED) -> list[str]:
    """Return texts of one or two words of four to seven random letters."""
    dice = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return [
        " ".join("".join(dice.choice(letters, int(dice.integers(4, 8)))) for _ in range(int(dice.integers(1, 3))))
        for _ in range(count)
    ]


def random_pictures(count: int, seed: int = SEED) -> list[NDArray[np.uint8]]:
    """Return (96, 96, 3) pictures: noise in grains of 1 to 24 pixels, and one plain colour in four."""
    dice = np.random.default_rng(seed)
    out = []
    for number in range(count):
        side = (96, 24, 4, 1)[number % 4]
        grains = dice.integers(0, 256, (side, side, 3)).astype(np.uint8)
        out.append(np.asarray(Image.fromarray(grains).resize((96, 96), Image.Resampling.BICUBIC)))
    return out


def random_sounds(count: int, seed: int = SEED) -> list[NDArray[np.float32]]:
    """Return waveforms of two seconds at 16 kHz: steady noise of a random slope, or random tones, in turn."""
    dice = np.random.default_rng(seed)
    time = np.arange(2 * _RATE) / _RATE
    out = []
    for number in range(count):
        if number % 2:
            steps = np.repeat(dice.uniform(60, 4000, 16), 2 * _RATE // 16)
            wave = np.sin(2 * np.pi * steps * time)
        else:
            spectrum = np.fft.rfft(dice.standard_normal(len(time)))
            spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** dice.uniform(0, 1)
            wave = np.fft.irfft(spectrum, len(time))
        out.append((0.5 * wave / np.abs(wave).max()).astype(np.float32))
    return out


def outside_vectors(space: EmbeddingSpace, modality: str) -> NDArray[np.float32]:
    """Return (N, embed_dim) centred unit rows of things that nothing is known of."""
    if modality == "text":
        rows = space.encode_text(random_words(PROBES))
    elif modality == "image":
        rows = space.encode_image(random_pictures(PROBES))
    elif modality == "audio":
        rows = space.encode_audio(random_sounds(PROBES), sample_rate=_RATE)
    else:
        from embedspace.generate.speech.voices import SAMPLE_RATE, speak

        spoken = [speak(text, _VOICE)[0] for text in random_words(_SPOKEN)]
        rows = space.encode_speech(spoken, sample_rate=SAMPLE_RATE)
    return centre(rows, modality, space.calibration.means)


def told_apart(known: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    """Return the area under the ROC curve: how often a known thing lies above an outside one; ties count half."""
    above = (known[:, None] > outside[None]).mean() + 0.5 * (known[:, None] == outside[None]).mean()
    return float(above)


def left_out_share(
    memory: Vocabulary, held: Validation, texts: Mapping[str, NDArray[np.float32]], limit: float
) -> float:
    """Return the share of items that lie above a threshold although their concept was taken out of the memory."""
    known = [k for k, name in enumerate(held.concepts) if name in texts]
    if not known:
        return float("nan")
    own = memory.cosines(np.stack([texts[held.concepts[k]] for k in known]))
    cosines = np.where(own >= SAME, -1.0, memory.cosines(held.vectors[known]))
    return float((cosines.max(axis=1) >= limit).mean())


def has_captions(run: GeneratorRun, modality: str) -> bool:
    """Return whether enough validation items have captions with vectors: sigma is their cosine."""
    own = run.own(modality)
    rows = own.of_split("val")[1] if own is not None else []
    return sum(bool(row.get("captions")) and row["captions"][0] in run.vectors for row in rows) >= FEWEST


def measure(run: GeneratorRun, memory: Vocabulary, only: list[str]) -> dict[str, dict[str, Any]]:
    """Return modality -> its figures, of those that have validation vectors.

    Args:
        run: Space, manifests and vectors.
        memory: What the generators know.
        only: Modalities.
    """
    sigma, found = measured_sigma(run), {}
    for modality, held in validation_rows(run).items():
        if modality not in only or not (modality == "text" or has_captions(run, modality)):
            continue
        limit = threshold_of(memory, held.vectors)
        outside = memory.cosines(outside_vectors(run.space, modality)).max(axis=1)
        found[modality] = {
            "weights": run.space.fingerprints()[modality],
            "items": len(held.vectors),
            "concepts": len(set(held.concepts)),
            "sigma": sigma[modality],
            "threshold": limit,
            "refused": round(refused_share(memory, held), 4),
            "admitted": round(float((outside >= limit).mean()), 4),
            "auroc": round(told_apart(memory.cosines(held.vectors).max(axis=1), outside), 4),
            "outside_items": len(outside),
            "left_out": round(left_out_share(memory, held, run.vectors, limit), 4),
        }
    return found


def write(heads: Path, found: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Put sigma and thresholds into the heads' configurations; returns the files that changed.

    Args:
        heads: Folder of all heads.
        found: From `measure`; modalities that it lacks keep what they have.
    """
    changed = []
    for path in sorted(heads.glob("*/config.json")):
        config = json.loads(path.read_text("utf-8"))
        if "sigma" not in config:
            continue
        sigma = {**config["sigma"], **{modality: own["sigma"] for modality, own in found.items()}}
        sigma = {name: sigma[name] for name in ("text", "image", "audio", "speech") if name in sigma}
        most = _learnt(path.with_name("recipe.json"))
        sigma = {name: min(value, most) for name, value in sigma.items()}
        sigma["mixed"] = sigma.get("image", 1.0) / 2
        changed += _rewritten(path, {**config, "sigma": sigma}, 1)
    path = heads / "memory.json"
    about = json.loads(path.read_text("utf-8"))
    nearest = {**about["nearest"], **{modality: own["threshold"] for modality, own in found.items()}}
    nearest = {name: nearest[name] for name in ("text", "image", "audio", "speech") if name in nearest}
    nearest["mixed"] = min(nearest.values())
    return changed + _rewritten(path, {**about, "nearest": nearest}, None)


def _learnt(recipe: Path) -> float:
    """Return the most noise that a head's networks were trained with: they are told no more."""
    if not recipe.is_file():
        return float("inf")
    about = json.loads(recipe.read_text("utf-8"))
    own = about.get(about.get("kind", ""), {})
    families = [one["config"]["max_sigma"] for one in own.get("families", {}).values()]
    return float(min(families, default=own.get("flow", own).get("max_sigma", float("inf"))))


def _rewritten(path: Path, config: Mapping[str, Any], indent: int | None) -> list[Path]:
    text = json.dumps(config, indent=indent, ensure_ascii=False) + "\n"
    if path.read_text("utf-8") == text:
        return []
    path.write_text(text, "utf-8")
    return [path]


def markdown(entry: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# What the generators assume of their sources' vectors",
        "",
        "| source | validation items (concepts) | sigma | threshold | known, but refused, % | "
        "outside, but admitted, % | AUROC | concept left out, yet admitted, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in entry["modalities"].items():
        refused, admitted, left_out = (f"{100 * own[key]:.1f}" for key in ("refused", "admitted", "left_out"))
        shares = f"{refused} | {admitted} | {own['auroc']:.2f} | {left_out}"
        items = f"{own['items']} ({own['concepts']})"
        lines.append(f"| {name} | {items} | {own['sigma']:.3f} | {own['threshold']:.3f} | {shares} |")
    weights = ", ".join(f"{name} `{own['weights'][:8]}`" for name, own in entry["modalities"].items())
    lines += [
        "",
        f"The threshold lets {KNOWN:g}% of validation items fall below it. Refused: measured on concepts that did not "
        "set it. Outside: words of random letters, the same read aloud, noise and plain colours, noise and random "
        f"tones. Left out: captions with a cosine of {SAME} and more to the item's concept taken from the memory.",
        "",
        f"`python -m training.generators.thresholds`, {entry['date']}; {weights}; {entry['captions']} captions.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, write the report, and with --write the heads' configurations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["text", "image", "audio", "speech"], help="all by default")
    parser.add_argument("--write", action="store_true", help="put the figures into the heads' configurations")
    parser.add_argument(
        "--heads", type=Path, default=SHIPPED_GENERATORS, help="folder of the generators; those that ship by default"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the report")
    arguments = parser.parse_args()
    only = arguments.only or ["text", "image", "audio", "speech"]
    run = open_run(load_generator_recipe(RECIPE), Path("build/runs/generators/vocabulary"))
    memory = load_vocabulary(arguments.heads)
    found = measure(run, memory, only)
    path = arguments.out / f"{NAME}.json"
    earlier = json.loads(path.read_text("utf-8"))["modalities"] if path.is_file() else {}
    merged = {**earlier, **found}
    entry = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "captions": len(memory),
        "modalities": {name: merged[name] for name in ("text", "image", "audio", "speech") if name in merged},
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry, indent=1) + "\n", "utf-8")
    path.with_suffix(".md").write_text(markdown(entry), "utf-8")
    print(markdown(entry))
    missing = [name for name in only if name not in found]
    if missing:
        command = f"python -m training.align.vectors text {' '.join(missing)} --splits val"
        print(f"too few vectors for {', '.join(missing)}: {command}")
    if arguments.write:
        for changed in write(arguments.heads, found):
            print(f"{changed}: rewritten")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
