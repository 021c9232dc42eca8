"""Measure styles: is a picture drawn as the vendor draws that is asked for, and is it still what it was?

    python -m eval.styles                           # ten minutes of one core; eval/results/styles.*
    python -m eval.styles --trial 14 --modes redrawn --out build/styles       # where settings are tried

Google's emoji of the concepts that were held out of all training are drawn anew in the styles of seven other vendors,
who drew them, too: from the picture's vector alone, and as `--from picture.png --style S` redraws them, one sample or
the best of four. A classifier of vendors, fitted to real pictures of the training split on features of the judge's
eyes, says whose style it sees; the judge of `generation_images` says whether the concept is still among its ten
likeliest names. Beside them: the vendors' own pictures, and what the autoencoder keeps of them, which no sample can be
better than; the picture as it is; no style; and how often the next style of the list is seen instead. Trials are of
concepts of the training split.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.evaluate.generation.judges import Judge, known_among, load_judge
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.evaluate.items import read_rows, select_sets
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate import generate
from embedspace.generate.base import Request
from embedspace.generate.candidates.drawn import BATCH
from embedspace.generate.editing import edit_of_picture
from embedspace.generate.files import contact_sheet
from embedspace.generate.image import ImageGenerator
from embedspace.media.image import load_image
from embedspace.media.pixels import flatten
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
STYLES = (
    "openmoji",
    *(f"emoji-{name}" for name in ("fluent", "fluent-flat", "emojione", "emojione-1", "blob", "streamline")),
)
SOURCE = "emoji-google"
SIDE = 96
PER_STYLE = 400
"""Pictures of each vendor that the classifier learns from."""
MODES: dict[str, tuple[bool, int | None]] = {
    "from its vector": (False, None),
    "redrawn": (True, None),
    "redrawn, the best of 4": (True, 4),
}
"""Name -> whether the picture itself is drawn anew, and of how many candidates the best is taken."""
_SHEET = 10


def square(path: Path) -> NDArray[np.uint8]:
    """Return a picture as it is judged: cut to what is on it, (SIDE, SIDE, 3) on white."""
    return resize_padded(crop_to_content(load_image(path, min_side=SIDE)), SIDE)


def rows_of(corpora: Path, source: str, split: str | None) -> list[dict[str, Any]]:
    """Return the pictures of a source with their concepts, of a split or of all."""
    rows = [row for row in read_rows(corpora, source) if row["modality"] == "image" and row.get("concept")]
    return [row for row in rows if split is None or row.get("split", "train") == split]


class StyleClassifier:
    """Says which vendor drew a picture: logistic regression on standardised features."""

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> None:
        self._mean, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-4
        torch.manual_seed(0)
        self._map = torch.nn.Linear(features.shape[1], classes)
        optimizer = torch.optim.LBFGS(self._map.parameters(), max_iter=100, line_search_fn="strong_wolfe")
        rows, wanted = self._rows(features), torch.from_numpy(labels)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(self._map(rows), wanted)
            loss = loss + 1e-2 * self._map.weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    def _rows(self, features: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(((features - self._mean) / self._scale).clip(-8, 8))

    @torch.inference_mode()
    def of(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class (N,) of features (N, D)."""
        found: NDArray[np.int64] = self._map(self._rows(features)).argmax(dim=1).numpy()
        return found


def classifier_of(judge: Judge, corpora: Path, each: int = PER_STYLE) -> StyleClassifier:
    """Return the classifier, fitted to so many pictures of each vendor's training split."""
    features, labels = [], []
    for number, style in enumerate(STYLES):
        rows = rows_of(corpora, style, "train")
        chosen = [rows[k * len(rows) // each] for k in range(min(each, len(rows)))]
        features.append(judge.features([square(corpora / row["path"]) for row in chosen]))
        labels += [number] * len(chosen)
    return StyleClassifier(np.concatenate(features), np.array(labels, np.int64), len(STYLES))


def drawn(
    space: EmbeddingSpace,
    vector: NDArray[np.float32],
    picture: NDArray[np.uint8] | None,
    style: str | None,
    candidates: int | None = None,
) -> NDArray[np.uint8]:
    """Return a picture in a style, from a vector alone or as a picture is redrawn."""
    edit = None if picture is None else edit_of_picture(picture)
    request = Request(style=style, edit=edit, candidates=candidates)
    ((sample,),) = generate(space, vector, to="image", modality="image", request=request, force=True)
    return seen(np.asarray(sample.content))


def seen(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as real ones are judged."""
    return resize_padded(crop_to_content(Image.fromarray(picture)), SIDE)


def kept_of(generator: ImageGenerator, pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return what the autoencoder keeps of (SIDE, SIDE, 3) pictures, drawn larger as samples are."""
    found: list[NDArray[np.uint8]] = []
    for first in range(0, len(pictures), BATCH):
        pixels = torch.from_numpy(np.stack(pictures[first : first + BATCH])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            decoded = generator.autoencoder.decode(generator.autoencoder.encode(pixels.float() / 127.5 - 1))
        found += [seen(content) for content, _ in generator.to_media(decoded, Request(size=2 * SIDE))]
    return found


def figures(
    judge: Judge,
    classifier: StyleClassifier,
    pictures: Sequence[NDArray[np.uint8]],
    concepts: Sequence[str],
    styles: Sequence[int | None],
    gallery: Sequence[str],
) -> dict[str, Any]:
    """Return how often style and concept are seen, with 95% intervals over concepts."""
    features = judge.features(list(pictures))
    found = classifier.of(features)
    entry: dict[str, Any] = {"pictures": len(features)}
    if styles[0] is not None:
        wanted = np.array(styles)
        other = (wanted + 1) % len(STYLES)
        entry["style"] = clustered_mean((found == wanted).astype(np.float64), concepts)
        entry["another_style"] = clustered_mean((found == other).astype(np.float64), concepts)
    known = known_among(judge, features, concepts, list(gallery), 10)
    entry["recall_at_10"] = clustered_mean(known.astype(np.float64), concepts)
    return entry


def chosen_rows(corpora: Path, trial: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what is redrawn, and the vendors' own pictures of the same concepts with the numbers of their styles.

    Args:
        corpora: Their folder.
        trial: 0: the held-out concepts; else so many of the training split, of those that most of the vendors drew.
    """
    split = "train" if trial else "val"
    own = [{**row, "style": number} for number, style in enumerate(STYLES) for row in rows_of(corpora, style, split)]
    drawn_by = Counter(row["concept"] for row in own)
    sources = [row for row in rows_of(corpora, SOURCE, None) if row["concept"] in drawn_by]
    if trial:
        common = [row for row in sources if row.get("split") == split and drawn_by[row["concept"]] >= len(STYLES) - 1]
        sources = sorted(common, key=lambda row: hashlib.sha256(f"styles {row['concept']}".encode()).digest())[:trial]
        wanted = {row["concept"] for row in sources}
        own = [row for row in own if row["concept"] in wanted]
    return sources, own


def measured(
    space: EmbeddingSpace, judge: Judge, corpora: Path, gallery: list[str], modes: Sequence[str], trial: int
) -> tuple[list[dict[str, Any]], list[tuple[str, list[tuple[str, Any]]]]]:
    """Return rows of figures, and a sheet."""
    generator = space.generators["image"]
    assert isinstance(generator, ImageGenerator)
    classifier, (sources, own) = classifier_of(judge, corpora), chosen_rows(corpora, trial)
    concepts, names = ([str(row["captions"][0]) for row in part] for part in (sources, own))
    gallery = list(dict.fromkeys([*concepts, *names, *gallery]))[:500]
    rows: list[dict[str, Any]] = []

    def add(mode: str, shown: Sequence[NDArray[np.uint8]], of: Sequence[str], styles: Sequence[int | None]) -> None:
        rows.append({"mode": mode, **figures(judge, classifier, shown, of, styles, gallery)})
        print(rows[-1], flush=True)

    theirs, numbers = [square(corpora / row["path"]) for row in own], [row["style"] for row in own]
    add("the vendors' own pictures", theirs, names, numbers)
    add("the same, as the autoencoder keeps them", kept_of(generator, theirs), names, numbers)
    pictures = [flatten(load_image(corpora / row["path"], min_side=2 * SIDE)) for row in sources]
    shown = [seen(picture) for picture in pictures]
    add("the picture itself", shown, concepts, [None])
    vectors = space.encode_image(pictures)
    add("from its vector, no style", [drawn(space, vector, None, None) for vector in vectors], concepts, [None])
    every: dict[str, list[list[NDArray[np.uint8]]]] = {}
    for mode in modes:
        redrawn, candidates = MODES[mode]
        every[mode] = [
            [
                drawn(space, vector, picture if redrawn else None, style, candidates)
                for vector, picture in zip(vectors, pictures, strict=True)
            ]
            for style in STYLES
        ]
        asked = [number for number in range(len(STYLES)) for _ in sources]
        add(mode, [picture for part in every[mode] for picture in part], concepts * len(STYLES), asked)
        for number, style in enumerate(STYLES):
            add(f"{mode}: {style}", every[mode][number], concepts, [number] * len(sources))
    some = range(0, len(sources), max(1, len(sources) // _SHEET))
    sheet = [
        (
            f"{concepts[k]}: {mode}",
            [("Google's", shown[k]), *((s, part[k]) for s, part in zip(STYLES, own, strict=True))],
        )
        for k in some
        for mode, own in every.items()
    ]
    return rows, sheet


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield (
        f"{entry['concepts']} emoji of {SOURCE}, of concepts "
        f"{'of the training split' if entry['trial'] else 'that were held out of training'}, in {len(STYLES)} styles.\n"
    )
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, splits "
        f"{entry['corpora_splits'][:12]}, generator {entry['generator'][:12]}, judge {entry['judge'][:12]}; gallery of "
        "500 captions. 95% intervals over concepts.\n"
    )
    yield "| picture | style asked for, % | the next style, % | caption R@10, % |\n|---|---|---|---|"
    for row in entry["rows"]:
        style, other = (percent(row[name]) if name in row else "–" for name in ("style", "another_style"))
        yield f"| {row['mode']} | {style} | {other} | {percent(row['recall_at_10'])} |"
    yield f"\nChance is {100 / len(STYLES):.1f}% and 2%.\n\n![a sheet](styles.png)"


def percent(value: Sequence[float]) -> str:
    """Return a share with its interval as percent; a dash where it is none."""
    if not np.isfinite(value[0]):
        return "–"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * number for number in value))


def main() -> int:
    """Measure, and write eval/results/styles.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure pictures in other vendors' styles.")
    parser.add_argument("--weights", help="a space other than the shipped one")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--trial", type=int, default=0, help="so many concepts of the training split in their place")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    suite, corpora = load_media_suite(HERE / "suites" / "generation_images.toml"), corpora_folder()
    space = EmbeddingSpace.from_pretrained(*([arguments.weights] if arguments.weights else []))
    sets = select_sets("styles", {name: suite.sets[name] for name in suite.captions}, corpora)
    judge = load_judge(suite.judge)
    captions = [item.content for name in suite.captions for item in sets[name]]
    rows, sheet = measured(space, judge, corpora, captions, arguments.modes, arguments.trial)
    entry = {
        **made_by("styles"),
        "corpora_splits": splits_digest(corpora),
        "generator": space.generators["image"].digest,
        "judge": judge.digest,
        "concepts": rows[2]["pictures"],
        "trial": arguments.trial,
        "rows": rows,
    }
    publish(arguments.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
