from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from embedspace.cli import generate as verb
from embedspace.generate.speech import voices
from tests.support.cli_media import Result, Run, make_run, picture, sound
from tests.support.generators import (
    SpaceWithGenerators,
    write_latent_generator,
    write_speech_generator,
    write_text_generator,
    write_vocabulary,
)


@pytest.fixture
def space(tmp_path: Path) -> SpaceWithGenerators:
    heads = tmp_path / "space" / "heads"
    write_text_generator(heads)
    write_speech_generator(heads)
    write_vocabulary(heads, threshold=0.9)
    return SpaceWithGenerators(tmp_path / "space")


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, space: SpaceWithGenerators
) -> Run:
    monkeypatch.chdir(tmp_path)
    inner = make_run(capsys, monkeypatch)

    def call(*arguments: object) -> Result:
        return inner("generate", *arguments, space=space)

    return call


@pytest.fixture
def voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let flite be installed, and say a tone."""
    file = io.BytesIO()
    soundfile.write(file, 0.2 * np.sin(np.arange(8000) / 9), 16_000, format="WAV")

    def say(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 0, file.getvalue(), b"")

    monkeypatch.setattr(voices.subprocess, "run", say)


def test_a_caption_is_printed_with_alternatives(run: Run, tmp_path: Path) -> None:
    result = run("--from", "a dog", "--to", "text")
    assert result.code == 0
    first, *others = result.out.splitlines()
    assert others and all(line.startswith("  ") for line in others)
    record = json.loads(run("--from", "a dog", "--to", "text", "--json").out)
    assert first == f"{record['text']}  ({record['score']:.2f})"
    assert record["terms"][0]["value"] == "a dog"
    assert record["path"] is None
    assert [*tmp_path.glob("*.txt")] == []


def test_a_caption_is_written_where_asked_with_its_record(run: Run, tmp_path: Path) -> None:
    assert run("--from", "a dog", "--to", "text", "--out", "dog.txt", "--seed", 4).code == 0
    record = json.loads((tmp_path / "dog.json").read_text())
    assert (tmp_path / "dog.txt").read_text() == record["text"] + "\n"
    assert (record["seed"], record["query"], len(record["weights"])) == (4, "a dog", 64)


def test_speech_is_named_after_its_source_and_carries_its_words(run: Run, voice: None, tmp_path: Path) -> None:
    picture(tmp_path / "photo.png")
    result = run("--from", tmp_path / "photo.png", "--to", "speech", "--voice", "flite:slt", "--force")
    assert result.code == 0
    assert result.out.startswith("photo.speech.wav  ")
    with soundfile.SoundFile(tmp_path / "photo.speech.wav") as file:
        about = json.loads(file.comment.partition("embedspace: ")[2])
    assert about["voice"] == "flite:slt"
    assert about["text"] in result.out
    assert about["terms"][0]["modality"] == "image"


def test_pictures_are_written_with_their_record_and_a_sheet(
    run: Run, space: SpaceWithGenerators, tmp_path: Path
) -> None:
    write_latent_generator(space.folder / "heads", "image")
    picture(tmp_path / "photo.png")
    options = ("--to", "image", "-n", 3, "--seed", 6, "--guidance", 2, "--steps", 2, "--size", 32, "--force")
    result = run("--from", tmp_path / "photo.png", *options, "--sheet", "sheet.png")
    assert result.code == 0
    assert result.out.splitlines() == [*(f"photo.image-{k}.png" for k in (1, 2, 3)), "sheet.png"]
    with Image.open(tmp_path / "photo.image-2.png") as made:
        about = json.loads(made.info["embedspace"])
        assert made.size == (32, 32)
    assert (about["seed"], about["guidance_scale"], about["family"], len(about["weights"])) == (7, 2.0, "flow", 64)
    assert about["terms"][0]["modality"] == "image"
    assert len(about["context"]) == 2
    assert about["nearest_output"]["item"].startswith("tiny/")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).std() > 0


def test_a_file_is_edited_and_what_is_masked_stays(run: Run, space: SpaceWithGenerators, tmp_path: Path) -> None:
    write_latent_generator(space.folder / "heads", "image")
    picture(tmp_path / "house.png")
    with Image.open(tmp_path / "house.png") as opened:
        before, (width, height) = np.asarray(opened.convert("RGB")), opened.size
    options = ("--from", "a dog", "--to", "image", "--force", "--init", "house.png", "--out", "new.png")
    assert run(*options, "--mask", f"0,0,{width},{height // 2}", "--strength", 0.9).code == 0
    with Image.open(tmp_path / "new.png") as made:
        about = json.loads(made.info["embedspace"])
        after = np.asarray(made.convert("RGB"))
    assert after.shape == before.shape
    np.testing.assert_array_equal(after[height // 2 :], before[height // 2 :])
    assert (about["init"], about["strength"], about["mask"]) == ("house.png", 0.9, f"0,0,{width},{height // 2}")
    result = run("--from", "a dog", "--to", "image", "--init", "house.png", "--out", "house.png", "--overwrite")
    assert result.code == 2
    assert "house.png: is what the sample is made from" in result.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mask", "auto"), "--mask auto: says how something is edited; name its file as init (--init)"),
        (("--init", "gone.png"), "gone.png: no such file"),
        (("--init", "house.png", "--strength", 2), "--strength 2: must be 0 to 1"),
        (("--init", "house.png", "--mask", "9,9,3,3"), "--mask '9,9,3,3': no box left,top,right,bottom"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_before_anything_loads(
    run: Run, tmp_path: Path, options: tuple[object, ...], said: str
) -> None:
    picture(tmp_path / "house.png")
    result = run("--from", "a dog", "--to", "image", "--out", "new.png", *options)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1


def test_a_morph_s_frames_stand_in_one_row(run: Run, space: SpaceWithGenerators, tmp_path: Path) -> None:
    write_latent_generator(space.folder / "heads", "image")
    options = ("--from", "a dog", "--to", "image", "--force", "--sheet", "sheet.png", "--overwrite")
    assert run(*options, "--morph", "a cat", "-n", 4).code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        whole = sheet.size
    assert run(*options, "-n", 4).code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == whole


def test_a_near_copy_is_called_one(run: Run, space: SpaceWithGenerators) -> None:
    write_latent_generator(space.folder / "heads", "image", options={"num_steps": 2, "copy_similarity": -1.0})
    result = run("--from", "a dog", "--to", "image", "--sheet", "sheet.png")
    assert result.out.splitlines() == ["a-dog.image.png  (near copy of a training item)", "sheet.png"]
    again = run("--from", "a dog", "--to", "image", "--json", "--overwrite")
    assert json.loads(again.out)["near_copy"] is True


def test_a_family_can_be_chosen_and_an_unknown_one_is_refused(
    run: Run, space: SpaceWithGenerators, tmp_path: Path
) -> None:
    write_latent_generator(space.folder / "heads", "image")
    options = ("--from", "a dog", "--to", "image", "--json", "--overwrite", "--family")
    assert json.loads(run(*options, "vae").out)["family"] == "vae"
    result = run(*options, "gan")
    assert result.code == 2
    assert "--family 'gan': the generator of image has flow, vae" in result.error


def test_sounds_are_as_long_as_asked(run: Run, space: SpaceWithGenerators, tmp_path: Path) -> None:
    write_latent_generator(space.folder / "heads", "audio")
    assert run("--from", "a dog", "--to", "audio", "--seconds", 0.9, "--out", "bark.wav", "-n", 2).code == 0
    for name in ("bark-1.wav", "bark-2.wav"):
        with soundfile.SoundFile(tmp_path / name) as file:
            assert (file.frames, file.samplerate) == (14_400, 16_000)
            assert json.loads(file.comment.partition("embedspace: ")[2])["seconds"] == 0.9


@pytest.mark.parametrize("source", ["a dog", "photo.png", "tone.wav", "said.wav"])
@pytest.mark.parametrize("target", ["image", "audio", "text", "speech"])
def test_all_sixteen_directions(
    run: Run, voice: None, space: SpaceWithGenerators, tmp_path: Path, source: str, target: str
) -> None:
    for modality in ("image", "audio"):
        write_latent_generator(space.folder / "heads", modality)
    picture(tmp_path / "photo.png")
    sound(tmp_path / "tone.wav")
    sound(tmp_path / "said.wav", frequency=300).with_suffix(".words").write_text("a cat")
    kind = ("--as", "speech") if source == "said.wav" else ("--as", "audio") if source == "tone.wav" else ()
    spoken = ("--voice", "flite:slt") if target == "speech" else ()
    result = run("--from", source, "--to", target, *kind, *spoken, "--force", "--out", f"made.{target}{_END[target]}")
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / f"made.{target}{_END[target]}").stat().st_size > 0


_END = {"image": ".png", "audio": ".wav", "text": ".txt", "speech": ".wav"}


def test_several_sources_and_samples_get_files_of_their_own(run: Run, voice: None, tmp_path: Path) -> None:
    options = ("--to", "speech", "--voice", "flite:slt", "-n", 2)
    assert run("--from", "a dog", "--from", "a cat", *options, "--out", "say.wav").code == 0
    assert {p.name for p in tmp_path.glob("*.wav")} == {"say-1-1.wav", "say-1-2.wav", "say-2-1.wav", "say-2-2.wav"}
    assert run("--from", "a dog", *options).out.splitlines()[1].startswith("a-dog.speech-2.wav")


def test_morph_goes_from_one_to_the_other(run: Run) -> None:
    result = run("--from", "a dog", "--morph", "a cat", "-n", 3, "--to", "text", "--json", "--force", "--neighbours", 1)
    records = [json.loads(line) for line in result.out.splitlines()]
    assert len(records) == 3
    near = [record["neighbours"][0]["caption"] for record in records]
    assert (near[0], near[2]) == ("a dog", "a cat")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--from", "a dog", "--to", "text", "-n", 0), "-n 0"),
        (("--from", "a dog", "--to", "text", "--steps", 0), "--steps 0"),
        (("--from", "a dog", "--to", "image", "--size", 4), "--size 4"),
        (("--from", "a dog", "--to", "image", "--candidates", 0), "--candidates 0"),
        (("--from", "a dog", "--to", "image", "--start", 1), "--start 1: must be 0 to 0.95"),
        (("--from", "a dog", "--to", "audio", "--start", 0), "--start 0.0: does not go with --to audio"),
        (("--from", "a dog", "--to", "audio", "--seconds", 0), "--seconds 0"),
        (
            ("--from", "a dog", "--to", "image", "--seconds", 2),
            "--seconds 2.0: does not go with --to image, which takes: "
            "--guidance, --steps, --family, --size, --start, --candidates",
        ),
        (("--from", "a dog", "--to", "smell"), "'smell' is not one of 'image', 'audio', 'text', 'speech'"),
        (("--from", "a dog", "--to", "audio", "--seconds", "inf"), "--seconds inf"),
        (("--from", "", "--to", "text"), "the query is empty"),
        (("--from", "missing.png", "--to", "text"), "missing.png"),
        (("--from", "a dog", "--to", "text", "--out", "none/x.txt"), "there is no folder"),
        (("--from", "a dog", "--to", "text", "--out", "."), "is a folder"),
        (("--from", "a dog", "--to", "text", "--out", "x.png"), ".txt or .json"),
        (("--from", "a dog", "--to", "image"), "this space has no generator of image"),
        (("--from", "zzz", "--to", "text"), "zzz: outside what the generator knows"),
        (("--from", "a dog", "--to", "text", "--morph", "a cat"), "at least 2 frames"),
        (("--from", "a dog", "--from", "a cat", "--morph", "grass", "-n", 4, "--to", "text"), "give one --from"),
        (("--from", "a dog", "--to", "text", "--sheet", "x.png"), "--sheet shows pictures"),
        (("--from", "a dog", "--to", "speech", "--voice", "smell:x"), "--voice 'smell:x': unknown; known"),
        (("--from", "a dog", "--to", "text", "--seconds", 2), "--seconds 2.0: does not go with --to text"),
        (("--from", "a dog", "--to", "text", "--voice", "flite:slt"), "which takes: --guidance, --steps, --family"),
        (("--from", "a dog", "--to", "speech", "--size", 64), "--size 64: does not go with --to speech"),
    ],
)
def test_mistakes_end_in_one_line(run: Run, arguments: tuple[object, ...], what: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert what in result.error


def test_a_silent_source_ends_in_one_line(run: Run, tmp_path: Path) -> None:
    sound(tmp_path / "still.wav", amplitude=0.0)
    result = run("--from", tmp_path / "still.wav", "--to", "text")
    assert result.code == 2
    assert "silent" in result.error


def test_an_interrupted_batch_keeps_what_is_finished(
    run: Run, voice: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, count = verb._generate, 0

    def stop_at_the_second(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return inner(*arguments)

    monkeypatch.setattr(verb, "_generate", stop_at_the_second)
    result = run("--from", "a dog", "--from", "a cat", "--to", "speech", "--voice", "flite:slt")
    assert result.code == 130
    assert "1 of 2 samples are finished" in result.error
    assert (tmp_path / "a-dog.speech.wav").is_file()
    assert not (tmp_path / "a-cat.speech.wav").exists()


def test_a_file_that_exists_is_kept_unless_told(run: Run, voice: None, tmp_path: Path) -> None:
    options = ("--from", "a dog", "--to", "speech", "--voice", "flite:slt")
    assert run(*options, "--out", "said.wav").code == 0
    before = (tmp_path / "said.wav").read_bytes()
    (tmp_path / "said.wav").write_bytes(b"mine")
    refused = run(*options, "--out", "said.wav")
    assert refused.code == 2 and "said.wav: exists; give another name with --out, or --overwrite" in refused.error
    assert (tmp_path / "said.wav").read_bytes() == b"mine"
    assert run(*options, "--out", "said.wav", "--overwrite").code == 0
    assert len((tmp_path / "said.wav").read_bytes()) == len(before)
    (tmp_path / "a-dog.speech.wav").write_bytes(b"mine")  # the name that it would get by itself
    assert "a-dog.speech.wav: exists" in run(*options).error


@pytest.mark.parametrize(
    ("taken", "options"),
    [
        ("made.json", ("--to", "text", "--out", "made.txt")),  # the record beside the words
        ("made-2.txt", ("--to", "text", "--out", "made.txt", "-n", 2)),
        ("made-1-1.txt", ("--to", "text", "--out", "made.txt", "-n", 2, "--from", "a cat")),
        ("made-3.txt", ("--to", "text", "--out", "made.txt", "-n", 3, "--morph", "a cat")),
        ("sheet.png", ("--to", "image", "--sheet", "sheet.png")),
        ("made.png", ("--to", "image", "--out", "made")),
    ],
)
def test_every_file_that_is_in_the_way_is_kept(
    run: Run, tmp_path: Path, taken: str, options: tuple[object, ...]
) -> None:
    (tmp_path / taken).write_bytes(b"mine")
    names = {path.name for path in tmp_path.iterdir()}
    assert f"{taken}: exists" in run("--from", "a dog", *options).error
    assert (tmp_path / taken).read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("link", ["", "hard", "soft"])
def test_a_source_is_never_written_over(run: Run, tmp_path: Path, link: str, overwrite: tuple[str, ...]) -> None:
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()
    out = tmp_path / ("b.png" if link else "a.png")
    if link == "hard":
        out.hardlink_to(source)
    elif link == "soft":
        out.symlink_to(source)
    result = run("--from", "2:a.png + a dog", "--to", "image", "--out", out, *overwrite)
    assert result.code == 2 and "is what the sample is made from" in result.error
    assert (
        "is what the sample is made from" in run("--from", "a.png", "--to", "image", "--sheet", out, *overwrite).error
    )
    assert source.read_bytes() == before


def test_two_sources_of_one_name_get_two_files(run: Run, voice: None, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "x.png")
    options = ("--to", "speech", "--voice", "flite:slt", "--force")
    assert run("--from", "one/x.png", "--from", "two/x.png", *options).code == 0
    assert {path.name for path in tmp_path.glob("*.wav")} == {"x.speech.wav", "x.speech-of-2.wav"}
