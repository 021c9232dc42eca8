"""Measure styles: is a picture drawn as the vendor draws that is asked for, and is it still what it was?

    python -m eval.styles                           # minutes of one core; eval/results/styles.*

Google's emoji of the concepts that were held out of all training are drawn anew in the styles of seven other vendors,
who drew them, too: from the picture's vector alone, and begun at the picture. A classifier of vendors, fitted
to real pictures of the training split on features of the judge's eyes, says whose style it sees; the judge of
`generation_images` says whether the concept is still among its ten likeliest names. Beside them: the vendors' own
pictures, the picture as it is, no style, and how often the next style of the list is seen instead.
"""

from __future__ import annotations

import argparse
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
from embedspace.generate.editing import edit_of_picture
from embedspace.generate.files import contact_sheet
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
STRENGTH = 0.7
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


def fitted(judge: Judge, corpora: Path) -> tuple[StyleClassifier, list[dict[str, Any]], NDArray[np.float32]]:
    """Return the classifier, and the vendors' held-out pictures with their features."""
    known = classifier_of(judge, corpora)
    held = [{**row, "style": number} for number, style in enumerate(STYLES) for row in rows_of(corpora, style, "val")]
    return known, held, judge.features([square(corpora / row["path"]) for row in held])


def drawn(
    space: EmbeddingSpace, vector: NDArray[np.float32], picture: NDArray[np.uint8] | None, style: str | None
) -> NDArray[np.uint8]:
    """Return a picture in a style, from a vector alone or begun at a picture."""
    edit = None if picture is None else edit_of_picture(picture, strength=STRENGTH)
    ((sample,),) = generate(
        space, vector, to="image", modality="image", request=Request(style=style, edit=edit), force=True
    )
    return resize_padded(crop_to_content(Image.fromarray(np.asarray(sample.content))), SIDE)


def figures(
    judge: Judge,
    classifier: StyleClassifier,
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.float32],
    concepts: Sequence[str],
    styles: Sequence[int | None],
    gallery: Sequence[str],
) -> dict[str, Any]:
    """Return how often style and concept are seen, with 95% intervals over concepts."""
    features = pictures if isinstance(pictures, np.ndarray) else judge.features(list(pictures))
    seen = classifier.of(features)
    entry: dict[str, Any] = {"pictures": len(features)}
    if styles[0] is not None:
        wanted = np.array(styles)
        other = (wanted + 1) % len(STYLES)
        entry["style"] = clustered_mean((seen == wanted).astype(np.float64), concepts)
        entry["another_style"] = clustered_mean((seen == other).astype(np.float64), concepts)
    known = known_among(judge, features, concepts, list(gallery), 10)
    entry["recall_at_10"] = clustered_mean(known.astype(np.float64), concepts)
    return entry


def measured(
    space: EmbeddingSpace, judge: Judge, corpora: Path, gallery: list[str]
) -> tuple[list[dict[str, Any]], list[tuple[str, list[tuple[str, Any]]]]]:
    """Return rows of figures, and a sheet."""
    classifier, held, features = fitted(judge, corpora)
    drawn_by_others = {row["concept"] for row in held}
    sources = [row for row in rows_of(corpora, SOURCE, None) if row["concept"] in drawn_by_others]
    concepts = [str(row["captions"][0]) for row in sources]
    gallery = list(dict.fromkeys([*concepts, *(row["captions"][0] for row in held), *gallery]))[:500]
    rows = [
        {
            "mode": "the vendors' own pictures",
            **figures(
                judge, classifier, features, [r["captions"][0] for r in held], [r["style"] for r in held], gallery
            ),
        }
    ]
    pictures = [flatten(load_image(corpora / row["path"], min_side=2 * SIDE)) for row in sources]
    shown = [resize_padded(crop_to_content(Image.fromarray(picture)), SIDE) for picture in pictures]
    rows.append({"mode": "the picture itself", **figures(judge, classifier, shown, concepts, [None], gallery)})
    vectors = space.encode_image(pictures)
    plain = [drawn(space, vector, None, None) for vector in vectors]
    rows.append({"mode": "from its vector, no style", **figures(judge, classifier, plain, concepts, [None], gallery)})
    every: dict[str, list[NDArray[np.uint8]]] = {}
    for mode, begun in (("from its vector", False), (f"begun at it, strength {STRENGTH}", True)):
        for style in STYLES:
            every[f"{mode} {style}"] = [
                drawn(space, vector, picture if begun else None, style)
                for vector, picture in zip(vectors, pictures, strict=True)
            ]
        flat = [picture for style in STYLES for picture in every[f"{mode} {style}"]]
        asked = [number for number in range(len(STYLES)) for _ in sources]
        rows.append({"mode": mode, **figures(judge, classifier, flat, concepts * len(STYLES), asked, gallery)})
        for number, style in enumerate(STYLES):
            one = figures(judge, classifier, every[f"{mode} {style}"], concepts, [number] * len(sources), gallery)
            rows.append({"mode": f"{mode}: {style}", **one})
        print(f"made: {mode}", flush=True)
    some = range(0, len(sources), max(1, len(sources) // _SHEET))
    sheet = [
        (
            f"{concepts[k]}: {mode}",
            [("Google's", shown[k]), *((style, every[f"{mode} {style}"][k]) for style in STYLES)],
        )
        for k in some
        for mode in ("from its vector", f"begun at it, strength {STRENGTH}")
    ]
    return rows, sheet


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield (
        f"{entry['concepts']} emoji of {SOURCE}, of concepts that were held out of training, in {len(STYLES)} styles.\n"
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
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    suite, corpora = load_media_suite(HERE / "suites" / "generation_images.toml"), corpora_folder()
    space = EmbeddingSpace.from_pretrained(*([arguments.weights] if arguments.weights else []))
    sets = select_sets("styles", {name: suite.sets[name] for name in suite.captions}, corpora)
    judge = load_judge(suite.judge)
    rows, sheet = measured(space, judge, corpora, [item.content for name in suite.captions for item in sets[name]])
    entry = {
        **made_by("styles"),
        "corpora_splits": splits_digest(corpora),
        "generator": space.generators["image"].digest,
        "judge": judge.digest,
        "concepts": rows[1]["pictures"],
        "rows": rows,
    }
    publish(arguments.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
