"""Measure how candidates are chosen, on names that no group of the suite asks for, and on the held-out stamps.

    python -m eval.candidates known held            # eval/results/candidates_known.*, candidates_held.*
    python -m eval.candidates noise                 # the known names, from noise in place of a neighbour
    python -m eval.candidates stamps                # all 281: what was chosen, once
    python -m eval.candidates stamps --seeds 3 --second training.judges.pixels:load     # another judge beside the first

Known: emoji of Google's training split. Held: those of its validation split, of concepts that nothing was trained on.
Each is drawn from its name in several ways, with one seed or more; the judge of `generation_images` says whether it
sees the name, and a second judge whether it does in the same pictures. What is drawn is kept under build/candidates, so
that a run goes on where it ended. Beside them stand the nearest training item by its name, and the one of the eight
nearest that shows best what is wanted; differences to the first are paired, name by name. Seconds are processor time of
one sample on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.evaluate.generation.judges import Judge, known_among, load_judge
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.media.suite import MediaSuite, load_media_suite
from embedspace.evaluate.items import read_rows, select_sets
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.files import replacing
from embedspace.generate.base import Request, Sample
from embedspace.generate.candidates.looks import FILE, best_looking
from embedspace.generate.image import ImageGenerator
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
SOURCE = "emoji-google"
SPLITS = {"known": "train", "held": "val", "noise": "train"}
PARTS = (*SPLITS, "stamps")
PROMPTS = 40
KEPT = Path("build/candidates")
_POOL = 8
_PART = 16

WAYS: dict[str, tuple[int, dict[str, Any], bool]] = {
    "one, as it ships": (1, {}, False),
    "one, begun at the neighbour that shows it best": (1, {"looks": True}, True),
    "4, each in all steps from neighbours by name": (4, {"candidate_steps": 12, "nearer": 0.0}, False),
    "4": (4, {}, True),
    "8": (8, {}, True),
    "16": (16, {}, True),
}
"""What is shown -> candidates, what differs in the generator's options, whether it knows what its items look like."""
FROM_NOISE: dict[str, tuple[int, dict[str, Any], bool]] = {
    f"{count}, from noise": (count, {}, False) for count in (1, 4, 8, 16)
}
HOW = (
    "Several candidates are of five steps, half of them begun nearer, at neighbours that show best what is wanted, "
    "unless it says otherwise."
)
HOW_FROM_NOISE = "All are drawn as --start 0 does; the best is the one whose own vector fits best."
TRIED = {
    "noise": tuple(FROM_NOISE),
    "stamps": ("8",),
}
"""Part -> the ways that are tried on it, where not all of `WAYS` are."""


def prompts_of(suite: MediaSuite, corpora: Path, split: str, count: int) -> list[str]:
    """Return captions of concepts that no group of the suite asks for, one each, in always the same order."""
    sets = select_sets(suite.name, suite.sets, corpora)
    asked = {item.row.get("concept") for group in suite.groups for item in sets[group.items]}
    first: dict[str, str] = {}
    for row in read_rows(corpora, SOURCE):
        if row.get("split", "train") == split and row.get("captions") and row["concept"] not in asked:
            first.setdefault(row["concept"], row["captions"][0])
    order = sorted(first, key=lambda concept: hashlib.sha256(f"candidates {concept}".encode()).digest())
    return list(dict.fromkeys(first[concept] for concept in order))[:count]


def drawn(
    generator: ImageGenerator, vectors: NDArray[np.float32], way: str, seed: int = 0
) -> tuple[list[Sample], float]:
    """Return a sample of each vector, drawn in one of the ways, and the seconds that one took."""
    candidates, options, by_looks = (WAYS | FROM_NOISE)[way]
    usual, looks = generator.sampling, generator.neighbours.looks
    generator.sampling = dataclasses.replace(usual, **options)
    generator.neighbours.looks = looks if by_looks else None
    started = time.process_time()
    try:
        none = np.zeros(1, np.float32)
        request = Request(seed=seed, candidates=candidates, start=0.0 if way in FROM_NOISE else None)
        made = [generator.generate(row[None], none, request)[0][0] for row in vectors]
    finally:
        generator.sampling, generator.neighbours.looks = usual, looks
    return made, (time.process_time() - started) / len(vectors)


def kept(generator: ImageGenerator, state: str, vectors: NDArray[np.float32], way: str, seed: int) -> dict[str, Any]:
    """Return what is drawn of vectors in one of the ways; kept on disk, some vectors at a time.

    Args:
        generator: Draws them.
        state: What else they follow from: looks, and what chooses among candidates.
        vectors: (N, embed_dim) centred.
        way: One of `WAYS` or `FROM_NOISE`.
        seed: Of each.

    Returns:
        pictures (N, H, W, 3), likeness (N,), copies (N,), and seconds of one.
    """
    parts = []
    for start in range(0, len(vectors), _PART):
        rows = vectors[start : start + _PART]
        told = f"{generator.digest} {state} {(WAYS | FROM_NOISE)[way]} {way in FROM_NOISE} {generator.sampling} {seed} "
        path = KEPT / f"{hashlib.sha256(told.encode() + rows.tobytes()).hexdigest()[:24]}.npz"
        if not path.is_file():
            made, seconds = drawn(generator, rows, way, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                np.savez(
                    file,
                    pictures=np.stack([np.asarray(sample.content) for sample in made]),
                    likeness=[sample.provenance["nearest_output"]["similarity"] for sample in made],
                    copies=[bool(sample.provenance.get("near_copy")) for sample in made],
                    seconds=[seconds] * len(made),
                )
        with np.load(path) as stored:
            parts.append({name: stored[name] for name in ("pictures", "likeness", "copies", "seconds")})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def beside(generator: ImageGenerator, vectors: NDArray[np.float32]) -> dict[str, list[NDArray[np.uint8]]]:
    """Return the nearest training item of each vector by its name, and of the nearest the one that shows it best."""
    near, looks = generator.neighbours, generator.neighbours.looks
    assert looks is not None
    rows = torch.from_numpy(vectors)
    found, _ = near.nearest(rows.clone(), _POOL)
    best = torch.stack([best_looking(looks, row, own)[0][0] for row, own in zip(rows, found, strict=True)])
    with torch.inference_mode():
        return {
            name: [content for content, _ in generator.to_media(generator.autoencoder.decode(part), Request())]
            for name, part in (
                ("the nearest training item", near.latents[found[:, 0]]),
                ("of the 8 nearest, the one that shows it best", near.latents[best]),
            )
        }


def measured(
    space: EmbeddingSpace,
    generator: ImageGenerator,
    judges: Sequence[Judge],
    names: list[str],
    gallery: Sequence[str],
    ways: Sequence[str],
    seeds: int,
) -> list[dict[str, Any]]:
    """Return a row for each way; figures of the first judge, and of a second one under `second`."""
    vectors = centre(space.encode_text(names), "text", space.calibration.means)
    state = f"{_looks_digest(space)} {space.fingerprints()['image']}"
    rows: list[dict[str, Any]] = []
    nearest: dict[tuple[int, str], NDArray[np.float64]] = {}

    def add(way: str, pictures: Sequence[Any], more: dict[str, Any]) -> None:
        """Add a row of pictures of all names, once or for each seed."""
        row: dict[str, Any] = {"way": way, **more}
        wanted = names * (len(pictures) // len(names))
        for number, judge in enumerate(judges):
            features = judge.features(pictures)
            figures = row.setdefault("second", {}) if number else row
            for figure, among, depth in (("top_1", names, 1), ("recall_at_10", gallery, 10)):
                hits = known_among(judge, features, wanted, among, depth).astype(np.float64)
                first = np.tile(nearest.setdefault((number, figure), hits), len(wanted) // len(names))
                figures[figure] = clustered_mean(hits, wanted)
                figures[f"{figure}_less_nearest"] = clustered_mean(hits - first, wanted)
        rows.append(row)
        print(row, flush=True)

    for way, pictures in beside(generator, vectors).items():
        add(way, pictures, {})
    for way in ways:
        made = [kept(generator, state, vectors, way, seed) for seed in range(seeds)]
        joined = {name: np.concatenate([part[name] for part in made]) for name in made[0]}
        more = {
            "likeness": float(joined["likeness"].mean()),
            "near_copies": float(joined["copies"].mean()),
            "seconds": float(joined["seconds"].mean()),
        }
        add(way, list(joined["pictures"]), more)
        if way == ways[-1]:
            shifted = [np.roll(part["pictures"], -1, axis=0) for part in made]
            add(f"{way}, against another name", list(np.concatenate(shifted)), {})
    return rows


def _looks_digest(space: EmbeddingSpace) -> str:
    return hashlib.sha256((space.generators.folder / "image" / FILE).read_bytes()).hexdigest()


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    seeds = "seed 0" if entry["seeds"] == 1 else f"seeds 0 to {entry['seeds'] - 1}"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, {seeds}, splits "
        f"{entry['corpora_splits'][:12]}, generator {entry['generator'][:12]}, looks {entry['looks'][:12]}, judge "
        f"{entry['judge'][:12]}; {entry['names']} names, gallery of {entry['gallery']} captions. 95% intervals over "
        f"names. {entry['how']}\n"
    )
    yield "| drawn | top-1, % | R@10, % | less the nearest, points | likeness | near-copies, % | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for row in entry["rows"]:
        told = _told(row)
        if "seconds" in row:
            told += [f"{row['likeness']:.2f}", f"{100 * row['near_copies']:.1f}", f"{row['seconds']:.2f}"]
        yield f"| {row['way']} | {' | '.join([*told, '', '', ''][:6])} |"
    if "second" in entry:
        yield f"\nThe same pictures by a second judge ({entry['second']}, {entry['second_digest'][:12]}):\n"
        yield "| drawn | top-1, % | R@10, % | less the nearest, points |"
        yield "|---|---|---|---|"
        for row in entry["rows"]:
            yield f"| {row['way']} | {' | '.join(_told(row['second']))} |"


def _told(row: dict[str, Any]) -> list[str]:
    less = " / ".join(_percent(row[f"{figure}_less_nearest"]) for figure in ("top_1", "recall_at_10"))
    return [_percent(row["top_1"]), _percent(row["recall_at_10"]), less]


def _percent(value: Sequence[float]) -> str:
    return "{:.1f} [{:.0f}, {:.0f}]".format(*(100 * number for number in value))


def main() -> int:
    """Measure, and write eval/results/candidates_PART.json and .md."""
    parser = argparse.ArgumentParser(description="Measure how candidates are chosen.")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="names of each part but stamps")
    parser.add_argument("--seeds", type=int, default=1, help="pictures of each name")
    parser.add_argument("--second", default="", help="another judge, MODULE:FUNCTION")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    suite, corpora = load_media_suite(HERE / "suites" / "generation_images.toml"), corpora_folder()
    space = EmbeddingSpace.from_pretrained()
    judges = [load_judge(name) for name in (suite.judge, given.second) if name]
    generator = space.generators["image"]
    assert isinstance(generator, ImageGenerator)
    sets = select_sets(suite.name, {name: suite.sets[name] for name in ("stamps", *suite.captions)}, corpora)
    captions = [item.content for name in suite.captions for item in sets[name]]
    for part in given.parts:
        stamps = list(dict.fromkeys(item.content for item in sets["stamps"]))
        names = prompts_of(suite, corpora, SPLITS[part], given.prompts) if part in SPLITS else stamps
        gallery = list(dict.fromkeys([*names, *captions]))[: suite.gallery]
        ways = TRIED.get(part, tuple(WAYS))
        entry = {
            **made_by("candidates"),
            "name": f"candidates_{part}",
            "corpora_splits": splits_digest(corpora),
            "generator": generator.digest,
            "looks": _looks_digest(space),
            "judge": judges[0].digest,
            **({"second": given.second, "second_digest": judges[1].digest} if given.second else {}),
            "seeds": given.seeds,
            "names": len(names),
            "gallery": len(gallery),
            "how": HOW_FROM_NOISE if part == "noise" else HOW,
            "rows": measured(space, generator, judges, names, gallery, ways, given.seeds),
        }
        publish(given.out, entry, lines(entry))
    return 0


if __name__ == "__main__":
    run(main)
