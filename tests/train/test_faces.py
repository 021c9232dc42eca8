"""Training what makes faces from voices: manifests, what is drawn, a run that goes on, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedspace.errors import ConfigError
from embedspace.generate.faces import FaceMaker
from embedspace.generate.faces.maker import picture_parts
from embedspace.generate.families.base import FamilyConfig
from embedspace.media.write import write_audio
from embedspace.train.generators.faces.pairs import FaceSet, encode_pairs, read_pairs
from embedspace.train.generators.faces.voices import FileVoices
from embedspace.train.generators.run import train_generator
from embedspace.train.loop import FitProgress

RATE = 16_000


def buzz(path: Path, pitch: float) -> str:
    """Write a second of a buzz: voices of a pitch are alike to the network, whoever has them."""
    time = np.arange(RATE) / RATE
    wave = 0.1 * np.sum([np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20)], axis=0)
    write_audio(path, wave.astype(np.float32), RATE)
    return path.name


def face(path: Path, colour: tuple[int, int, int]) -> str:
    Image.new("RGB", (96, 96), colour).save(path)
    return path.name


def listed(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Return a manifest of two speakers, a low red one and a high blue one; a third is there for validation alone."""
    low = [buzz(tmp_path / f"low{k}.wav", 100 + 5 * k) for k in range(3)]
    high = [buzz(tmp_path / f"high{k}.wav", 260 + 5 * k) for k in range(3)]
    red, blue = face(tmp_path / "red.png", (250, 20, 20)), face(tmp_path / "blue.png", (20, 20, 250))
    rows = [{"speech": name, "picture": red, "speaker": "low"} for name in low[:2]]
    rows += [{"speech": name, "speaker": "high"} for name in high[:2]] + [{"picture": blue, "speaker": "high"}]
    rows += [
        {"speech": low[2], "speaker": "low", "split": "val"},
        {"speech": high[2], "speaker": "high", "split": "test"},
    ]
    return listed(tmp_path, *rows)


def encoded(path: Path) -> FaceSet:
    return encode_pairs(read_pairs(path), picture_parts().autoencoder, 96, mirror=False, voices=FileVoices())[0]


def test_recordings_and_pictures_of_a_speaker_go_together(people: Path) -> None:
    pairs = read_pairs(people)
    assert {name: (len(one.speech), len(one.pictures)) for name, one in pairs.groups["train"].items()} == {
        "low": (2, 2),
        "high": (2, 1),
    }
    assert len(pairs.groups["val"]["low"].speech) == 1  # and the pictures of training
    found = encoded(people)
    config = FamilyConfig(batch_size=64, max_sigma=0.0, drop=0.0)
    latents, condition = found.draw(config, torch.Generator().manual_seed(0))
    red = latents[:, :, 6, 6] @ (found.latents[0, 0, :, 6, 6] - found.latents[0, 1, :, 6, 6])
    one_kind = condition.vector @ condition.vector[0] > 0
    assert 16 < int(one_kind.sum()) < 48  # each speaker as often
    split = (red > red.mean()) == one_kind
    assert bool(split.all()) or not bool(split.any())  # a voice never meets the other's face


def test_validation_voices_are_never_drawn(people: Path) -> None:
    found = encoded(people)
    drawn = found.draw(FamilyConfig(batch_size=256, max_sigma=0.0, drop=0.0), torch.Generator().manual_seed(1))[
        1
    ].vector
    known = torch.cat([found.voices["train"]])
    assert (drawn @ known.T).max(dim=1).values.min() > 0.99999
    held = found.held_out(FamilyConfig())
    assert held is not None and len(held[0]) == 1
    assert torch.allclose(held[1].vector, found.voices["val"])


def test_a_known_speakers_picture_of_a_later_split_is_never_learnt(people: Path, tmp_path: Path) -> None:
    with people.open("a") as file:
        row = {"speech": "low2.wav", "picture": face(tmp_path / "green.png", (20, 250, 20)), "speaker": "low"}
        file.write(json.dumps({**row, "split": "val"}) + "\n")
    found = encoded(people)
    green = found.latents[0, -1]
    drawn, _ = found.draw(FamilyConfig(batch_size=64, max_sigma=0.0), torch.Generator().manual_seed(0))
    assert not any(torch.equal(one, green) for one in drawn)
    held = found.held_out(FamilyConfig())
    assert held is not None and all(torch.equal(one, green) for one in held[0])


def test_a_later_voice_whose_pictures_cannot_be_read_takes_no_part(people: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with people.open("a") as file:
        row = {"speech": "high1.wav", "picture": "bad.png", "speaker": "third", "split": "val"}
        file.write(json.dumps(row) + "\n")
    held = encoded(people).held_out(FamilyConfig())
    assert held is not None and len(held[0]) == len(held[1].vector) == 1
    train = [line for line in people.read_text("utf-8").splitlines() if '"split"' not in line]
    people.write_text("\n".join([*train, json.dumps(row)]))
    assert encoded(people).held_out(FamilyConfig()) is None


def test_the_mean_weighs_speakers_alike(tmp_path: Path) -> None:
    many = [{"speech": buzz(tmp_path / f"a{k}.wav", 100), "speaker": "a"} for k in range(5)]
    red = face(tmp_path / "red.png", (250, 20, 20))
    one = {"speech": buzz(tmp_path / "b.wav", 300), "picture": red, "speaker": "b"}
    found = encoded(listed(tmp_path, *many, {"picture": red, "speaker": "a"}, one))
    voices = FileVoices()
    low, high = voices.of(tmp_path / "a0.wav"), voices.of(tmp_path / "b.wav")
    assert np.allclose(found.mean, (low + high) / 2, atol=1e-5)
    _, drawn = found.draw(FamilyConfig(batch_size=200, max_sigma=0.0, drop=0.0), torch.Generator().manual_seed(0))
    often = float(((drawn.vector @ found.voices["train"][-1]) > 0.9).float().mean())
    assert 0.4 < often < 0.6  # five recordings of one speaker, one of the other


def test_voices_are_dropped_and_blurred_as_often_as_asked(people: Path) -> None:
    found = encoded(people)
    random = torch.Generator().manual_seed(0)
    _, some = found.draw(FamilyConfig(batch_size=256, max_sigma=0.0, drop=0.25), random)
    assert 0.15 < float((some.vector == 0).all(dim=1).float().mean()) < 0.35
    _, blurred = found.draw(FamilyConfig(batch_size=64, max_sigma=0.5, drop=0.0), random)
    cosines = (blurred.vector @ found.voices["train"].T).max(dim=1).values
    assert float(cosines.min()) < 0.95 and float(blurred.sigma.max()) > 0.4


def test_mirror_images_are_those_from_left_to_right(tmp_path: Path) -> None:
    half = Image.new("RGB", (96, 96), (250, 20, 20))
    half.paste((20, 20, 250), (0, 0, 48, 96))
    half.save(tmp_path / "half.png")
    half.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "other.png")
    rows = [
        {"speech": buzz(tmp_path / f"{name}.wav", pitch), "picture": f"{name}.png"}
        for name, pitch in (("half", 100), ("other", 260))
    ]
    pairs = read_pairs(listed(tmp_path, *rows))
    found, _ = encode_pairs(pairs, picture_parts().autoencoder, 96, mirror=True, voices=FileVoices())
    assert found.latents.shape[:2] == (2, 2)
    assert torch.allclose(found.latents[1, 0], found.latents[0, 1], atol=1e-4)


def test_what_is_missing_is_left_out_and_named(people: Path) -> None:
    with people.open("a") as file:
        for row in (
            {"speech": "gone.wav", "speaker": "low"},
            {"speech": "low0.wav"},
            {"picture": "red.png"},
            {"speaker": "low"},
        ):
            file.write(json.dumps(row) + "\n")
        file.write("{broken\n")
    skipped = read_pairs(people).skipped
    assert [line.split(": ", 1)[0] for line in skipped] == [f"people.jsonl:{k}" for k in range(8, 13)]
    assert "speech gone.wav: no such file" in skipped[0]
    assert "has no picture, and no speaker whose picture it could go with" in skipped[1]
    assert "has no speech" in skipped[2] and "neither speech nor picture" in skipped[3]


def test_manifests_that_say_too_little_are_refused_in_a_line(people: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.jsonl"):
        read_pairs(tmp_path / "gone.jsonl")
    path = listed(tmp_path, {"speech": "low0.wav", "picture": "red.png", "split": "dev"})
    with pytest.raises(ConfigError, match="split 'dev': must be one of train, val, test"):
        read_pairs(path)
    path = listed(tmp_path, {"speech": "low0.wav", "picture": "red.png"}, {"speech": "none.wav", "picture": "red.png"})
    with pytest.raises(ConfigError, match=r"1 speakers .* at least 2 .* 1 of 2 rows were left out, .*none\.wav"):
        read_pairs(path)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    rows = [{"speech": "low0.wav", "picture": "red.png"}, {"speech": "high0.wav", "picture": "bad.png"}]
    with pytest.raises(ConfigError, match=r"fewer than 2 speakers are left.*bad\.png"):
        encoded(listed(tmp_path, *rows))


def recipe(folder: Path, pairs: Path, steps: int = 2, families: str = "") -> Path:
    path = folder / "faces.toml"
    gan = "[faces.families.gan]\nchannels = 8\ncritic_channels = 8\nnoise_dim = 4\nbatch_size = 4\n"
    text = f'kind = "faces"\n[faces]\npairs = "{pairs}"\nabout = "two buzzes"\n{families or gan + f"steps = {steps}"}\n'
    path.write_text(text)
    return path


def test_a_run_goes_on_and_is_opened(people: Path, tmp_path: Path) -> None:
    told: list[FitProgress] = []
    out = tmp_path / "run"
    train_generator(recipe(tmp_path, people), out=out, callback=told.append)
    first = json.loads((out / "generator/config.json").read_text())
    folder = train_generator(recipe(tmp_path, people, steps=4), out=out, resume=True, callback=told.append)
    config = json.loads((folder / "config.json").read_text())
    assert (first["trained"]["steps"], config["trained"]["steps"]) == (2, 4)
    assert config["family"]["type"] == "gan" and config["family"]["neighbours"] == 0
    maker = FaceMaker.from_pretrained(folder)
    assert maker.about == "two buzzes"
    voice = FileVoices(out / "voices.npz").of(people.parent / "low0.wav")
    assert np.asarray(maker.make(voice)[0].content).shape == (96, 96, 3)
    assert json.loads((folder / "recipe.json").read_text())["faces"]["pairs"] == str(people)


def test_another_manifest_than_the_recipes(people: Path, tmp_path: Path) -> None:
    made = train_generator(recipe(tmp_path, Path("nowhere.jsonl")), out=tmp_path / "run", pairs=people)
    assert (made / "network.safetensors").is_file()
    lips = tmp_path / "lips.toml"
    lips.write_text('kind = "lips"\n')
    with pytest.raises(ConfigError, match="learns from no pairs"):
        train_generator(lips, out=tmp_path / "run2", pairs=people)


def test_one_family_alone(people: Path, tmp_path: Path) -> None:
    both = "[faces.families.gan]\nsteps = 2\n[faces.families.vae]\nsteps = 2"
    with pytest.raises(ConfigError, match="2 families; name one"):
        train_generator(recipe(tmp_path, people, families=both), out=tmp_path / "run")


def test_voices_are_encoded_once(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = FileVoices(tmp_path / "voices.npz")
    row = voices.of(people.parent / "low0.wav")
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-5)
    voices.save()
    again = FileVoices(tmp_path / "voices.npz")
    monkeypatch.setattr("embedspace.train.generators.faces.voices.load_audio", None)  # nothing is read any more
    assert (again.of(people.parent / "low0.wav") == row).all()
    with pytest.raises(TypeError):
        again.of(people.parent / "high0.wav")


def test_all_of_a_recording_is_heard_and_a_changed_one_again(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    time = np.arange(24 * RATE) / RATE
    wave = np.zeros_like(time)
    for k in range(1, 20):
        wave += np.sin(2 * np.pi * np.where(time < 12, 100, 260) * k * time) / k
    write_audio(path, (0.1 * wave).astype(np.float32), RATE)
    voices = FileVoices()
    both = voices.of(path)
    write_audio(path, (0.1 * wave[: 12 * RATE]).astype(np.float32), RATE)
    low = voices.of(path)
    write_audio(path, (0.1 * wave[12 * RATE :]).astype(np.float32), RATE)
    high = voices.of(path)
    assert float(low @ high) < 0.95
    assert float(both @ (low + high)) / float(np.linalg.norm(low + high)) > 0.99
