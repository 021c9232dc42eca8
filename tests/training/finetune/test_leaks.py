"""Neither tuned network sees a picture of a test split, a stamp that it may not, or a near copy of one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.align import features
from training.finetune import image as finetune_image
from training.finetune import network as finetune_network
from training.finetune.network import STORED

pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = Path(__file__).parents[3] / "embedspace/weights/default"
COLOURS = ("red", "green", "blue", "black", "white", "pink")
Row = dict[str, Any]


def row(source: str, name: str, **changes: Any) -> Row:
    """A picture that training sees if nothing in it says that it may not."""
    kept = {"id": f"{source}/{name}", "modality": "image", "source": source, "captions": [f"a {name} square"]}
    return {**kept, "path": f"{source}/{name}.png", "split": "train", **changes}


HONEST = [
    *(row("openmoji", colour, split="val" if colour == "pink" else "train") for colour in COLOURS),
    *(row("gcompris", colour, split="val" if colour == "red" else "train") for colour in COLOURS[:4]),
    # A source that has no picture in a split comes after the others, so that it moves nothing.
    row("stamps", "yellow"),
    row("stamps", "grey"),
]
LEAKS = {
    "test": row("openmoji", "brown", split="test"),
    "held-out vendor": row("openmoji", "brown", split="test_vendor"),
    "copy of a test picture": row("openmoji", "brown", split="drop"),
    "near a stamp": row("openmoji", "brown", extra={"near_stamp": True}),
    "test stamp": row("stamps", "brown", split="test"),
}
STAMP = row("stamps", "brown")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corpora, features, pixels and maps of a run lie below the test's own folder."""
    for module in (features, finetune_network, finetune_image):
        monkeypatch.setattr(module, "CORPORA", tmp_path / "corpora")
        monkeypatch.setattr(module, "FEATURES", tmp_path / "features")
    monkeypatch.setattr(finetune_network, "PIXELS", tmp_path / "features/pixels")
    monkeypatch.setattr(finetune_image, "MAPS", tmp_path / "features/maps")


def random_of(name: str) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, name)))


def write(folder: Path, rows: list[Row]) -> dict[str, int]:
    """Write manifests, texts, pixels and maps of some pictures; returns the row of each text."""
    texts = sorted({row["captions"][0] for row in [*HONEST, *LEAKS.values()]})
    vectors = np.stack([random_of(text).standard_normal(384) for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for part in ("text", "pixels", "maps"):
        (folder / "features" / part).mkdir(parents=True, exist_ok=True)
    np.savez(folder / "features/text/texts.npz", texts=np.array(texts), features=vectors.astype(np.float16))
    for source in sorted({row["source"] for row in rows}):
        own = [row for row in rows if row["source"] == source]
        (folder / "corpora" / source).mkdir(parents=True, exist_ok=True)
        manifest = folder / "corpora" / source / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in own))
        ids = [row["id"] for row in own if row["split"] != "drop"]  # what features are made of
        pixels = [random_of(i).integers(0, 256, (STORED, STORED, 4), dtype=np.uint8) for i in ids]
        maps = [random_of(i).standard_normal((112, 14, 14)).astype(np.float16) for i in ids]
        for part, arrays in (("pixels", pixels), ("maps", maps)):
            view = ".0" if part == "maps" else ""
            np.save(folder / "features" / part / f"{source}{view}.npy", np.stack(arrays))
            np.save(folder / "features" / part / f"{source}.ids.npy", np.array(ids))
        for picture in own:
            from PIL import Image

            colour = tuple(int(v) for v in random_of(picture["id"]).integers(0, 256, 3))
            Image.new("RGB", (20, 20), colour).save(folder / "corpora" / picture["path"])
    return {text: number for number, text in enumerate(texts)}


def shown(folder: Path, rows: list[Row], split: str, stamps: bool) -> tuple[list[str], list[str]]:
    """Return the captions of the pictures that each of the two trainings opens."""
    index = write(folder, rows)
    texts = {number: text for text, number in index.items()}
    network = finetune_network._pictures(index, split, stamps)
    tail = finetune_image._pictures(index, split, not stamps, 1)
    return [texts[c[0]] for c in network.captions], [texts[c[0]] for c in tail.captions]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("leak", LEAKS)
def test_pictures_that_may_not_be_seen_are_not_opened(leak: str, split: str, tmp_path: Path) -> None:
    found = {**LEAKS[leak]}
    if leak == "near a stamp":
        found["split"] = split
    elif split == "val":
        found = {**found, "split": "train"} if leak == "test" else found  # a training picture validates nothing
    for captions in shown(tmp_path, [*HONEST, found], split, stamps=False):
        assert "a brown square" not in captions
        assert not {"a yellow square", "a grey square"} & set(captions)  # stamps
    honest = row("openmoji", "brown", split=split)
    for captions in shown(tmp_path, [*HONEST, honest], split, stamps=False):
        assert "a brown square" in captions


@pytest.mark.parametrize("leak", ["test", "copy of a test picture", "test stamp"])
def test_with_stamps_their_training_half_alone_is_opened(leak: str, tmp_path: Path) -> None:
    for captions in shown(tmp_path, [*HONEST, LEAKS[leak]], "train", stamps=True):
        assert "a brown square" not in captions
        assert {"a yellow square", "a grey square"} <= set(captions)
    for leaked in (STAMP, LEAKS["near a stamp"]):
        for captions in shown(tmp_path, [*HONEST, leaked], "train", stamps=True):
            assert "a brown square" in captions


def tuned(folder: Path, rows: list[Row], stamps: bool, name: str) -> tuple[bytes, list[Row], list[str]]:
    """Tune the whole network one step: its weights, what it measured, and the pictures that it gives vectors of."""
    write(folder, rows)
    out = folder / name
    options = {"weights": SHIPPED, "stamps": stamps, "start": None, "steps": 1, "minutes": 60.0, "batch_size": 3}
    more = {"backbone": "efficientnet_lite0", "learning_rate": 5e-4, "seed": 0, "out": out}
    finetune_network.train(argparse.Namespace(**options, **more))
    lines = [json.loads(line) for line in (out / "scalars.jsonl").read_text().splitlines()]
    ids = [i for path in sorted(out.glob("*.npz")) for i in np.load(path)["ids"].tolist()]
    return (out / "image_network.safetensors").read_bytes(), [{**r, "seconds": 0} for r in lines], ids


@pytest.mark.slow
@pytest.mark.parametrize("stamps", [False, True])
def test_a_whole_network_is_the_same_with_leaks_beside_what_it_sees(stamps: bool, tmp_path: Path) -> None:
    rows = HONEST if stamps else [row for row in HONEST if row["source"] != "stamps"]
    leaks = [{**leak, "id": f"{leak['id']} {name}"} for name, leak in LEAKS.items()]
    leaks = [leak for leak in leaks if not (stamps and "extra" in leak)] + ([] if stamps else [STAMP])
    clean = tuned(tmp_path, rows, stamps, "clean")
    leaky = tuned(tmp_path, [*rows, *leaks], stamps, "leaky")
    assert leaky == clean
    assert clean[2] == ["gcompris/red", "openmoji/pink"]  # vectors of validation pictures, which choose the share
    if stamps:  # validation pictures are measured and not tuned on
        more = tuned(tmp_path, [*rows, row("openmoji", "brown", split="val")], stamps, "more")
        assert more[0] == clean[0] and more[1] != clean[1]
    else:
        honest = tuned(tmp_path, [*rows, row("openmoji", "brown")], stamps, "honest")
        assert honest[0] != clean[0]


def tail(folder: Path, rows: list[Row], drop_stamps: bool, name: str) -> bytes:
    """Tune the late stages one step: their weights."""
    write(folder, rows)
    out = folder / name
    out.mkdir()
    finetune_image.train("efficientnet_lite0", 60.0, out, 3, 1, drop_stamps, 0)
    return (out / finetune_image.TAIL_FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stamps", [False, True])
def test_a_tail_is_the_same_with_leaks_beside_what_it_sees(
    stamps: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = HONEST if stamps else [row for row in HONEST if row["source"] != "stamps"]
    leaks = [{**leak, "id": f"{leak['id']} {name}"} for name, leak in LEAKS.items()]
    leaks = [leak for leak in leaks if not (stamps and "extra" in leak)] + ([] if stamps else [STAMP])
    said = []
    weights = []
    last = row("openmoji", "brown", split="val" if stamps else "train")
    for name, found in {"clean": rows, "leaky": [*rows, *leaks], "last": [*rows, last]}.items():
        weights.append(tail(tmp_path, found, not stamps, name))
        said.append([line.partition("{")[2] for line in capsys.readouterr().out.splitlines() if "step" in line])
    assert weights[1] == weights[0] and said[1] == said[0]
    assert (weights[2] == weights[0]) is stamps  # a validation picture is not tuned on, one of the training split is
    assert said[2] != said[0]


def test_the_router_and_the_features_of_speech_leave_test_voices_out(tmp_path: Path) -> None:
    splits = ("train", "val", "test", "fresh", "drop")
    rows = [{"id": split, "modality": "speech", "path": "talk/a.npy#0:9", "split": split} for split in splits]
    (tmp_path / "corpora/talk").mkdir(parents=True)
    (tmp_path / "corpora/talk/manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {item.id for item in features.spoken_items(None)} == {"train", "val"}
