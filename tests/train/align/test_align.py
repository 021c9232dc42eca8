"""Any towers and any pairs: what comes out finds held-out pictures by their captions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.encoders.tower import TowerEncoder
from embedspace.encoders.trained import apply_tuned, load_projection, save_projection
from embedspace.errors import ConfigError, WeightsError
from embedspace.space import EmbeddingSpace
from embedspace.train.align import align
from embedspace.train.align.media import prepared_of
from embedspace.train.loop import FitProgress
from tests.support import tiny_towers
from tests.support.tiny_towers import TinyTower, write_recipe


def test_train_align_learns_what_pictures_show(tmp_path: Path) -> None:
    told: list[FitProgress] = []
    report = align(write_recipe(tmp_path), out=tmp_path / "run", callback=told.append)
    assert report.recalls["recall_at_1"] > 0.8  # chance is 1 / 8
    assert report.recalls["captions"] == 8
    assert (report.pairs, report.skipped, report.folder) == (72, [], tmp_path / "run/space")
    assert [p.step for p in told if p.stage == "align"] == [30, 60]
    projection = load_projection(tmp_path / "run/space/image.projection.safetensors")
    assert (projection.feature_dim, projection.embed_dim) == (16, 16)
    config = json.loads((tmp_path / "run/space/config.json").read_text())
    assert config["sections"]["image"] == {
        "type": "tower",
        "tower": "photo",
        "projection": "image.projection.safetensors",
    }
    assert config["towers"]["photo"]["name"] == "tiny:1"
    assert "image>text" in json.loads((tmp_path / "run/space/calibration.json").read_text())["pairs"]
    assert (tmp_path / "run/scalars.jsonl").is_file()
    assert list((tmp_path / "run/tensorboard").iterdir())


def test_the_space_opens_and_searches(tmp_path: Path) -> None:
    report = align(write_recipe(tmp_path), out=tmp_path / "run")
    assert report.folder is not None
    space = EmbeddingSpace.from_pretrained(report.folder)
    assert (space.embed_dim, set(space.modalities)) == (16, {"image", "text", "video"})
    images = space.encode([tmp_path / f"{n}.png" for n in range(24, 32)], modality="image")
    texts = space.encode([f"a {name} square" for name in tiny_towers.COLOURS], modality="text")
    best = (texts @ images.T).argmax(axis=1)
    assert (best == range(8)).mean() > 0.8
    before = space.fingerprints()
    projection = load_projection(report.folder / "image.projection.safetensors")
    projection.state_dict()["layers.out.bias"].add_(1.0)
    save_projection(projection, report.folder / "image.projection.safetensors")
    with pytest.raises(WeightsError, match="checksum"):
        EmbeddingSpace.from_pretrained(report.folder).encoder("image")
    align(write_recipe(tmp_path, {"steps = 60": "steps = 61"}), out=tmp_path / "run")
    after = EmbeddingSpace.from_pretrained(report.folder).fingerprints()
    assert after["text"] == before["text"]
    assert after["image"] != before["image"]


def test_a_space_with_a_tuned_tower_encodes_as_training_did(tmp_path: Path) -> None:
    changes = {'model = "tiny:1"': 'model = "tiny:1"\nunfreeze = ["*image.2*"]', **FASTER}
    report = align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    assert report.folder is not None
    space = EmbeddingSpace.from_pretrained(report.folder)
    plain, tuned = tuned_tower(tmp_path / "run", "photo")
    files = [tmp_path / f"{n}.png" for n in range(8)]
    prepared = [prepared_of(TowerEncoder(tuned, "image"), file)[0] for file in files]
    projection = load_projection(report.folder / "image.projection.safetensors")
    expected = projection(tuned.encode("image", prepared))
    assert np.allclose(space.encode(files, modality="image"), expected.numpy(), atol=1e-5)
    assert not np.allclose(
        space.encode(files, modality="image"), projection(plain.encode("image", prepared)), atol=1e-3
    )


def test_an_untrained_projection_is_at_chance(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {"learning_rate = 0.01": "learning_rate = 0.0"})
    assert align(recipe, out=tmp_path / "run").recalls["recall_at_1"] < 0.5


def test_rows_of_frozen_towers_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path)
    first = align(recipe, out=tmp_path / "a")
    calls: list[int] = []
    encode = TinyTower.encode
    monkeypatch.setattr(
        TinyTower, "encode", lambda self, m, prepared, **kw: calls.append(len(prepared)) or encode(self, m, prepared)
    )
    assert align(recipe, out=tmp_path / "b").recalls == first.recalls
    assert calls == []
    (tmp_path / "0.png").write_bytes((tmp_path / "1.png").read_bytes())  # a file that changed is encoded again
    align(recipe, out=tmp_path / "c")
    assert calls == [1]


def test_unreadable_rows_are_skipped_and_listed(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "5.png").write_bytes(b"no picture")
    (tmp_path / "6.png").unlink()
    with (tmp_path / "squares.csv").open("a") as file:
        file.write("7.png,,train\nx.xyz,a thing,train\n0.png,a thing,test\n")
    report = align(recipe, out=tmp_path / "run")
    assert report.pairs == 70
    reasons = "\n".join(report.skipped)
    assert len(report.skipped) == 4
    for part in ("6.png: no such file", "row 97: no caption", "unknown file suffix '.xyz'", "squares.csv#6"):
        assert part in reasons


def test_a_run_goes_on_with_another_number_of_steps(tmp_path: Path) -> None:
    short = write_recipe(tmp_path, {"steps = 60": "steps = 30"})
    align(short, out=tmp_path / "run")
    told: list[FitProgress] = []
    longer = write_recipe(tmp_path)
    align(longer, out=tmp_path / "run", resume=True, callback=told.append)
    assert [p.step for p in told if p.stage == "align"] == [60]
    other = write_recipe(tmp_path, {"learning_rate = 0.01": "learning_rate = 0.02"})
    with pytest.raises(WeightsError, match="made after another recipe"):
        align(other, out=tmp_path / "run", resume=True)


def test_a_run_stops_in_time_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    align(recipe, out=tmp_path / "whole")
    assert align(recipe, out=tmp_path / "parts", minutes=0.0).folder is None
    report = align(recipe, out=tmp_path / "parts", resume=True)
    assert report.folder is not None
    whole, parts = (
        load_projection(tmp_path / name / "space/image.projection.safetensors").state_dict()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_chunks_change_memory_and_not_the_weights(tmp_path: Path, loss: str) -> None:
    steps = {"steps = 60": f'steps = 5\nloss = "{loss}"', "evaluate_every = 30": "evaluate_every = 5"}
    align(write_recipe(tmp_path, steps), out=tmp_path / "whole")
    chunked = {**steps, "batch_size = 24": "batch_size = 24\nchunk = 7"}
    align(write_recipe(tmp_path, chunked), out=tmp_path / "chunked")
    a, b = (
        load_projection(tmp_path / name / "space/image.projection.safetensors").state_dict()
        for name in ("whole", "chunked")
    )
    assert all(torch.allclose(a[key], b[key], atol=1e-5) for key in a)


FASTER = {"[training]": "[training]\ntower_rate = 0.5"}


def tuned_tower(folder: Path, name: str) -> tuple[TinyTower, TinyTower]:
    """The tower as it came, and with what training changed."""
    request = tiny_towers.TowerRequest("tiny:1", "1", options={"modalities": ["image"]})
    plain, tuned = TinyTower(request), TinyTower(request)
    apply_tuned(tuned, folder / "space" / f"{name}.tuned.safetensors")
    return plain, tuned


def test_only_the_unfrozen_parameters_change(tmp_path: Path) -> None:
    changes = {
        'model = "tiny:1"': 'model = "tiny:1"\nunfreeze = ["*image.2*"]',
        "[training]": "[training]\ntower_rate = 0.5",
    }
    report = align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    assert report.recalls["recall_at_1"] > 0.8
    plain, tuned = tuned_tower(tmp_path / "run", "photo")
    changed = {n for n, p in plain.named_parameters() if not torch.equal(p, dict(tuned.named_parameters())[n])}
    assert changed == {"networks.image.2.weight", "networks.image.2.bias"}
    section = json.loads((tmp_path / "run/space/config.json").read_text())["sections"]["image"]
    assert section["tuned"] == "photo.tuned.safetensors"


def test_low_rank_updates_are_merged_into_the_towers_weights(tmp_path: Path) -> None:
    table = "[towers.photo.projections.image]"
    changes = {table: f'[towers.photo.lora]\nrank = 2\ntargets = ["2"]\n{table}', **FASTER}
    align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    plain, tuned = tuned_tower(tmp_path / "run", "photo")
    update = tuned.networks["image"][2].weight - plain.networks["image"][2].weight
    assert torch.linalg.matrix_rank(update, rtol=1e-3) == 2
    assert torch.equal(tuned.networks["image"][0].weight, plain.networks["image"][0].weight)


def test_a_text_tower_can_be_trained_too(tmp_path: Path) -> None:
    changes = {"[training]": '[towers.words.projections.text]\nkind = "linear"\nhidden_dim = 0\n[training]'}
    recipe = write_recipe(tmp_path, changes)
    recipe.write_text("embed_dim = 12\n" + recipe.read_text())
    report = align(recipe, out=tmp_path / "run")
    assert report.recalls["recall_at_1"] > 0.8
    assert load_projection(tmp_path / "run/space/text.projection.safetensors").embed_dim == 12


def test_bfloat16_trains_as_well(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {"[training]": "[training]\nbfloat16 = true"})
    assert align(recipe, out=tmp_path / "run").recalls["recall_at_1"] > 0.8


def test_shards_hold_the_same_pairs_as_a_manifest(tmp_path: Path) -> None:
    import webdataset

    rows = tiny_towers.write_squares(tmp_path / "files")
    for shard in range(2):
        with webdataset.TarWriter(str(tmp_path / f"s-{shard}.tar")) as writer:
            for number, row in enumerate(rows[shard::2]):
                told = {"split": row["split"]}
                png = (tmp_path / "files" / row["path"]).read_bytes()
                writer.write({"__key__": f"{number:03d}", "png": png, "txt": row["caption"], "json": told})
    recipe = write_recipe(tmp_path, {'manifests = ["squares.csv"]': 'shards = ["s-{0..1}.tar"]'})
    report = align(recipe, out=tmp_path / "run")
    assert (report.pairs, report.skipped) == (72, [])
    assert report.recalls["recall_at_1"] > 0.8
    recipe = write_recipe(tmp_path, {'manifests = ["squares.csv"]': 'shards = ["s-{0..2}.tar"]'})
    with pytest.raises(ConfigError, match=r"s-2.tar: no such file"):
        align(recipe, out=tmp_path / "run")
    recipe = write_recipe(tmp_path, {'manifests = ["squares.csv"]': 'shards = ["pipe:curl x"]'})
    with pytest.raises(ConfigError, match="nothing is downloaded and no pipe opened"):
        align(recipe, out=tmp_path / "run")
    (tmp_path / "s-0.tar").write_bytes(b"no tar")
    with pytest.raises(ConfigError, match=r"s-0.tar: not a tar file"):
        align(write_recipe(tmp_path, {'manifests = ["squares.csv"]': 'shards = ["s-0.tar"]'}), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({'"squares.csv"': '"none.csv"'}, "none.csv"),
        ({'modalities = ["image"]': 'modalities = ["text"]'}, "photo, words take text; name one as anchor"),
        ({"[towers.photo]": "[towers.photo]\nspeed = 1"}, "towers.photo: unknown key 'speed'"),
        ({'model = "tiny:1"': 'model = "tiny:1"\nunfreeze = ["*.last.*"]'}, "'\\*.last.\\*' names no parameter"),
        (
            {"[towers.photo.projections.image]": "[towers.photo.projections.image]\nkind = 'big'"},
            "must be one of 'none'",
        ),
        ({"[pairs]": "[pairs]\ntrain = ['nothing']"}, "0 pairs to train on"),
        ({'["squares.csv"]': "[]"}, "no pairs; name manifests or shards"),
    ],
)
def test_a_wrong_recipe_gets_one_clear_line(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        align(write_recipe(tmp_path, changes), out=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_space_of_another_width_needs_a_projection(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text("embed_dim = 12\n" + recipe.read_text())
    with pytest.raises(
        ConfigError, match=r"rows are 16 wide and the space 12; give it a projection: \[towers.words.pro"
    ):
        align(recipe, out=tmp_path / "run")


def test_items_without_a_split_are_divided_by_caption(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "split"} for row in tiny_towers.write_squares(tmp_path)]
    rows = [{**row, "caption": f"thing {n // 3}"} for n, row in enumerate(rows)]
    tiny_towers.write_manifest(tmp_path / "squares.csv", rows)
    from embedspace.train.align.pairs import read_pairs
    from embedspace.train.align.recipe import PairsRecipe

    pairs = read_pairs(PairsRecipe(("squares.csv",), validation_share=0.3), tmp_path)
    held = {pair.captions for pair in pairs.of("image", "validation")}
    assert 0 < len(held) < 32
    assert held.isdisjoint(pair.captions for pair in pairs.of("image", "train"))
    assert len(pairs.rows) == 96


def test_without_validation_pairs_nothing_is_calibrated(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, {"[pairs]": "[pairs]\nvalidation = []"})
    report = align(recipe, out=tmp_path / "run")
    assert report.recalls == {}
    assert not (tmp_path / "run/space/calibration.json").exists()


def test_no_test_row_reaches_the_weights(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    align(recipe, out=tmp_path / "honest")
    with (tmp_path / "squares.csv").open("a") as file:
        file.write("0.png,a blue square,test\n1.png,a red square,fresh\n")
    align(recipe, out=tmp_path / "planted")
    honest, planted = (tmp_path / name / "space/image.projection.safetensors" for name in ("honest", "planted"))
    assert honest.read_bytes() == planted.read_bytes()
    shutil.copy(tmp_path / "squares.csv", tmp_path / "leaky.csv")
    text = (tmp_path / "squares.csv").read_text().replace(",test\n", ",train\n")
    (tmp_path / "squares.csv").write_text(text)
    align(recipe, out=tmp_path / "leaky")
    assert honest.read_bytes() != (tmp_path / "leaky/space/image.projection.safetensors").read_bytes()


def test_captions_longer_than_the_tower_takes_are_cut_by_us() -> None:
    tower = TinyTower(tiny_towers.TowerRequest("tiny:2", "2", options={"modalities": ["text"]}))
    parts = prepared_of(TowerEncoder(tower, "text"), " ".join(f"w{n}" for n in range(20)))
    assert len(parts) > 1
    assert torch.equal(parts[0], tower.prepare("text", " ".join(f"w{n}" for n in range(8))))
