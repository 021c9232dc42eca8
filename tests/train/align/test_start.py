"""Training goes on from a composed space: what texts connected is where pairs begin."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.encoders.connectors import METHODS
from embedspace.encoders.trained import load_correction
from embedspace.errors import ConfigError, WeightsError
from embedspace.space import EmbeddingSpace
from embedspace.space.config import DEFAULT_WEIGHTS
from embedspace.train.align import align
from embedspace.train.align.features import _Store
from embedspace.train.align.pairs import read_pairs
from embedspace.train.align.prepare import Run, prepare
from embedspace.train.align.recipe import load_align_recipe
from embedspace.train.distributed import World
from embedspace.train.loop import FitProgress
from tests.support import tiny_towers
from tests.support.towers import noise, tiny_clap, tiny_open_clip

FITTED = tuple(method for method in METHODS if method != "identity")
SMALL: dict[str, dict[str, Any]] = {"mlp": {"steps": 20, "hidden_dim": 8, "batch_size": 32}}
_THINGS = "dog bell rain street fox drum leaf boat moon hill cup door owl sea".split()
RECIPE = """
start = "space"
[pairs]
manifests = ["squares.csv"]
[towers.photo.projections.image]
kind = "KIND"
hidden_dim = 32
dropout = 0.1
[training]
steps = 60
batch_size = 24
learning_rate = 0.01
warmup_steps = 5
evaluate_every = 30
"""


def compose(folder: Path, method: str = "procrustes") -> EmbeddingSpace:
    """Write a space of two tiny towers that share only their texts, and open it."""
    words = [*tiny_towers.COLOURS, *(f"thing{n}" for n in range(12))]
    (folder / "texts.txt").write_text("\n".join(f"{a} {b}" for a, b in itertools.product(words, words)))
    table = {
        "anchor": "words",
        "towers": {
            "words": {"model": "tiny:2", "modalities": ["text"]},
            "photo": {"model": "tiny:1", "modalities": ["text", "image"]},
        },
        "connect": {"photo": {"method": method, "texts": ["texts.txt"], "settings": SMALL.get(method, {})}},
        "folder": str(folder),
    }
    EmbeddingSpace.compose(table).save(folder / "space")
    return EmbeddingSpace.from_pretrained(folder / "space")


def write_recipe(folder: Path, changes: dict[str, str] | None = None, kind: str = "mlp") -> Path:
    return tiny_towers.write_recipe(folder, changes, RECIPE.replace("KIND", kind))


def prepared(recipe: Path) -> Run:
    wanted = load_align_recipe(recipe)
    run = prepare(wanted, read_pairs(wanted.pairs, wanted.folder), World(), False, lambda *told: None)
    run.model.eval()
    return run


@pytest.mark.parametrize("method", FITTED)
def test_training_begins_where_the_connector_ends(tmp_path: Path, method: str) -> None:
    space = compose(tmp_path, method)
    run = prepared(write_recipe(tmp_path))
    files = [tmp_path / f"{n}.png" for n in range(24, 32)]  # the first that validate
    own = space.encode(files, modality="image")
    np.testing.assert_allclose(run.encode(run.validation[0])[:8], own, atol=2e-3)  # rows are kept in half precision
    words = np.arange(len(run.texts.captions))
    said = space.encode(run.texts.captions, modality="text")
    np.testing.assert_allclose(run.encode_texts(words), said, atol=2e-3)
    trained = {name for name, p in run.model.named_parameters() if p.requires_grad and not name.startswith("logit")}
    assert trained and all(name.startswith("projections.image.correction.") for name in trained)


@pytest.mark.parametrize("method", ["ridge", "blend"])
def test_training_on_pairs_improves_on_the_connector_and_the_space_opens(tmp_path: Path, method: str) -> None:
    before = compose(tmp_path, method)
    told: list[FitProgress] = []
    report = align(write_recipe(tmp_path), out=tmp_path / "run", callback=told.append)
    assert report.recalls["recall_at_1"] > 0.8 > report.before["recall_at_1"]  # chance is 1 / 8
    assert [(p.stage, p.step) for p in told if p.stage in ("start", "align")] == [
        ("start", 0), ("align", 30), ("align", 60),
    ]  # fmt: skip
    assert report.folder is not None
    after = EmbeddingSpace.from_pretrained(report.folder)
    section = json.loads((report.folder / "config.json").read_text())["sections"]["image"]
    assert (section["connector"], section["correction"]) == ("connectors/photo", "image.correction.safetensors")
    for suffix in ("json", "safetensors"):
        kept, stored = (f / f"connectors/photo.{suffix}" for f in (report.folder, tmp_path / "space"))
        assert kept.read_bytes() == stored.read_bytes()
    images = after.encode([tmp_path / f"{n}.png" for n in range(24, 32)], modality="image")
    texts = after.encode([f"a {name} square" for name in tiny_towers.COLOURS], modality="text")
    assert ((texts @ images.T).argmax(axis=1) == range(8)).mean() > 0.8
    assert after.fingerprints()["text"] == before.fingerprints()["text"]
    assert after.fingerprints()["image"] != before.fingerprints()["image"]
    again = EmbeddingSpace.from_pretrained(after.save(tmp_path / "copy"))
    np.testing.assert_allclose(again.encode([tmp_path / "24.png"], modality="image"), images[:1], atol=1e-5)


def test_a_correction_is_checked_like_every_other_file(tmp_path: Path) -> None:
    compose(tmp_path)
    folder = align(write_recipe(tmp_path, {"steps = 60": "steps = 2"}), out=tmp_path / "run").folder
    assert folder is not None
    file = folder / "image.correction.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"image.correction.safetensors: its checksum is not the one"):
        EmbeddingSpace.from_pretrained(folder).encoder("image")
    file.write_bytes(b"none")
    with pytest.raises(WeightsError, match="corrupt weights"):
        EmbeddingSpace.from_pretrained(folder).encoder("image")


def test_a_linear_correction_without_a_rate_changes_nothing(tmp_path: Path) -> None:
    space = compose(tmp_path)
    still = write_recipe(tmp_path, {"learning_rate = 0.01": "learning_rate = 0.0"}, kind="linear")
    report = align(still, out=tmp_path / "run")
    assert report.recalls == report.before
    assert report.folder is not None
    assert load_correction(report.folder / "image.correction.safetensors").hidden is None
    rows = [
        s.encode([tmp_path / "3.png"], modality="image") for s in (space, EmbeddingSpace.from_pretrained(report.folder))
    ]
    np.testing.assert_allclose(*rows, atol=1e-6)


def test_training_goes_on_from_what_training_made(tmp_path: Path) -> None:
    compose(tmp_path)
    first = align(write_recipe(tmp_path), out=tmp_path / "first")
    recipe = write_recipe(tmp_path, {'start = "space"': 'start = "first/space"'})
    second = align(recipe, out=tmp_path / "second")
    assert second.before["recall_at_1"] == pytest.approx(first.recalls["recall_at_1"], abs=0.05)
    with pytest.raises(ConfigError, match=r"is where this run writes; give another out .--out."):
        align(recipe, out=tmp_path / "first")


def test_what_is_known_of_other_modalities_stays(tmp_path: Path) -> None:
    compose(tmp_path)
    known = {"text": [0.5] + [0.0] * 15, "image": [0.0] * 16}
    pair = {"mean": 0.0, "std": 0.25, "slope": 1.0, "intercept": 0.0}
    stored = Calibration(
        {name: np.array(mean, np.float32) for name, mean in known.items()},
        {name: PairCalibration(**pair) for name in ("text>text", "text>image", "image>image")},
    )
    (tmp_path / "space/calibration.json").write_text(stored.to_json())
    report = align(write_recipe(tmp_path, {"[pairs]": "[pairs]\nvalidation = []"}), out=tmp_path / "run")
    assert report.folder is not None
    made = Calibration.from_json((report.folder / "calibration.json").read_text())
    assert set(made.pairs) == {"text>text"}  # those of images were of other vectors
    assert set(made.means) == {"text"}


def test_a_tower_may_be_tuned_behind_its_connector(tmp_path: Path) -> None:
    compose(tmp_path)
    table = "[towers.photo.projections.image]"
    changes = {
        table: f'[towers.photo]\nunfreeze = ["*image.2*"]\n{table}',
        "[training]": "[training]\ntower_rate = 0.5",
    }
    report = align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    assert report.recalls["recall_at_1"] > 0.8 > report.before["recall_at_1"]
    assert report.folder is not None
    assert EmbeddingSpace.from_pretrained(report.folder).encode([tmp_path / "1.png"], modality="image").shape == (1, 16)
    with pytest.raises(ConfigError, match="its image tower was tuned"):
        align(write_recipe(tmp_path, {'start = "space"': 'start = "run/space"'}), out=tmp_path / "next")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({'start = "space"': 'start = "none"'}, "none: no space there"),
        ({"[towers.photo.": "[towers.other."}, "no such tower; it has: words, photo"),
        ({"[towers.photo.": '[towers.photo]\nmodel = "tiny:3"\n[towers.photo.'}, "says its model, modalities"),
        ({'start = "space"': 'start = "space"\nembed_dim = 12'}, "embed_dim 12: .*space has 16; leave it out"),
        ({'"KIND"': '"none"'}, "nothing to train"),
    ],
)
def test_a_wrong_start_gets_one_clear_line(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    compose(tmp_path)
    kind = "none" if '"KIND"' in changes else "mlp"
    recipe = write_recipe(tmp_path, {old: new for old, new in changes.items() if old != '"KIND"'}, kind)
    with pytest.raises((ConfigError, WeightsError), match=message) as caught:
        align(recipe, out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_the_shipped_space_is_no_start(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path, {'start = "space"': f'start = "{DEFAULT_WEIGHTS}"', "[towers.photo.": "[towers.photo."}
    )
    with pytest.raises(ConfigError, match="training goes on from spaces of towers"):
        align(recipe, out=tmp_path / "run")


def test_sounds_are_cut_as_the_space_cuts_them(tmp_path: Path) -> None:
    """A window that the space sets is heeded, and rows of other windows are not mistaken for its own."""
    tiny_open_clip(tmp_path / "clip")
    tiny_clap(tmp_path / "clap")
    (tmp_path / "texts.txt").write_text(
        "\n".join(f"a {a} {b}" for a, b in itertools.product(tiny_towers.COLOURS, _THINGS))
    )
    towers: dict[str, Any] = {
        "clip": {"model": f"open_clip:local-dir:{tmp_path / 'clip'}", "modalities": ["text", "image"]},
        "clap": {"model": f"transformers:{tmp_path / 'clap'}", "modalities": ["text", "audio"], "window_seconds": 2.0},
    }
    connect = {"clap": {"method": "procrustes", "texts": ["texts.txt"]}}
    table = {"anchor": "clip", "towers": towers, "connect": connect, "folder": str(tmp_path)}
    space = EmbeddingSpace.compose(table)
    space.save(tmp_path / "space")
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", noise(number, 4.0), 48_000)
    rows = [{"path": f"{n}.wav", "caption": f"sound {n}", "split": "val" if n > 3 else "train"} for n in range(6)]
    tiny_towers.write_manifest(tmp_path / "squares.csv", rows)
    changes = {"[towers.photo.projections.image]": "[towers.clap.projections.audio]", "steps = 60": "steps = 2"}
    run = prepared(write_recipe(tmp_path, changes))
    assert [len(views) for views in run.train[0].views] == [2] * 4
    (file,) = (tmp_path / "rows").glob("*.audio*")
    assert file.name.endswith(".audio.2s.npz")
    assert len(_Store(file, run.towers["clap"].feature_dim("audio")).found) == 6
    segments = space.encode_decoded([space.decode(tmp_path / "4.wav", "audio")])[0]
    first = torch.from_numpy(segments[0].vector)
    assert torch.allclose(run.encode(run.validation[0])[0], first, atol=5e-3)
