"""Measure maps: is something drawn where the map says so, and is it what was asked for?

    python -m eval.maps                             # a minute or two of one core; eval/results/maps.*

Google's emoji of the concepts that were held out of all training are turned into maps: silhouettes, outlines, edges.
A picture of the concept's name is drawn with each, and its silhouette compared with that of the emoji, as intersection
over union. Beside them stand the same without a map, and the silhouette compared with that of the next emoji, which
says how much two of them overlap anyway. The judge of `generation_images` says whether the concept is still there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.evaluate.generation.judges import known_among, load_judge
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.evaluate.items import select_sets
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate import generate
from embedspace.generate.base import Request
from embedspace.generate.drawing import Drawing
from embedspace.generate.files import contact_sheet
from embedspace.generate.latents.maps import MAP_KINDS, map_of
from embedspace.space import EmbeddingSpace
from eval.styles import SOURCE, rows_of, square
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
_SHEET = 14


def silhouettes(pictures: Sequence[NDArray[np.uint8]], kind: str = "silhouette") -> NDArray[np.bool_]:
    """Return maps (N, side, side) of pictures."""
    found: NDArray[np.bool_] = map_of(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), kind).numpy()
    return found


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the intersection over union (N,) of maps (N, side, side)."""
    found: NDArray[np.float64] = (a & b).sum(axis=(1, 2)) / np.maximum((a | b).sum(axis=(1, 2)), 1)
    return found


def drawn(space: EmbeddingSpace, vector: NDArray[np.float32], told: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Return a picture, with a map or without."""
    request = Request(drawing=None if told is None else Drawing(told))
    ((sample,),) = generate(space, vector, to="image", request=request, force=True)
    return np.asarray(sample.content)


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield f"{entry['concepts']} emoji of {SOURCE}, of concepts that were held out of training, as maps.\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, splits "
        f"{entry['corpora_splits'][:12]}, generator {entry['generator'][:12]}, judge {entry['judge'][:12]}; gallery of "
        "500 captions. 95% intervals over concepts.\n"
    )
    yield "| map | overlap with its silhouette, % | with the next emoji's, % | caption R@10, % |\n|---|---|---|---|"
    for row in entry["rows"]:
        cells = (f"{100 * row[n][0]:.1f} [{100 * row[n][1]:.1f}, {100 * row[n][2]:.1f}]" for n in entry["columns"])
        yield f"| {row['map']} | {' | '.join(cells)} |"
    yield "\nChance of R@10 is 2%.\n\n![a sheet](maps.png)"


def main() -> int:
    """Measure, and write eval/results/maps.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure pictures that are drawn over maps.")
    parser.add_argument("--weights", help="a space other than the shipped one")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    suite, corpora = load_media_suite(HERE / "suites" / "generation_images.toml"), corpora_folder()
    space = EmbeddingSpace.from_pretrained(*([arguments.weights] if arguments.weights else []))
    judge = load_judge(suite.judge)
    sets = select_sets("maps", {name: suite.sets[name] for name in suite.captions}, corpora)
    rows = rows_of(corpora, SOURCE, "val")
    concepts = [str(row["captions"][0]) for row in rows]
    others = [item.content for name in suite.captions for item in sets[name]]
    gallery = list(dict.fromkeys([*concepts, *others]))[:500]
    real = [square(corpora / row["path"]) for row in rows]
    wanted, vectors = silhouettes(real), space.encode_text(concepts)
    pictures = {"none": [drawn(space, vector, None) for vector in vectors]}
    for kind in MAP_KINDS:
        told = silhouettes(real, kind)
        pictures[kind] = [drawn(space, vector, one) for vector, one in zip(vectors, told, strict=True)]
    found = []
    for name, own in {"the emoji itself": real, **pictures}.items():
        seen = silhouettes(own)
        known = known_among(judge, judge.features(own), concepts, gallery, 10)
        found.append(
            {
                "map": name,
                "overlap": clustered_mean(overlap(seen, wanted), concepts),
                "another": clustered_mean(overlap(seen, np.roll(wanted, 1, axis=0)), concepts),
                "recall_at_10": clustered_mean(known.astype(np.float64), concepts),
            }
        )
    entry = {
        **made_by("maps"),
        "corpora_splits": splits_digest(corpora),
        "generator": space.generators["image"].digest,
        "judge": judge.digest,
        "concepts": len(rows),
        "columns": ["overlap", "another", "recall_at_10"],
        "rows": found,
    }
    outlines = silhouettes(real, "outline")
    sheet = []
    for k in range(0, len(rows), max(1, len(rows) // _SHEET)):
        line = np.where(outlines[k], 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
        cells = [("the emoji", real[k]), ("its outline", line), *((name, own[k]) for name, own in pictures.items())]
        sheet.append((concepts[k], cells))
    publish(arguments.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
