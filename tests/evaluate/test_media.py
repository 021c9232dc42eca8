from __future__ import annotations

import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from embedspace.errors import ConfigError, MissingExtraError
from embedspace.evaluate.generation import samples
from embedspace.evaluate.generation.kinds import evaluate, table
from embedspace.evaluate.generation.media import report
from embedspace.evaluate.generation.media.medium import Pictures, reconstruct, unconditional
from embedspace.evaluate.generation.media.opening import bare_scorer, open_scorer
from embedspace.evaluate.generation.media.sheets import draw_sheet
from embedspace.evaluate.generation.media.suite import load_media_suite
from embedspace.evaluate.generation.media.training_index import TrainingIndex
from embedspace.evaluate.generation.session import open_session
from embedspace.generate import generate
from embedspace.generate.speech import voices
from eval.judges import correlation, measured
from tests.support.cli_space import vector_of
from tests.support.generators import (
    WORDS,
    SpaceWithGenerators,
    write_latent_generator,
    write_speech_generator,
    write_text_generator,
    write_vocabulary,
)

SUITES = Path(__file__).resolve().parents[2] / "eval/suites"
COLOURS = np.random.default_rng(5).integers(0, 256, (len(WORDS), 3)).astype(np.float32)


class MediaSpace(SpaceWithGenerators):
    """A stand-in that also takes files and waveforms."""

    def encode_image(self, images: Sequence[Any], **options: Any) -> np.ndarray:
        contents = (one.tobytes() if isinstance(one, np.ndarray) else Path(one).read_bytes() for one in images)
        return np.stack([vector_of(content) for content in contents])

    def encode_audio(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> np.ndarray:
        return np.stack([vector_of(Path(path).read_bytes()) for path in waveforms])

    def encode_speech(self, waveforms: Sequence[Any], sample_rate: int | None = None) -> np.ndarray:
        return np.stack([vector_of(np.asarray(waveform).tobytes()) for waveform in waveforms])


class ColourJudge:
    """Names a picture by its mean colour, a sound by its mean level; knows `concepts` only, if there are any."""

    def __init__(self, concepts: tuple[str, ...] = ()) -> None:
        self.about = {"accuracy": {"real": {"top_1": 1.0}}}
        self.digest = "d" * 64
        self.concepts = concepts

    def features(self, contents: Sequence[np.ndarray], sample_rate: int = 0) -> np.ndarray:
        if sample_rate:
            return np.array([[np.abs(c).mean(), np.abs(c).max(), c.std()] for c in contents], np.float32)
        return np.array([c.mean(axis=(0, 1)) for c in contents], np.float32).reshape(-1, 3)

    def kernel_features(self, features: np.ndarray) -> np.ndarray:
        return features / 255

    def copy_features(self, contents: Sequence[np.ndarray], sample_rate: int = 0) -> np.ndarray:
        return self.features(contents, sample_rate)

    def scores(self, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        known = np.stack([COLOURS[WORDS.index(n)] if n in WORDS else np.full(3, 1e4, np.float32) for n in names])
        return -np.linalg.norm(features[:, None] - known[None], axis=2)


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MediaSpace:
    heads = tmp_path / "space" / "heads"
    write_latent_generator(heads, "image")
    write_latent_generator(heads, "audio")
    write_text_generator(heads)
    write_speech_generator(heads)
    write_vocabulary(heads)
    judge = types.ModuleType("colour_judge")
    judge.load = ColourJudge  # type: ignore[attr-defined]
    judge.closed = lambda: ColourJudge(WORDS[:6])  # type: ignore[attr-defined]
    judge.hear = lambda clips: ["a dog"] * len(clips)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colour_judge", judge)

    def say(text: str, voice: str | None = None) -> tuple[np.ndarray, str]:
        if voice == "none:none":
            raise MissingExtraError(f"{voice} is not installed")
        return np.full(2205, len(text) / 100, np.float32), voice or "flite:rms"

    monkeypatch.setattr(voices, "speak", say)
    return MediaSpace(tmp_path / "space")


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Three pictures of each word: two of "real", one of "held"; a sound of each."""
    folder = tmp_path / "corpora"
    (folder / "tiny").mkdir(parents=True)
    (folder / "clips").mkdir()
    rows, clips = [], []
    for n, text in enumerate(WORDS):
        for kind, count in (("real", 2), ("held", 1)):
            for k in range(count):
                name = f"tiny/{kind}-{n}-{k}"
                pixels = np.tile(COLOURS[n].astype(np.uint8), (20 + k, 20, 1))
                if kind == "held":
                    pixels = np.random.default_rng(n).integers(0, 256, pixels.shape).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}.png")
                row = {"id": name, "modality": "image", "path": f"{name}.png", "captions": [text], "concept": text}
                rows.append({**row, "split": "train" if kind == "real" else "val"})
        path = folder / "clips" / f"{n}.wav"
        soundfile.write(path, 0.3 * np.sin(np.arange(8000) * (n + 1) / 20), 16_000)
        clip = {"id": f"clips/{n}", "modality": "audio", "path": f"clips/{n}.wav", "captions": [text, f"{text}!"]}
        clips.append({**clip, "concept": text})
    (folder / "tiny" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "clips" / "manifest.jsonl").write_text("\n".join(map(json.dumps, clips)))
    return folder


def _suite(folder: Path, to: str = "image", **change: str) -> Path:
    body = f"""
kind = "media"
name = "tiny_{to}"
description = "d"
to = "{to}"
judge = "colour_judge:{"load" if to == "image" else "closed"}"
{'captions = ["words"]' if to == "image" else ""}
reference = "real"
held = "held"
training = "real"
gallery = 20
seeds = [0, 1]
families = ["flow", "vae", "gan"]
copies = 0.25
sheet = 3
resamples = 50
[[groups]]
name = "Held-in words"
items = "words"
real = "real"
[groups.sources]
text = "words"
"a picture" = "held"
speech = "voice flite:rms"
"speech, no such voice" = "voice none:none"
[sweep]
items = "words"
scales = [1.0, 2]
[sets.words]
manifests = ["{"tiny" if to == "image" else "clips"}"]
modality = "text"
key = "concept"
first_by = "concept"
[sets.real]
manifests = ["{"tiny" if to == "image" else "clips"}"]
modality = "{to}"
key = "concept"
{'where = { split = "train" }' if to == "image" else ""}
[sets.held]
manifests = ["{"tiny" if to == "image" else "clips"}"]
modality = "{to}"
key = "concept"
{'where = { split = "val" }' if to == "image" else ""}
"""
    for old, new in change.items():
        body = body.replace(old, new)
    path = folder / f"tiny_{to}.toml"
    path.write_text(body)
    return path


def test_pictures_are_measured_beside_their_baselines(tmp_path: Path, space: Any, corpora: Path) -> None:
    entry = evaluate(_suite(tmp_path), space, tmp_path / "out", corpora=corpora, cache=tmp_path / "cache")
    rows = {(row["system"], row["source"], row["family"]): row for row in entry["rows"]}
    assert set(rows) == {
        ("generated", "text", "flow"),
        ("generated", "text", "vae"),
        ("shuffled condition", "text", "flow"),
        ("nearest training item", "text", ""),
        ("nearest training item", "a picture", ""),
        ("nearest training item", "speech", ""),
        ("generated", "a picture", "flow"),
        ("generated", "speech", "flow"),
        ("no condition", "", "flow"),
        ("real", "", ""),
        ("reconstruction", "", ""),
    }
    assert rows["real", "", ""]["top_1"] == [1.0, 1.0, 1.0]  # the judge knows these very colours
    assert rows["real", "", ""]["samples"] == 2 * len(WORDS)
    assert rows["real", "", ""]["kernel_distance"][0] < rows["generated", "text", "flow"]["kernel_distance"][0]
    assert rows["real", "", ""]["near_copies"][0] == 1.0  # they are the training items
    assert rows["real", "", ""]["near_copies_features"][0] == rows["real", "", ""]["near_copies_aligned"][0] == 1.0
    assert set(entry["held"]["measures"]) == {"latents", "features", "aligned"}
    assert rows["generated", "text", "flow"]["samples"] == 2 * len(WORDS)
    assert "top_1_of_text" in rows["generated", "speech", "flow"]
    assert 0 <= rows["generated", "text", "flow"]["recall_at_10"][0] <= 1
    assert [row["guidance_scale"] for row in entry["sweep"]] == [1.0, 2.0]
    assert entry["held"]["items"] == len(WORDS)
    assert entry["training_items"] == len(WORDS) + 2 * len(WORDS)
    assert entry["heads"]["image"] == space.generators["image"].digest
    assert any("none:none" in key for key in entry["failures"]) and "gan" in entry["failures"]
    assert "suite" not in entry  # the retrieval tables read every file that has one
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [
        "tiny_image.guidance.png",
        "tiny_image.held-in-words.a-picture.png",
        "tiny_image.held-in-words.speech.png",
        "tiny_image.held-in-words.text.png",
        "tiny_image.json",
        "tiny_image.md",
    ]
    assert json.loads((tmp_path / "out/tiny_image.json").read_text()) == entry
    assert "| real | 8 | 100.0 [100, 100] |" in table(entry)
    costs = entry["families"]
    assert list(costs) == ["flow", "vae"]  # it has no gan
    assert 0 < costs["vae"]["parameters"] <= costs["vae"]["parameters_trained"]
    assert costs["flow"]["seconds_each"] > 0 and "minutes" not in costs["flow"]  # nobody wrote down how long
    assert "| flow | rectified flow" in table(entry)


class BlindJudge(ColourJudge):
    """Finds every name equally well, so that none comes first."""

    def scores(self, features: np.ndarray, names: Sequence[str]) -> np.ndarray:
        return np.zeros((len(features), len(names)), np.float32)


def test_two_judges_are_asked_about_the_same_pictures(tmp_path: Path, space: Any, corpora: Path) -> None:
    suite = load_media_suite(_suite(tmp_path))
    session = open_session(suite, space, corpora, tmp_path / "cache", None)
    scorers = [bare_scorer(session, judge) for judge in (ColourJudge(), BlindJudge())]
    rows = {row["what"]: row for row in measured(scorers, suite.groups[0])}
    assert list(rows) == ["nearest training item", "real", "made", "made, against other words"]
    seeing, blind = rows["real"]["judges"]
    assert seeing["top_1"] == [1.0, 1.0, 1.0] and blind["top_1"] == [0.0, 0.0, 0.0]
    assert rows["real"]["pictures"] == rows["made"]["pictures"] == 2 * len(WORDS)
    near = rows["nearest training item"]["judges"][0]["top_1"][0]
    assert seeing["top_1_less_nearest"][0] == pytest.approx(1.0 - near, abs=1e-4)
    assert [row["phi"] for row in rows.values()] == [0.0] * 4  # what never varies agrees with nothing
    by_other_words = rows["made, against other words"]["judges"][0]["top_1"][0]
    assert by_other_words <= rows["made"]["judges"][0]["top_1"][0]


def test_the_agreement_of_two_judges_is_a_correlation() -> None:
    one = np.array([1.0, 1.0, 0.0, 0.0])
    assert correlation(one, one) == 1.0 and correlation(one, 1 - one) == -1.0
    assert correlation(one, np.array([1.0, 0.0, 0.0, 1.0])) == 0.0
    assert correlation(one, np.ones(4)) == 0.0


def test_a_choice_from_noise_stands_beside_one_candidate(tmp_path: Path, space: Any, corpora: Path) -> None:
    options = {"corpora": corpora, "cache": tmp_path / "cache"}
    added = "start = 0.0\ncandidates = 4\nalone = true"
    usual = evaluate(_suite(tmp_path), space, **options)
    entry = evaluate(_suite(tmp_path, **{"seeds = [0, 1]": f"seeds = [0, 1]\n{added}"}), space, **options)
    rows = {(row["system"], row["source"], row["family"]): row for row in entry["rows"]}
    chosen, alone = rows["generated", "text", "flow"], rows["generated, one candidate", "text", "flow"]
    assert chosen["samples"] == alone["samples"] == 2 * len(WORDS)
    for figure in ("top_1", "recall_at_10"):
        assert chosen[f"{figure}_less_alone"][0] == pytest.approx(chosen[figure][0] - alone[figure][0], abs=2e-4)
    assert "top_1_less_alone" not in rows["generated", "a picture", "flow"]
    assert "| less the nearest item's, paired | less one candidate's, paired |" in table(entry)
    assert "less one candidate's" not in table(usual)
    made = [row for row in usual["rows"] if row["system"] == "generated" and row["family"] == "flow"]
    assert all(row["kernel_distance"] != rows["generated", row["source"], "flow"]["kernel_distance"] for row in made)


def test_a_second_run_makes_nothing_anew_and_says_the_same(
    tmp_path: Path, space: Any, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"corpora": corpora, "cache": tmp_path / "cache"}
    first = evaluate(_suite(tmp_path), space, **options)
    monkeypatch.setattr(samples, "generate", None)
    again = evaluate(_suite(tmp_path), space, **options)
    assert again["rows"] == first["rows"] and again["sweep"] == first["sweep"]
    assert again["seconds_each"] is None


def test_other_noise_makes_only_what_it_changes_anew(
    tmp_path: Path, space: Any, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"corpora": corpora, "cache": tmp_path / "cache"}
    evaluate(_suite(tmp_path), space, **options)
    path = space.folder / "heads/image/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "sigma": {**config["sigma"], "speech": 9.0}}))
    asked: list[str] = []

    def counted(*arguments: Any, modality: str, **rest: Any) -> Any:
        asked.append(modality)
        return generate(*arguments, modality=modality, **rest)

    monkeypatch.setattr(samples, "generate", counted)
    again = evaluate(_suite(tmp_path), MediaSpace(space.folder), **options)
    assert set(asked) <= {"speech"}
    assert again["heads"]["image"] != space.generators["image"].digest  # the report names what was measured


def test_sounds_are_measured_by_a_judge_of_few_concepts(tmp_path: Path, space: Any, corpora: Path) -> None:
    entry = evaluate(_suite(tmp_path, "audio"), space, tmp_path / "out", corpora=corpora, cache=None)
    rows = {(row["system"], row["source"], row["family"]): row for row in entry["rows"]}
    row = rows["generated", "text", "flow"]
    assert row["prompts"] == 6 and "recall_at_10" not in row  # of eight words the judge knows six
    assert row["frechet_distance"] >= 0
    assert (tmp_path / "out/tiny_audio.held-in-words.a-picture.png").exists()


def test_a_reconstruction_is_what_the_autoencoder_keeps(space: Any) -> None:
    head: Any = space.generators["image"]
    medium = Pictures(head)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    (kept,) = reconstruct(head, medium, [picture])
    with torch.inference_mode():
        inputs = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        out = head.autoencoder.decode(head.autoencoder.encode(inputs))[0].permute(1, 2, 0)
    assert np.abs(kept.astype(int) - ((out.clamp(-1, 1).numpy() + 1) * 127.5)).max() <= 0.51


def test_the_unconditional_depend_on_their_own_seed_alone(space: Any) -> None:
    head: Any = space.generators["image"]
    both = unconditional(head, Pictures(head), "flow", [3, 4])
    (alone,) = unconditional(head, Pictures(head), "flow", [4])
    assert np.abs(both[1].astype(int) - alone).max() <= 1
    assert np.abs(both[0].astype(int) - alone).max() > 1


def test_a_training_item_and_its_mirror_image_are_found(space: Any) -> None:
    head: Any = space.generators["image"]
    pictures = [np.random.default_rng(n).integers(0, 256, (16, 16, 3)).astype(np.uint8) for n in range(3)]
    index = TrainingIndex(head, Pictures(head))
    index.add([f"more/{n}" for n in range(3)], index.rows_of(pictures))
    numbers, likeness = index.nearest([pictures[1], pictures[2][:, ::-1].copy()])
    assert [index.items[n] for n in numbers] == ["more/1", "more/2"]
    assert likeness == pytest.approx(1.0, abs=1e-5)
    assert len(index) == len(WORDS) + 3


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('to = "image"', 'to = "text"', "to must be"),
        ("seeds = [0, 1]", "seeds = [0, 2]", "seeds must follow"),
        ('reference = "real"', 'reference = "nothing"', "no set 'nothing'"),
        ('"a picture" = "held"', '"a picture" = "no"', "no set 'no'"),
        ('items = "words"\nreal', 'items = "real"\nreal', "must be of modality 'text'"),
        ('name = "Held-in words"', 'nam = "Held-in words"', "unknown key 'nam'"),
        ("gallery = 20", 'folder = "x"', "unknown key 'folder'"),
        ('families = ["flow", "vae", "gan"]', "families = []", "names no family"),
        ("gallery = 20", "alone = true", "give candidates = 2 or more"),
        ("gallery = 20", "start = 1.0", "start must be 0 to 0.95"),
    ],
)
def test_a_wrong_suite_is_refused(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = _suite(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=what):
        load_media_suite(path)


def test_an_unknown_kind_or_judge_is_refused(tmp_path: Path, space: Any, corpora: Path) -> None:
    path = _suite(tmp_path)
    path.write_text(path.read_text().replace('kind = "media"', 'kind = "film"'))
    with pytest.raises(ConfigError, match="unknown kind 'film'; known: captions media matrix"):
        evaluate(path, space, corpora=corpora)
    path = _suite(tmp_path)
    path.write_text(path.read_text().replace("colour_judge:load", "colour_judge:no"))
    with pytest.raises(ConfigError, match="run from the repository's root"):
        evaluate(path, space, corpora=corpora)


def test_the_shipped_suites_load() -> None:
    for name in ("generation_images", "generation_sounds", "families"):
        assert load_media_suite(SUITES / f"{name}.toml").name == name


def test_a_curve_without_distances_is_drawn_too(tmp_path: Path) -> None:
    sweep = [{"guidance_scale": g, "top_1": [0.1, 0.0, 0.2], "near_copies": [0.0, 0.0, 0.0]} for g in (1.0, 2.0)]
    path = report.draw_sweep({"generation_suite": "x", "sweep": sweep}, tmp_path / "curve.png")
    with Image.open(path) as drawn:
        assert np.asarray(drawn.convert("L")).std() > 0


def test_a_ratio_to_nothing_is_none_and_draws_without_hits_are_left_out(
    tmp_path: Path, space: Any, corpora: Path
) -> None:
    scorer = open_scorer(open_session(load_media_suite(_suite(tmp_path)), space, corpora, None, None))
    assert scorer.ratio(np.ones(3), np.zeros(3), "abc") is None
    value, low, high = scorer.ratio(np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]), "abc") or [0.0] * 3
    assert (value, low, high) == (1.0, 1.0, 1.0)


def test_near_copies_are_framed_in_red(tmp_path: Path) -> None:
    grey = np.full((16, 16, 3), 128, np.uint8)
    draw_sheet([[(grey, "own", False), (grey, "copy", True)]], ["source", "seed 0"], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        red = (np.abs(np.asarray(drawn.convert("RGB")).astype(int) - (215, 25, 28)).max(axis=2) < 12).sum(axis=0)
    half = len(red) // 2
    assert red[:half].sum() == 0 and red[half:].max() >= 16
