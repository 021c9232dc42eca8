"""Measure a style that was learnt without pairs: is a picture drawn as the other vendor draws, and still what it was?

    python -m eval.unpaired folders                 # build/unpaired: two vendors' emoji of the training split
    embedspace train generator training/recipes/generators/unpaired.toml --minutes 12 --out build/runs/unpaired
        --from build/unpaired/emoji-google --to build/unpaired/openmoji
    python -m eval.unpaired build/runs/unpaired/generator/unpaired      # eval/results/unpaired.*

Google's emoji of concepts that were held out of all training are drawn anew as OpenMoji draws, and judged as
`eval.styles` judges: by a classifier of seven vendors, fitted to real pictures of the training split, and by the judge
of `generation_images`. Beside it: both vendors' own pictures, what the autoencoder keeps of the source, and OpenMoji's
picture of another concept, which has the style and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import eval.styles as styles
from embedspace.encoders.base import load_module
from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.evaluate.generation.judges import Judge, load_judge
from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.evaluate.items import select_sets
from embedspace.evaluate.report import splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.files import read_config
from embedspace.generate.base import Request
from embedspace.generate.editing import edit_of_picture
from embedspace.generate.files import contact_sheet
from embedspace.generate.image import ImageGenerator
from embedspace.generate.translation.translator import FORMAT, Translator, TranslatorConfig
from embedspace.media.image import load_image
from embedspace.media.pixels import flatten
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
FOLDERS = Path("build/unpaired")
TARGET = "openmoji"
PER_STYLE = 150
"""Pictures of each vendor that the classifier learns from."""
_SHEET = 20
_NAME = "unpaired"


def make_folders(corpora: Path) -> None:
    """Link the training split of both vendors into folders of their own."""
    for source in (styles.SOURCE, TARGET):
        (FOLDERS / source).mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(styles.rows_of(corpora, source, "train")):
            path = (corpora / row["path"]).resolve()
            link = FOLDERS / source / f"{number:05}{path.suffix}"
            if not link.exists():
                os.symlink(path, link)
        print(f"{FOLDERS / source}: {number + 1} pictures")


def translator_at(stem: Path) -> Translator:
    """Return the translator of a run's two files."""
    about = read_config(stem.with_suffix(".json"), FORMAT, "settings of a style")
    return load_module(partial(Translator, TranslatorConfig(**about["network"])), stem.with_suffix(".safetensors"))


def shown(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture as it is judged."""
    return resize_padded(crop_to_content(Image.fromarray(picture)), styles.SIDE)


def redrawn(
    generator: ImageGenerator, pictures: Sequence[NDArray[np.uint8]], strength: float
) -> list[NDArray[np.uint8]]:
    """Return pictures as the translator draws them; at a strength of 0 what the autoencoder keeps of them."""
    made = []
    for picture in pictures:
        edit = edit_of_picture(picture, strength=strength)
        none = np.zeros((1, generator.neighbours.keys.shape[1]), np.float32)
        ((sample,),) = generator.generate(none, np.zeros(1, np.float32), Request(style=_NAME, edit=edit))
        made.append(shown(np.asarray(sample.content)))
    return made


def measured(
    generator: ImageGenerator, corpora: Path, gallery: list[str], judge: Judge
) -> tuple[list[dict[str, Any]], list[tuple[str, list[tuple[str, Any]]]]]:
    """Return rows of figures, and a sheet."""
    number = styles.STYLES.index(TARGET)
    of_concept = {row["concept"]: row for row in styles.rows_of(corpora, TARGET, "val")}
    sources = [row for row in styles.rows_of(corpora, styles.SOURCE, "val") if row["concept"] in of_concept]
    concepts = [str(row["captions"][0]) for row in sources]
    gallery = list(dict.fromkeys([*concepts, *gallery]))[:500]
    classifier = styles.classifier_of(judge, corpora, PER_STYLE)
    own = [styles.square(corpora / of_concept[row["concept"]]["path"]) for row in sources]
    pictures = [flatten(load_image(corpora / row["path"], min_side=2 * styles.SIDE)) for row in sources]
    modes = {
        "OpenMoji's own pictures": own,
        "OpenMoji's picture of another concept": [*own[1:], own[0]],
        "the picture itself": [shown(picture) for picture in pictures],
        "… as the autoencoder keeps it": redrawn(generator, pictures, 0.0),
        "translated half of the way": redrawn(generator, pictures, 0.5),
        "translated": redrawn(generator, pictures, 1.0),
    }
    rows = [
        {"mode": mode, **styles.figures(judge, classifier, made, concepts, [number] * len(made), gallery)}
        for mode, made in modes.items()
    ]
    some = range(0, len(sources), max(1, len(sources) // _SHEET))
    cells = ("the picture itself", "translated half of the way", "translated", "OpenMoji's own pictures")
    return rows, [(concepts[k], [(mode, modes[mode][k]) for mode in cells]) for k in some]


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield (
        f"{entry['concepts']} emoji of {styles.SOURCE}, of concepts that were held out of training, redrawn as "
        f"{TARGET} by a translator of {entry['parameters']:,} parameters that learnt without pairs.\n"
    )
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, splits "
        f"{entry['corpora_splits'][:12]}, generator {entry['generator'][:12]}, translator {entry['translator'][:12]}, "
        f"judge {entry['judge'][:12]}; gallery of 500 captions; the classifier learnt from {PER_STYLE} pictures of "
        "each vendor. 95% intervals over concepts.\n"
    )
    yield f"| picture | seen as {TARGET}, % | as the next vendor, % | caption R@10, % |\n|---|---|---|---|"
    for row in entry["rows"]:
        figures = (styles.percent(row[name]) for name in ("style", "another_style", "recall_at_10"))
        yield f"| {row['mode']} | {' | '.join(figures)} |"
    yield f"\nChance is {100 / len(styles.STYLES):.1f}% and 2%.\n\n![a sheet](unpaired.png)"


def main() -> int:
    """Measure, and write eval/results/unpaired.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure a style that was learnt without pairs.")
    parser.add_argument("style", help="the files of a translator without their suffix; or: folders")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    corpora = corpora_folder()
    if given.style == "folders":
        make_folders(corpora)
        return 0
    suite = load_media_suite(HERE / "suites" / "generation_images.toml")
    generator = EmbeddingSpace.from_pretrained().generators["image"]
    assert isinstance(generator, ImageGenerator)
    network = translator_at(Path(given.style))
    generator.translators = {_NAME: network}
    sets = select_sets(_NAME, {name: suite.sets[name] for name in suite.captions}, corpora)
    judge = load_judge(suite.judge)
    rows, sheet = measured(generator, corpora, [i.content for name in suite.captions for i in sets[name]], judge)
    entry = {
        **made_by(_NAME),
        "corpora_splits": splits_digest(corpora),
        "generator": generator.digest,
        "translator": hashlib.sha256(Path(given.style).with_suffix(".safetensors").read_bytes()).hexdigest(),
        "parameters": sum(one.numel() for one in network.parameters()),
        "judge": judge.digest,
        "concepts": rows[0]["pictures"],
        "rows": rows,
    }
    publish(given.out, entry, lines(entry), contact_sheet(sheet))
    return 0


if __name__ == "__main__":
    run(main)
