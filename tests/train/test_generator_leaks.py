"""Generator heads learn nothing from test splits, and choose their noise and thresholds on validation items alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedspace.space import EmbeddingSpace
from embedspace.train.generators.run import train_generator
from tests.train.test_generator import IMAGE, TEXT, recipe, store, vector_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "pink", "grey")
AUDIO = """[audio]
licences = ["CC0-1.0"]
views = 2
seconds = 1.024
n_mels = 16
[audio.sources]
noises = 1.0
[audio.autoencoder]
channels = 8
latent_dim = 4
linear = true
[audio.flow]
width = 16
steps = 2
steps_vae = 2
batch_size = 4
"""
BODIES = {
    "memory": "",
    "text": TEXT,
    "image": IMAGE.replace("PERCEPTUAL", "0.0").replace("MIT", "CC0-1.0"),
    "audio": AUDIO,
}
LEAKS = ("test", "test_vendor", "fresh", "drop")
Row = dict[str, Any]


def row(source: str, kind: str, name: str, split: str) -> Row:
    suffix = "png" if kind == "image" else "wav"
    made = {"id": f"{source}/{name}", "modality": kind, "path": f"{source}/{name}.{suffix}", "source": source}
    made |= {"captions": [f"a {name} {source}"], "keywords": [name], "concept": name, "licence": "CC0-1.0"}
    return {**made, "split": split}


def rows_with(*splits: str) -> list[Row]:
    """Pictures, sounds and clips of speech; and for each split one more of each, and a recipe."""
    rows = []
    kinds = (("squares", "image"), ("shy", "image"), ("noises", "audio"), ("talk", "speech"))
    for source, kind in kinds:
        for number, colour in enumerate(COLOURS):
            rows.append(row(source, kind, colour, "val" if number in (5, 6) and kind != "audio" else "train"))
    title = {"id": "recipes/brown", "modality": "text", "source": "recipes", "captions": ["a brown soup"]}
    planted = [*(row(source, kind, "brown", "train") for source, kind in kinds), title]
    return rows + [{**leak, "id": f"{leak['id']} {split}", "split": split} for split in splits for leak in planted]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media and vectors of everything, what is planted included."""
    folder = tmp_path_factory.mktemp("heads")
    prints = EmbeddingSpace.from_pretrained().fingerprints()
    rows = rows_with("train", "val", *LEAKS)
    texts = sorted({text for r in rows for text in (*r["captions"], *r.get("keywords", ()))})
    store(folder / "features/vectors/text/texts.npz", texts, [vector_of(t) for t in texts], prints["text"])
    for source in sorted({r["source"] for r in rows}):
        own = [r for r in rows if r["source"] == source]
        kind = own[0]["modality"]
        (folder / "media" / source).mkdir(parents=True)
        for number, r in enumerate(own):
            if kind == "image":
                Image.new("RGB", (40, 30), (18 * number, 99, 255 - 15 * number)).save(folder / "media" / r["path"])
            elif kind == "audio":
                wave = np.sin(np.arange(16_000) * 0.02 * (number + 1)).astype(np.float32) * 0.5
                soundfile.write(folder / "media" / r["path"], wave, 16_000)
        if kind != "text":
            near = [vector_of(r["captions"][0]) + 0.02 + 0.1 * (number > 7) for number, r in enumerate(own)]
            path = folder / f"features/vectors/{kind}/{source}.npz"
            store(path, [r["id"] for r in own], near, prints[kind])
    return folder


def made(built: Path, folder: Path, kind: str, *splits: str) -> dict[str, bytes]:
    """Train a head on corpora where rows with some splits are planted: its files."""
    if not (folder / "corpora").exists():
        (folder / "features").symlink_to(built / "features")
        for r in rows_with(*splits):
            own = folder / "corpora" / r["source"]
            if not own.exists():
                own.mkdir(parents=True)
                for file in (built / "media" / r["source"]).glob("*"):
                    (own / file.name).symlink_to(file)
            with (own / "manifest.jsonl").open("a", encoding="utf-8") as file_of_rows:
                file_of_rows.write(json.dumps(r) + "\n")
    head = train_generator(recipe(folder, kind, BODIES[kind]), out=folder / kind)
    files = {path.name: path.read_bytes() for path in sorted(head.iterdir()) if path.name != "recipe.json"}
    if "config.json" in files:  # which says how long it took
        files["config.json"] = re.sub(rb'"minutes": [0-9.e-]+', b"", files["config.json"])
    return files


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of heads that no leak was planted for, and those of heads that learnt from what is planted."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("clean", "honest")}
    found = {kind: made(built, folders["clean"], kind) for kind in BODIES}
    return found | {f"honest {kind}": made(built, folders["honest"], kind, "train") for kind in BODIES}


@pytest.mark.parametrize("kind", BODIES)
def test_items_that_may_not_be_seen_change_no_head(
    kind: str, built: Path, clean: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    assert made(built, tmp_path, kind, *LEAKS) == clean[kind]


@pytest.mark.parametrize("kind", BODIES)
def test_items_of_the_training_split_do_change_a_head(kind: str, clean: dict[str, dict[str, bytes]]) -> None:
    assert clean[f"honest {kind}"] != clean[kind]


def test_validation_items_are_in_no_memory_and_in_no_gallery(
    built: Path, clean: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    memory = made(built, tmp_path, "memory", "val")
    assert memory["memory.safetensors"] == clean["memory"]["memory.safetensors"]
    for kind in ("text", "image"):
        head = made(built, tmp_path, kind, "val")
        weights = [name for name in head if name.endswith(".safetensors")]
        assert weights and all(head[name] == clean[kind][name] for name in weights)
