"""All training stages end to end on fabricated corpora: what comes out opens as a space."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from embedspace.encoders.shipped.audio import load_audio_projections
from embedspace.encoders.shipped.text_network import load_text_projection
from embedspace.errors import ConfigError, WeightsError
from embedspace.space import EmbeddingSpace
from embedspace.train.loop import FitProgress
from tests.support.train_corpora import items, write_arrays, write_corpora, write_recipe, write_rows, write_tuned
from training.align.aligner import AlignReport, align
from training.align.measure import spoken_rows
from training.align.recipe import load_recipe
from training.align.stages import speech as stage_speech

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    write_corpora(root)
    write_recipe(root)
    return root


@pytest.fixture(scope="module")
def run(corpora: Path) -> AlignReport:
    return align(corpora / "tiny.toml", out=corpora / "run")


def test_align_writes_a_space_that_opens_and_encodes(run: AlignReport) -> None:
    assert run.done == ("image", "audio", "speech")
    assert run.folder is not None
    space = EmbeddingSpace.from_pretrained(run.folder)
    assert space.embed_dim == 16
    assert set(space.modalities) == {"image", "text", "audio", "speech", "video"}
    rng = np.random.default_rng(0)
    sound = (0.2 * rng.standard_normal(16_000)).astype(np.float32)
    rows = np.concatenate(
        [
            space.encode_text(["a dog", "soup"]),
            space.encode_image(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)),
            space.encode_audio(sound, 16_000),
            space.encode_speech(sound, 16_000),
        ]
    )
    assert rows.shape == (5, 16)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_align_calibrates_every_pair_of_modalities(run: AlignReport) -> None:
    assert run.folder is not None
    calibration = EmbeddingSpace.from_pretrained(run.folder).calibration
    kinds = ("image", "text", "audio", "speech")
    assert set(calibration.means) == set(kinds)
    assert {f"{a}>{b}" for a in kinds for b in kinds} - set(calibration.pairs) <= {"text>text"}
    assert all(np.isfinite([p.mean, p.std, p.slope, p.intercept]).all() for p in calibration.pairs.values())


def test_align_keeps_the_resolved_recipe_and_its_curves(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    resolved = json.loads((run.folder / "recipe.json").read_text())
    assert resolved["image"]["members"] == 2
    assert resolved["image"]["learning_rate"] == 1e-3
    rows = [json.loads(line) for line in (corpora / "run" / "scalars.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == {
        "image 0",
        "image 1",
        "audio 0",
        "audio 1",
        "speech 0",
        "speech 0 through the text head",
    }
    assert all(np.isfinite(row["loss"]) for row in rows)
    spoken = [row for row in rows if row["stage"].startswith("speech")]
    assert all(0 <= row["recall_at_1"] <= row["recall_at_10"] <= 1 for row in spoken)
    assert (corpora / "run" / "curves.png").stat().st_size > 1000
    assert (corpora / "run" / "tensorboard").is_dir()


def test_align_in_pieces_equals_one_run(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    out = corpora / "pieces"
    told: list[FitProgress] = []
    report = align(corpora / "tiny.toml", out=out, minutes=0.0)
    assert (report.folder, report.done) == (None, ())
    done: list[tuple[str, ...]] = []
    for _ in range(80):
        # the budget lets the first stage that is not done take one step, and what is done is not done again
        report = align(
            corpora / "tiny.toml", out=out, minutes=2e-5 if len(done) < 3 else None, resume=True, callback=told.append
        )
        done.append(report.done)
        if report.folder:
            break
    assert report.folder is not None
    for file in sorted(run.folder.glob("*.safetensors")):
        assert file.read_bytes() == (report.folder / file.name).read_bytes(), file.name
    assert (run.folder / "config.json").read_text() == (report.folder / "config.json").read_text()
    assert (run.folder / "calibration.json").read_text() == (report.folder / "calibration.json").read_text()


def test_align_with_another_seed_is_another_space(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    text = (corpora / "tiny.toml").read_text().replace("[text]", 'stages = ["image"]\n[text]')
    (corpora / "image.toml").write_text(text)
    report = align(corpora / "image.toml", out=corpora / "seed", seed=11)
    assert report.folder is not None
    assert json.loads((report.folder / "recipe.json").read_text())["seed"] == 11
    assert (report.folder / "text.safetensors").read_bytes() != (run.folder / "text.safetensors").read_bytes()


def test_align_keeps_some_image_heads_of_a_space(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    text = (corpora / "tiny.toml").read_text().replace("seed = 3", "seed = 5")
    text = text.replace("[text]", f'stages = ["image"]\nstart = "{run.folder}"\n[text]\nlocked = true')
    (corpora / "kept.toml").write_text(text.replace("[image]", "[image]\nkeep_members = 1"))
    report = align(corpora / "kept.toml", out=corpora / "kept")
    assert report.folder is not None
    before, after = (load_file(folder / "image.safetensors") for folder in (run.folder, report.folder))
    same = {name: torch.equal(before[name], after[name]) for name in before if name.endswith("weight")}
    assert all(equal for name, equal in same.items() if name.startswith("members.0"))
    assert not all(equal for name, equal in same.items() if name.startswith("members.1"))
    (corpora / "kept.toml").write_text(text.replace("[image]", "[image]\nkeep_members = 3"))
    with pytest.raises(ConfigError, match="has 2 image heads, keep_members is 3"):
        align(corpora / "kept.toml", out=corpora / "more")
    (corpora / "kept.toml").write_text(
        text.replace("[image]", "[image]\nkeep_members = 1").replace("locked = true", "")
    )
    with pytest.raises(ConfigError, match=r"heads to keep belong to the text head of start"):
        load_recipe(corpora / "kept.toml")


def test_align_goes_on_with_the_speech_heads_of_a_space(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    start = f'stages = ["speech"]\nstart = "{run.folder}"\n[text]'
    text = (corpora / "tiny.toml").read_text().replace("[text]", start)
    before = load_file(run.folder / "speech.safetensors")
    same: dict[str, bool] = {}
    for name, keys in {
        "on": "go_on = true\nsteps = 0\nthrough_steps = 0",
        "drawn back": "go_on = true\ngo_on_share = 0.0\nsteps = 4\nthrough_steps = 0",
        "moved": "go_on = true\ngo_on_share = 0.5\nsteps = 4\nthrough_steps = 0",
        "anew": "steps = 0\nthrough_steps = 0",
        "wider": "go_on = true\nmembers = 2\nsteps = 0\nthrough_steps = 0",
    }.items():
        lines = [
            line
            for line in text.partition("[speech]")[2].splitlines()
            if not re.match("(through_)?steps|members", line)
        ]
        (corpora / f"{name}.toml").write_text(text.partition("[speech]")[0] + "[speech]\n" + keys + "\n".join(lines))
        report = align(corpora / f"{name}.toml", out=corpora / name)
        assert report.folder is not None
        after = load_file(report.folder / "speech.safetensors")
        # by value: 0 times a difference may turn -0.0 into 0.0
        same[name] = after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert same == {"on": True, "drawn back": True, "moved": False, "anew": False, "wider": False}
    wide, narrow = (load_file(path / "speech.safetensors") for path in (corpora / "wider/space", run.folder))
    first, second = (f"members.{number}.project.weight" for number in (0, 1))
    assert torch.equal(wide[first], narrow[first]) and second not in narrow
    assert not torch.equal(wide[second], wide[first])


def test_speech_recipe_weighs_languages(run: AlignReport, corpora: Path) -> None:
    rows = [{"language": "en"}] * 81 + [{"language": "fr"}] * 16
    plain, weighed = (stage_speech._language_shares(rows, wanted) for wanted in ({}, {"en": 4.0}))
    # 81 ** 0.75 = 27 and 16 ** 0.75 = 8: English is heard less often than its clips say, unless it is weighed up
    assert sum(plain) == pytest.approx(1.0) and sum(plain[:81]) == pytest.approx(27 / 35)
    assert sum(weighed) == pytest.approx(1.0) and sum(weighed[:81]) == pytest.approx(108 / 116)
    text = (corpora / "tiny.toml").read_text().replace("[text]", f'stages = ["speech"]\nstart = "{run.folder}"\n[text]')
    (corpora / "tongues.toml").write_text(f"{text}\n[speech.languages]\nen = 2.0\nxx = 1.0\n")
    with pytest.raises(ConfigError, match=r"\[speech.languages\] weighs xx, which no clip of its sources speaks"):
        align(corpora / "tongues.toml", out=corpora / "tongues")


def test_spoken_rows_pass_over_a_source_without_validation_clips(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    recipe = load_recipe(corpora / "tiny.toml")
    speech = dataclasses.replace(recipe.speech, decoder="some", sources={"people": 1.0, "talk": 1.0})
    write_rows(
        corpora / "corpora", "people", [{**row, "id": f"p{row['id']}", "split": "train"} for row in items("speech", 8)]
    )
    config = EmbeddingSpace.from_pretrained(run.folder).config["sections"]
    text = load_text_projection(config["text"]["head"], run.folder)
    with pytest.raises(ConfigError, match=r"training\.align\.features recognised --only talk"):
        spoken_rows(run.folder, config["speech"], dataclasses.replace(recipe, speech=speech), text)
    wanted = [row["id"] for row in items("speech", 128) if row["split"] == "val"]
    vectors = np.zeros((len(wanted), config["speech"]["text_dim"]), np.float16)
    vectors[0, 0] = 1.0  # one clip alone is recognised
    write_arrays(corpora / "features/recognised/talk.npz", ids=np.array(wanted), vectors=vectors)
    ways = spoken_rows(run.folder, config["speech"], dataclasses.replace(recipe, speech=speech), text)
    assert [row["id"] for row in ways.rows] == wanted
    assert not torch.equal(ways.first[0], ways.second[0])
    assert torch.equal(ways.first[1:], ways.second[1:])


def test_align_trains_one_stage_upon_a_space_that_is_there(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    text = (corpora / "tiny.toml").read_text().replace("[text]", f'stages = ["audio"]\nstart = "{run.folder}"\n[text]')
    (corpora / "audio.toml").write_text(
        text.replace("hidden_dim = 8\nsteps = 6\nbatch_size = 16", "steps = 4\nhidden_dim = 4")
    )
    assert load_recipe(corpora / "audio.toml").audio.steps == 4
    report = align(corpora / "audio.toml", out=corpora / "again")
    assert report.done == ("audio",)
    assert report.folder is not None
    before = EmbeddingSpace.from_pretrained(run.folder).fingerprints()
    after = EmbeddingSpace.from_pretrained(report.folder).fingerprints()
    assert {m for m in before if before[m] != after[m]} == {"audio"}


def test_align_mixes_in_a_tuned_network_by_what_it_knows(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    rows = [json.loads(line) for line in (corpora / "corpora" / "icons" / "manifest.jsonl").read_text().splitlines()]
    val = [row for row in rows if row["split"] == "val"]
    words = EmbeddingSpace.from_pretrained(run.folder).config["sections"]["text"]["head"]
    stored = np.load(corpora / "features" / "text" / "texts.npz")
    table = dict(zip(stored["texts"].tolist(), stored["features"], strict=True))
    with torch.inference_mode():
        known = load_text_projection(words, run.folder)(
            torch.from_numpy(np.stack([table[row["captions"][0]] for row in val]).astype(np.float32))
        )
    tuned = write_tuned(corpora / "network", [row["id"] for row in val], known.numpy())
    start = f'stages = []\nstart = "{run.folder}"\n[text]'
    text = (corpora / "tiny.toml").read_text().replace("[text]", start)
    text = text.replace("[image]", f'[image]\nnetworks = ["{tuned}"]')
    (corpora / "mixed.toml").write_text(text)
    report = align(corpora / "mixed.toml", out=corpora / "mixed")
    assert report.folder is not None
    space = EmbeddingSpace.from_pretrained(report.folder)
    # the heads had six steps; the network's vectors are the captions' own
    assert space.config["sections"]["image"]["network_share"] > 0.5
    before = EmbeddingSpace.from_pretrained(run.folder)
    assert {m for m, digest in before.fingerprints().items() if space.fingerprints()[m] != digest} == {"image", "video"}
    assert space.calibration.pair("image", "text") != before.calibration.pair("image", "text")
    assert space.calibration.pair("audio", "text") == before.calibration.pair("audio", "text")
    (tuned / "network.json").unlink()
    with pytest.raises(ConfigError, match=r"network\.json: no tuned network; run: python -m training"):
        align(corpora / "mixed.toml", out=corpora / "mixed")


def test_align_puts_a_memory_of_sounds_in_place_of_heads_and_keeps_the_router(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    text = (corpora / "tiny.toml").read_text().replace("[text]", f'stages = ["audio"]\nstart = "{run.folder}"\n[text]')
    (corpora / "memory.toml").write_text(
        text.replace("[audio]\nmembers = 2", "[audio]\nmembers = 0\nmemory_dim = 12\nkeep_router = true")
    )
    report = align(corpora / "memory.toml", out=corpora / "memory")
    assert report.folder is not None
    space, before = EmbeddingSpace.from_pretrained(report.folder), EmbeddingSpace.from_pretrained(run.folder)
    section = space.config["sections"]["audio"]
    assert (section["members"], section["memory_dim"], section["memory_items"]) == (0, 12, 320)
    heads, given = (load_audio_projections(s.config["sections"]["audio"], s.folder) for s in (space, before))
    stored = np.load(corpora / "features/audio/sounds.0.npz")
    features = torch.from_numpy(stored["features"].astype(np.float32))
    heard, before_that = heads.speech_probability(features), given.speech_probability(features)
    torch.testing.assert_close(heard, before_that, atol=0.02, rtol=0)
    with torch.inference_mode():
        rows = heads(features, torch.from_numpy(stored["logits"].astype(np.float32)))
    alike = rows @ rows.T
    same = torch.arange(len(rows))[:, None] % 8 == torch.arange(len(rows)) % 8
    # every item lies around its concept's centre, so what is read out for two of one concept is alike
    assert alike[same].mean() > 0.9 > 0.5 > alike[~same].mean()
    pairs = space.calibration.pairs
    assert np.isfinite([pairs["audio>text"].slope, pairs["audio>text"].intercept]).all()


def test_align_refuses_what_cannot_be(corpora: Path, tmp_path: Path) -> None:
    text = (corpora / "tiny.toml").read_text()
    for change, message in (
        (("[text]", 'stages = ["video"]\n[text]'), "unknown stage video; known: image, audio, speech"),
        (("[text]", 'stages = ["audio"]\n[text]'), "no text head; run the image stage first"),
        (("[text]", 'stages = ["speech"]\n[text]'), "no text head; run the image stage first"),
        (("icons = 1.0", "pictures = 1.0"), "pictures.*training"),
        (("icons = 1.0", ""), "no item to train on in no source at all: name sources"),
    ):
        (tmp_path / "bad.toml").write_text(text.replace(*change))
        with pytest.raises(ConfigError, match=message):
            align(tmp_path / "bad.toml", out=tmp_path / "out")
    with pytest.raises(WeightsError, match="no space there"):
        (tmp_path / "bad.toml").write_text(text.replace("[text]", 'start = "nowhere"\n[text]'))
        align(tmp_path / "bad.toml", out=tmp_path / "out")


def test_align_refuses_stages_without_sources(run: AlignReport, corpora: Path, tmp_path: Path) -> None:
    assert run.folder is not None
    for stage, source, message in (
        ("audio", "sounds = 1.0", "no item to train on in no source at all"),
        ("speech", "talk = 1.0", r"no clip to train on: name \[speech.sources\]"),
    ):
        start = f'stages = ["{stage}"]\nstart = "{run.folder}"\n[text]'
        text = (corpora / "tiny.toml").read_text().replace("[text]", start).replace(source, "")
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            align(tmp_path / "bad.toml", out=tmp_path / "out")


def test_align_refuses_to_go_on_with_checkpoints_of_another_shape(run: AlignReport, corpora: Path) -> None:
    text = (corpora / "tiny.toml").read_text().replace("embed_dim = 16", "embed_dim = 8")
    (corpora / "other.toml").write_text(text)
    with pytest.raises(WeightsError, match=r"image-0\.pt: not a checkpoint of this model"):
        align(corpora / "other.toml", out=corpora / "run", resume=True)


def test_align_refuses_to_go_on_with_checkpoints_of_another_recipe(run: AlignReport, corpora: Path) -> None:
    text = (corpora / "tiny.toml").read_text().replace("seed = 3", "seed = 5")
    (corpora / "other.toml").write_text(text)
    with pytest.raises(WeightsError, match=r"image-0\.pt: made after another recipe"):
        align(corpora / "other.toml", out=corpora / "run", resume=True)


def test_recipe_of_the_run_round_trips(run: AlignReport, corpora: Path) -> None:
    assert run.folder is not None
    resolved = json.loads((run.folder / "recipe.json").read_text())
    assert resolved == json.loads(json.dumps(dataclasses.asdict(load_recipe(corpora / "tiny.toml"))))
