"""Measure edits: is what was asked for seen after them, and what stays?

    python -m eval.edits                            # a quarter of an hour of one core; eval/results/edits.*
    python -m eval.edits --trial --vendor emoji-emojione --concepts 30 --seeds 1 --out build/edits  # trials of settings

Each of the concepts that `generation_images` asks for is made out of an emoji of a vendor that neither generator nor
judge learnt from (the encoder of pictures did): the one whose name lies nearest to the concept's among those that are
not nearly the same, so that an edit has something to keep and something to do. Judge, names and captions are those of
`generation_images`. Beside the edits stand the emoji as it is and pictures made without it; and how often the judge
sees the concept that is asked for one place further on. Of several candidates the generator keeps the one whose own
vector fits best, which is not the judge's. Trials are of names that no group of `generation_images` asks for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedspace.calibration.centring import centre
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.evaluate.generation.judges import Judge, known_among, load_judge
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.evaluate.items import EvalItem, read_rows, rows_hash, select_sets
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate import generate
from embedspace.generate.base import Request
from embedspace.generate.editing import Edit, edit_of_picture
from embedspace.generate.files import contact_sheet
from embedspace.media.image import load_image
from embedspace.media.pixels import flatten
from embedspace.space import EmbeddingSpace
from eval.candidates import SPLITS, prompts_of
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
SEEDS = 3
SIDE = 96
MODES: dict[str, dict[str, Any]] = {
    "strength 0.6": {"strength": 0.6},
    "strength 0.8": {"strength": 0.8},
    "strength 0.8, the best of 4": {"strength": 0.8, "candidates": 4},
    "mask auto": {"mask": "auto"},
    "mask auto, strength 0.8": {"mask": "auto", "strength": 0.8},
    "mask the upper half": {"mask": "upper"},
    "mask auto, the best of 4": {"mask": "auto", "candidates": 4},
    "mask auto, strength 0.8, the best of 4": {"mask": "auto", "strength": 0.8, "candidates": 4},
}
"""Name -> how a picture is edited, and of how many candidates the best is taken."""
WITHOUT = {"made without it": 1, "made without it, the best of 4": 4}
"""Name -> candidates of what is made from the words alone."""
SAME = 0.6
"""Centred cosine of two names from which a picture may show what it is to become."""
_SHEET = 12
"""Concepts on the sheet."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A picture and what it is to become.

    Attributes:
        name: The caption of what is asked for.
        vector: (embed_dim,) its text vector.
        picture: (H, W, 3), on white.
        source: The picture's own caption.
        item: Its id.
    """

    name: str
    vector: NDArray[np.float32]
    picture: NDArray[np.uint8]
    source: str
    item: str


def pairs(space: EmbeddingSpace, concepts: Sequence[EvalItem], vendor: str, corpora: Path) -> list[Pair]:
    """Return for each concept the picture of a vendor whose name is nearest below `SAME`, each picture once."""
    rows = [row for row in read_rows(corpora, vendor) if row["modality"] == "image"]
    names = [str(item.row.get("concept") or item.key) for item in concepts]
    own = [str(row["concept"]) for row in rows]
    texts = space.encode_text(names)
    means = space.calibration.means
    near = centre(texts, "text", means) @ centre(space.encode_text(own), "text", means).T
    near[near >= SAME] = -1.0
    found: list[Pair] = []
    for number, name in enumerate(names):
        best = int(near[number].argmax())
        near[:, best] = -1.0
        picture = flatten(load_image(corpora / rows[best]["path"], min_side=SIDE))
        found.append(Pair(name, texts[number], picture, own[best], str(rows[best]["id"])))
    return found


def edit_of(pair: Pair, mode: dict[str, Any]) -> Edit:
    """Return the edit of a pair in a mode."""
    height, width = pair.picture.shape[:2]
    mask = f"0,0,{width},{height // 2}" if mode.get("mask") == "upper" else mode.get("mask")
    return edit_of_picture(pair.picture, strength=mode.get("strength"), mask=mask)


def made(space: EmbeddingSpace, pair: Pair, edit: Edit | None, candidates: int, seeds: int) -> list[NDArray[np.uint8]]:
    """Return a sample of each seed, the best of so many candidates."""
    request = Request(num_samples=seeds, edit=edit, candidates=candidates)
    (samples,) = generate(space, pair.vector, to="image", request=request, force=True)
    return [np.asarray(sample.content) for sample in samples]


def seen(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return pictures as the judge is shown real ones: cut to what is on them, small and square."""
    return [resize_padded(crop_to_content(Image.fromarray(picture)), SIDE) for picture in pictures]


def kept(pair: Pair, result: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the share of pixels that an edit left exactly as they were, and the signal-to-noise ratio of all in dB."""
    size = (result.shape[1], result.shape[0])
    before = np.asarray(Image.fromarray(pair.picture).resize(size, Image.Resampling.BICUBIC), np.float32)
    apart = np.abs(before - result)
    error = float(np.square(apart).mean())
    return float((apart.max(axis=2) == 0).mean()), 10 * float(np.log10(255**2 / max(error, 1e-6)))


def figures(
    judge: Judge, found: Sequence[Pair], contents: Sequence[Sequence[NDArray[np.uint8]]], gallery: Sequence[str]
) -> dict[str, Any]:
    """Return what the judge says of each pair's pictures, with 95% intervals over concepts."""
    names = [pair.name for pair in found]
    flat = [picture for own in contents for picture in seen(own)]
    owner = np.repeat(np.arange(len(contents)), [len(own) for own in contents])
    features = judge.features(flat)
    entry: dict[str, Any] = {}
    for label, shift in (("", 0), ("wrong_", 1)):
        wanted = [names[(number + shift) % len(names)] for number in owner.tolist()]
        for metric, among, depth in (("top_1", names, 1), ("recall_at_10", list(gallery), 10)):
            hit = known_among(judge, features, wanted, among, depth).astype(np.float64)
            entry[label + metric] = clustered_mean(np.bincount(owner, hit) / np.bincount(owner), names)
    return entry


def measured(
    space: EmbeddingSpace, judge: Judge, found: Sequence[Pair], gallery: Sequence[str], modes: Sequence[str], seeds: int
) -> tuple[list[dict[str, Any]], dict[str, list[list[NDArray[np.uint8]]]]]:
    """Return a row of figures for the picture as it is, one made without it and each mode; and the pictures."""
    contents: dict[str, list[list[NDArray[np.uint8]]]] = {"unchanged": [[pair.picture] for pair in found]}
    for name in modes:
        mode = MODES.get(name)
        candidates = WITHOUT[name] if mode is None else mode.get("candidates", 1)
        contents[name] = [
            made(space, pair, None if mode is None else edit_of(pair, mode), candidates, seeds) for pair in found
        ]
        print(f"made: {name}", flush=True)
    rows = []
    for name, own in contents.items():
        row = {"mode": name, **figures(judge, found, own, gallery)}
        if name in MODES or name == "unchanged":
            both = np.array(
                [kept(pair, result) for pair, results in zip(found, own, strict=True) for result in results]
            )
            row |= {"kept_exactly": round(float(both[:, 0].mean()), 4), "psnr": round(float(both[:, 1].mean()), 2)}
        rows.append(row)
    return rows, contents


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield f"{entry['description']}\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seeds 0 to {entry['seeds'] - 1}, "
        f"split hash {entry['split_hash'][:12]}, generator {entry['generator'][:12]}, judge {entry['judge'][:12]}; "
        f"{entry['concepts']} concepts, gallery of {entry['gallery']} captions. 95% intervals over concepts.\n"
    )
    yield "| edit | judge top-1, % | caption R@10, % | of a wrong concept, % | pixels kept exactly, % | PSNR, dB |"
    yield "|---|---|---|---|---|---|"
    for row in entry["rows"]:
        top, recall, wrong = (_percent(row[name]) for name in ("top_1", "recall_at_10", "wrong_recall_at_10"))
        stays = f"{100 * row['kept_exactly']:.0f} | {row['psnr']:.1f}" if "psnr" in row else "– | –"
        yield f"| {row['mode']} | {top} | {recall} | {wrong} | {stays} |"
    yield (
        f"\nChance is {100 / entry['concepts']:.0f}% and {1000 / entry['gallery']:.0f}%. What a mask keeps is the "
        "picture's own, pixel for pixel; the ratio of signal to noise is of the whole, changed part included.\n\n"
        "![a sheet](edits.png)"
    )


def _percent(value: Sequence[float]) -> str:
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * number for number in value))


def main() -> int:
    """Measure, and write eval/results/edits.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure edits of pictures.")
    parser.add_argument("--vendor", default="emoji-firefox", help="corpus of the pictures that are edited")
    parser.add_argument("--concepts", type=int, default=40, help="so many of the 100, evenly drawn")
    parser.add_argument("--modes", nargs="+", choices=[*WITHOUT, *MODES], default=[*WITHOUT, *MODES])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--trial", action="store_true", help="towards names that no group of the suite asks for")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    suite, corpora = load_media_suite(HERE / "suites" / "generation_images.toml"), corpora_folder()
    space = EmbeddingSpace.from_pretrained()
    sets = select_sets("edits", suite.sets, corpora)
    every = np.linspace(0, len(sets["concepts"]) - 1, arguments.concepts).round().astype(int)
    concepts = [sets["concepts"][number] for number in every.tolist()]
    if arguments.trial:
        unasked = prompts_of(suite, corpora, SPLITS["known"], 100 + arguments.concepts)[100:]
        concepts = [EvalItem(name, name, name, {"concept": name}) for name in unasked]
    found = pairs(space, concepts, arguments.vendor, corpora)
    names = [pair.name for pair in found]
    others = [item.content for name in suite.captions for item in sets[name]]
    gallery = list(dict.fromkeys([*names, *others]))[: suite.gallery]
    judge = load_judge(suite.judge)
    rows, contents = measured(space, judge, found, gallery, arguments.modes, arguments.seeds)
    entry = {
        **made_by("edits"),
        "description": f"{len(found)} emoji of {arguments.vendor}, which neither generator nor judge learnt from, each "
        f"edited towards the concept with the nearest name below a cosine of {SAME}. Judge and captions are those of "
        "generation_images.",
        "split_hash": rows_hash({"concepts": concepts}),
        "corpora_splits": splits_digest(corpora),
        "generator": space.generators["image"].digest,
        "judge": judge.digest,
        "concepts": len(found),
        "seeds": arguments.seeds,
        "gallery": len(gallery),
        "rows": rows,
        "pairs": [{"picture": pair.item, "source": pair.source, "wanted": pair.name} for pair in found],
    }
    step = max(1, len(found) // _SHEET)
    shown = range(0, len(found), step)
    sheet = [
        (f"{found[k].source} -> {found[k].name}", [(name, own[k][0]) for name, own in contents.items()]) for k in shown
    ]
    publish(arguments.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
