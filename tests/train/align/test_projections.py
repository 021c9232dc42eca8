"""Projections with a formula, and names of classes: what a recipe says of them, what they find, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from embedspace.encoders.trained import Projection, ProjectionConfig, load_projection
from embedspace.errors import ConfigError
from embedspace.space import EmbeddingSpace
from embedspace.train.align import align
from embedspace.train.align import kernel as kernel_of_align
from embedspace.train.align.classes import class_vectors, read_names
from embedspace.train.loop import FitProgress
from tests.support import tiny_towers
from tests.support.tiny_towers import write_recipe

KERNEL = {"hidden_dim = 32": 'kind = "kernel"'}
CLASSES = {'model = "tiny:1"': 'model = "tiny:1"\nnames = "names.txt"\nclassifier = "image.1"'}


def write_names(folder: Path, count: int = 24) -> None:
    (folder / "names.txt").write_text("".join(f"thing {n}, item {n}\n" for n in range(count)), "utf-8")


def test_a_kernel_learns_what_pictures_show_without_a_step(tmp_path: Path) -> None:
    told: list[FitProgress] = []
    report = align(write_recipe(tmp_path, KERNEL), out=tmp_path / "run", callback=told.append)
    assert report.recalls["recall_at_1"] > 0.8  # chance is 1 / 8
    assert [(p.step, p.steps) for p in told if p.stage == "align"] == [(0, 0)]
    assert report.folder is not None
    projection = load_projection(report.folder / "image.projection.safetensors")
    assert (projection.config.projection, projection.config.items) == ("kernel", 72)
    space = EmbeddingSpace.from_pretrained(report.folder)
    images = space.encode([tmp_path / f"{n}.png" for n in range(24, 32)], modality="image")
    texts = space.encode([f"a {name} square" for name in tiny_towers.COLOURS], modality="text")
    assert ((texts @ images.T).argmax(axis=1) == range(8)).mean() > 0.8
    again = align(write_recipe(tmp_path, KERNEL), out=tmp_path / "again", resume=True)
    assert again.recalls == report.recalls


def test_a_kernels_settings_are_chosen_on_validation_items(tmp_path: Path) -> None:
    wide = "bandwidths = [1e-6, 4.0]\nridges = [1e6, 0.05]"
    align(write_recipe(tmp_path, {"hidden_dim = 32": f'kind = "kernel"\n{wide}'}), out=tmp_path / "run")
    chosen = load_projection(tmp_path / "run/space/image.projection.safetensors").config
    assert chosen.bandwidth == 4.0
    unseen = {"hidden_dim = 32": f'kind = "kernel"\n{wide}', "[pairs]": "[pairs]\nvalidation = []"}
    align(write_recipe(tmp_path, unseen), out=tmp_path / "blind")
    first = load_projection(tmp_path / "blind/space/image.projection.safetensors").config
    assert first.bandwidth == 1e-6  # nothing to choose on: the first


def test_many_items_are_no_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_of_align, "MOST_ITEMS", 71)
    with pytest.raises(ConfigError, match=r'at most 71 items, not 72; use kind = "mlp"'):
        align(write_recipe(tmp_path, KERNEL), out=tmp_path / "run")


@pytest.mark.parametrize("kind", ["mlp", "kernel"])
def test_layers_and_names_of_classes_reach_the_space(tmp_path: Path, kind: str) -> None:
    write_names(tmp_path)
    changes = {**CLASSES, "hidden_dim = 32": f'kind = "{kind}"\nhidden_dim = 32'}
    report = align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    assert report.recalls["recall_at_1"] > 0.8
    assert report.folder is not None
    config = json.loads((report.folder / "config.json").read_text())
    assert config["towers"]["photo"]["options"] == {"modalities": ["image"], "layers": ["image.1"]}
    projection = load_projection(report.folder / "image.projection.safetensors")
    assert (projection.feature_dim, projection.config.classes) == (16 + 24, 24)
    space = EmbeddingSpace.from_pretrained(report.folder)
    said = space.encode(["thing 3", "item 3"], modality="text")
    expected = F.normalize(torch.from_numpy(said).mean(dim=0), dim=0)
    torch.testing.assert_close(projection.class_vectors[3], expected, atol=2e-3, rtol=0)  # rows are kept in float16
    images = space.encode([tmp_path / f"{n}.png" for n in range(24, 32)], modality="image")
    texts = space.encode([f"a {name} square" for name in tiny_towers.COLOURS], modality="text")
    assert ((texts @ images.T).argmax(axis=1) == range(8)).mean() > 0.8


def test_the_likeliest_names_are_mixed_by_their_scores() -> None:
    projection = Projection(ProjectionConfig("mlp", 5, 2, hidden_dim=4, classes=3, temperature=1.0, top_k=2))
    projection.class_vectors.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    rows = torch.tensor([[9.0, 9.0, float(np.log(3.0)), 0.0, -50.0]])
    torch.testing.assert_close(projection.prior(rows), F.normalize(torch.tensor([[0.75, 0.25]]), dim=1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**CLASSES, "hidden_dim = 32": 'kind = "linear"'}, 'names of classes are for kind = "mlp" or "kernel"'),
        ({'model = "tiny:1"': 'model = "tiny:1"\nclassifier = "image.1"'}, "a classifier without names"),
        ({'model = "tiny:1"': 'model = "tiny:1"\nnames = "none.txt"\nclassifier = "image.1"'}, "none.txt: cannot read"),
        ({'model = "tiny:1"': 'model = "tiny:1"\nnames = "names.txt"'}, "24 names .* its rows gives 16 numbers"),
        ({**KERNEL, 'model = "tiny:2"': 'model = "tiny:2"\nunfreeze = ["*"]'}, "text side that stays as it is"),
        ({**KERNEL, 'model = "tiny:1"': 'model = "tiny:1"\nunfreeze = ["*"]'}, "a kernel is for a frozen tower"),
        ({"hidden_dim = 32": 'kind = "kernel"\nridges = []'}, "need a value each"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    write_names(tmp_path)
    with pytest.raises(ConfigError, match=said):
        align(write_recipe(tmp_path, changes), out=tmp_path / "run")


def test_a_kernel_of_texts_is_refused(tmp_path: Path) -> None:
    changes = {'modalities = ["text"]': 'modalities = ["text"]\n[towers.words.projections.text]\nkind = "kernel"'}
    with pytest.raises(ConfigError, match="texts have no kernel"):
        align(write_recipe(tmp_path, changes), out=tmp_path / "run")


def test_names_come_from_files_and_libraries(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("tench, Tinca tinca\nowl\n", "utf-8")
    (tmp_path / "a.json").write_text(json.dumps(["tench, Tinca tinca", ["owl"]]), "utf-8")
    expected = [("tench", "Tinca tinca"), ("owl",)]
    assert read_names("a.txt", tmp_path) == read_names("a.json", tmp_path) == expected
    shipped, timm = read_names("imagenet", tmp_path), read_names("timm:imagenet-1k", tmp_path)
    assert (len(shipped), len(timm)) == (1000, 1000)
    assert shipped[0][0] == timm[0][0] == "tench"
    for content, said in (("owl\n\nfox\n", "class 2 has no name"), ("", "class 1 has no name")):
        (tmp_path / "b.txt").write_text(content, "utf-8")
        with pytest.raises(ConfigError, match=said):
            read_names("b.txt", tmp_path)
    (tmp_path / "b.json").write_text('{"a": 1}', "utf-8")
    with pytest.raises(ConfigError, match="a list with a text"):
        read_names("b.json", tmp_path)
    with pytest.raises(ConfigError, match="no such list"):
        read_names("timm:imagenet-9z", tmp_path)


def test_class_vectors_average_the_names_of_a_class() -> None:
    table = {"a": [2.0, 0.0], "b": [0.0, 4.0]}
    found = class_vectors([("a", "b"), ("b",)], lambda texts: np.array([table[t] for t in texts], np.float32))
    torch.testing.assert_close(found, F.normalize(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), dim=1))
