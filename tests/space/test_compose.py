"""Spaces composed of towers, on small random checkpoints in the formats that people publish: a CLIP and a CLAP."""

from __future__ import annotations

import itertools
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.encoders.towers.registry import create_tower
from embedspace.errors import ConfigError, FingerprintMismatchError, InputError, UnknownModalityError, WeightsError
from embedspace.query.composition import compose
from embedspace.segment import Segment
from embedspace.space import EmbeddingSpace
from embedspace.space.compose import _texts
from embedspace.space.open import PRESETS
from embedspace.space.recipe import read_recipe
from tests.support.towers import noise, picture, tiny_clap, tiny_open_clip

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
]

RATE = 48_000
DATA = Path(__file__).parents[1] / "data"
WORDS = ("dog", "bell", "rain", "street", "fox", "drum", "leaf", "boat", "moon", "hill", "cup", "door", "owl", "sea")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, texts to connect by, and unlabelled sounds."""
    folder = tmp_path_factory.mktemp("composed")
    tiny_open_clip(folder / "clip")
    tiny_clap(folder / "clap")
    (folder / "words.txt").write_text("\n".join(f"{a} {b}" for a, b in itertools.product(WORDS, WORDS)))
    (folder / "sounds").mkdir()
    for seed in range(20):
        soundfile.write(folder / "sounds" / f"{seed}.wav", noise(seed, 0.3), RATE)
    (folder / "sounds" / "broken.wav").write_bytes(b"no sound")
    return folder


def recipe(files: Path, **changes: Any) -> dict[str, Any]:
    """What the tests' space is made of."""
    return {
        "anchor": "clip",
        "towers": {
            "clip": {"model": f"open_clip:local-dir:{files / 'clip'}", "modalities": ["text", "image"]},
            "clap": {
                "model": f"transformers:{files / 'clap'}",
                "modalities": ["text", "audio"],
                "window_seconds": 5.0,
            },
        },
        "connect": {"clap": {"method": "procrustes", "texts": ["words.txt"], "centre": "sounds/*"}},
        "folder": str(files),
        **changes,
    }


@pytest.fixture(scope="module")
def space(files: Path) -> EmbeddingSpace:
    return EmbeddingSpace.compose(recipe(files))


@pytest.fixture(scope="module")
def saved(space: EmbeddingSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return space.save(tmp_path_factory.mktemp("saved") / "space")


def segments(space: EmbeddingSpace, source: Any, kind: str) -> list[Segment]:
    return space.encode_decoded([space.decode(source, kind)])[0]


def test_a_composed_space_says_what_it_takes(space: EmbeddingSpace) -> None:
    assert space.modalities == ("text", "image", "audio", "video")
    assert (space.supports("audio"), space.supports("speech"), space.embed_dim) == (True, False, 16)
    with pytest.raises(UnknownModalityError, match="this space has no speech encoder; it has: text, image, audio"):
        space.encode_speech(noise(0, 1), RATE)


def test_rows_do_not_depend_on_their_batch(space: EmbeddingSpace) -> None:
    batches: dict[str, list[Any]] = {
        "text": ["a dog", "a bell in the rain", "x"],
        "image": [picture(0), picture(1, 33, 90), Image.fromarray(picture(2)).convert("RGBA")],
        "audio": [(noise(0, 0.4), RATE), (noise(1, 3), RATE), (noise(2, 4.9, 44_100), 44_100)],
    }
    for modality, items in batches.items():
        together = space.encode([{modality: item} for item in items])
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        for row, item in zip(together, items, strict=True):
            np.testing.assert_allclose(space.encode({modality: item})[0], row, atol=1e-5)


def test_what_the_presets_connect_by_is_kept_whole(files: Path, tmp_path: Path) -> None:
    presets = [tomllib.loads(path.read_text())["connect"] for path in PRESETS.glob("*.toml")]
    (method,) = {connector["method"] for connect in presets for connector in connect.values()}
    made = EmbeddingSpace.compose(recipe(files, connect={"clap": {"method": method, "texts": ["words.txt"]}}))
    opened = EmbeddingSpace.from_pretrained(made.save(tmp_path / "space"))
    assert opened.fingerprints() == made.fingerprints()
    sounds = [{"audio": (noise(seed, 0.4), RATE)} for seed in range(3)]
    together = made.encode(sounds)
    for row, sound in zip(together, sounds, strict=True):
        np.testing.assert_allclose(opened.encode(sound)[0], row, atol=1e-5)


def test_the_anchors_rows_are_its_own(space: EmbeddingSpace, files: Path) -> None:
    tower = create_tower(f"open_clip:local-dir:{files / 'clip'}")
    with torch.inference_mode():
        own = F.normalize(tower.encode("text", [tower.prepare("text", "a dog")]), dim=-1).numpy()
    np.testing.assert_array_equal(space.encode_text("a dog"), own)


def test_a_recording_is_cut_by_us_and_is_sound_alone(space: EmbeddingSpace) -> None:
    found = segments(space, (noise(0, 12), RATE), "audio")
    spans = [(segment.modality, round(segment.start or 0, 2), round(segment.end or 0, 2)) for segment in found]
    assert spans == [("audio", 0, 5), ("audio", 5, 10), ("audio", 10, 12)]


def test_beside_a_tower_of_sound_the_speech_that_ships_says_who_speaks(files: Path) -> None:
    changed = recipe(files)
    changed["towers"]["bundled"] = {"model": "embedspace:default", "modalities": ["text", "speech"]}
    changed["connect"]["bundled"] = {"method": "procrustes", "texts": ["words.txt"]}
    space = EmbeddingSpace.compose(changed)
    barks, said = segments(space, DATA / "page" / "dog.ogg", "audio"), segments(space, DATA / "penguin.ogg", "audio")
    assert {segment.modality for segment in barks} == {"audio"}
    assert {segment.modality for segment in said} == {"audio", "speech"}
    assert "penguin" in next(segment.text for segment in said if segment.modality == "speech").lower()
    asked = space.encode_decoded([space.decode(DATA / "page" / "dog.ogg", "audio", as_modality="speech")])[0]
    assert {segment.modality for segment in asked} == {"speech"}  # whoever asks for speech gets it


def test_a_long_text_becomes_passages_that_the_tower_keeps_whole(space: EmbeddingSpace) -> None:
    text = " ".join(f"{WORDS[k % 14]}{k}" for k in range(200))
    found = segments(space, text, "text")
    tower = space.tower("clip")
    assert len(found) > 5
    assert all(tower.count_tokens(segment.text) <= 77 for segment in found)
    reached = 0
    for segment in found:
        assert (segment.start or 0) <= reached + 1
        reached = int(segment.end or 0)
    assert reached == len(text)


def test_index_search_save_and_reopen(space: EmbeddingSpace, saved: Path, files: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for seed in range(3):
        Image.fromarray(picture(seed)).save(media / f"{seed}.png")
    shutil.copyfile(files / "sounds" / "0.wav", media / "0.wav")
    (media / "note.txt").write_text("rain on the street")
    made = {"embed_dim": 16, "fingerprints": space.fingerprints(), "calibration_json": space.calibration_json()}
    with Catalog.create(tmp_path / "catalog", **made) as catalog:
        report = ingest(catalog, [media], space)
        assert (report.added, report.failed) == (5, [])
    again = EmbeddingSpace.from_pretrained(saved)
    assert again.fingerprints() == space.fingerprints()
    with Catalog.open(tmp_path / "catalog", read_only=True) as catalog:
        catalog.check_fingerprint(again.fingerprints())
        for name, kind in (("1.png", "image"), ("0.wav", "audio"), ("note.txt", "text")):
            query = compose(str(media / name), again)
            (hits,) = catalog.search(query.vector, query_modality=query.modality, k=5)
            own = next(hit for hit in hits if hit.kind == kind)
            assert Path(own.uri).name == name
            assert own.score == pytest.approx(1.0, abs=1e-3)  # a catalog keeps coarse vectors
            assert [hit.probability for hit in hits] == [None] * 5  # no validation pairs: none is invented
        other = EmbeddingSpace.compose(recipe(files, connect={"clap": {"method": "ridge", "texts": ["words.txt"]}}))
        with pytest.raises(FingerprintMismatchError, match="audio"):
            catalog.check_fingerprint(other.fingerprints())


def test_saved_rows_are_the_same(space: EmbeddingSpace, saved: Path) -> None:
    again = EmbeddingSpace.from_pretrained(saved)
    np.testing.assert_array_equal(again.encode_audio(noise(3, 6), RATE), space.encode_audio(noise(3, 6), RATE))
    np.testing.assert_array_equal(again.encode_image([picture(5)]), space.encode_image([picture(5)]))
    stored = json.loads((saved / "config.json").read_text())
    assert not list(saved.glob("*.safetensors"))
    assert set(stored["towers"]["clip"]) >= {"name", "revision", "files", "preprocessing", "digest"}
    report = json.loads((saved / "composed.json").read_text())["connectors"]["clap"]
    assert report["media"] == {"audio": 20}
    assert EmbeddingSpace.from_pretrained(again.save(saved.parent / "twice")).fingerprints() == space.fingerprints()


def test_copied_towers_need_nothing_else(files: Path, space: EmbeddingSpace, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(files, tmp_path / "files"))
    made = EmbeddingSpace.compose(recipe(moved))
    folder = made.save(tmp_path / "space", copy_towers=True)
    shutil.rmtree(moved)
    again = EmbeddingSpace.from_pretrained(shutil.move(folder, tmp_path / "elsewhere"))
    assert again.fingerprints() == space.fingerprints()
    np.testing.assert_array_equal(again.encode_text("a dog"), space.encode_text("a dog"))
    np.testing.assert_array_equal(again.encode_audio(noise(0, 1), RATE), space.encode_audio(noise(0, 1), RATE))


def test_changed_or_missing_towers_are_refused(files: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(files, tmp_path / "files"))
    folder = EmbeddingSpace.compose(recipe(moved)).save(tmp_path / "space")
    weights = moved / "clip" / "open_clip_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor + 0.5 for name, tensor in tensors.items()}, weights)
    with pytest.raises(WeightsError, match="is not the one that this space was made with"):
        EmbeddingSpace.from_pretrained(folder).encode_text("a dog")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError) as caught:
        EmbeddingSpace.from_pretrained(folder).encode_text("a dog")
    assert "\n" not in str(caught.value)
    shutil.rmtree(moved / "clip")
    with pytest.raises(WeightsError, match="clip"):
        EmbeddingSpace.from_pretrained(folder).encode_text("a dog")


def test_a_changed_or_unlike_connector_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "space"))
    weights = folder / "connectors" / "clap.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"clap\.safetensors: its checksum is not the one in"):
        EmbeddingSpace.from_pretrained(folder).encode_audio(noise(0, 1), RATE)
    weights.unlink()
    with pytest.raises(WeightsError, match=r"clap\.safetensors"):
        EmbeddingSpace.from_pretrained(folder).encode_audio(noise(0, 1), RATE)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"anchor": "clop"}, ConfigError, "anchor 'clop' is no tower; it has: clip, clap"),
        ({"colour": 1}, ConfigError, "compose: unknown key 'colour'"),
        ({"connect": {}}, ConfigError, "tower 'clap' is not connected to the anchor 'clip': add a table connect.clap"),
        ({"connect": {"clip": {}}}, ConfigError, "connect.clip: name a tower other than the anchor"),
        ({"connect": {"clap": {"method": "magic", "texts": ["words.txt"]}}}, ConfigError, "method 'magic': known are"),
        ({"connect": {"clap": {"texts": ["none.txt"]}}}, InputError, r"none\.txt: cannot read the texts"),
        (
            {"connect": {"clap": {"texts": ["words.txt"], "centre": "pictures/*"}}},
            InputError,
            "no audio there to take the centre of",
        ),
        ({"connect": {"clap": {"settings": {"speed": 1}, "texts": ["words.txt"]}}}, ConfigError, "speed"),
        ({"connect": {"clap": {"fitted": "connectors/none"}}}, WeightsError, "no such connector"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(
    files: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        EmbeddingSpace.compose(recipe(files, **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"method": "magic"}, "connect.clap: method 'magic'"), ({"texts": ["none.txt"]}, r"none\.txt: cannot read")],
)
def test_a_connection_is_checked_before_a_network_is_loaded(files: Path, how: dict[str, Any], message: str) -> None:
    made = recipe(files, connect={"clap": how})
    towers = {name: {**tower, "model": "transformers:gone"} for name, tower in made["towers"].items()}
    with pytest.raises((ConfigError, InputError), match=message):
        EmbeddingSpace.compose({**made, "towers": towers})


@pytest.mark.parametrize(
    ("tower", "error", "message"),
    [
        ({"model": "telepathy:x"}, ConfigError, "unknown tower 'telepathy:x'; known: "),
        ({"model": "transformers:nobody/nothing"}, WeightsError, "nothing is downloaded unless asked"),
        ({"model": "minilm_l6", "modalities": ["text", "smell"]}, ConfigError, "unknown modality 'smell'; known: "),
        ({"model": "minilm_l6", "modalities": ["audio"]}, UnknownModalityError, "takes no audio; it takes: text"),
        ({"modalities": ["audio"]}, ConfigError, "'model' is missing"),
    ],
)
def test_a_wrong_tower_is_refused_in_one_line(
    files: Path, tower: dict[str, Any], error: type[Exception], message: str
) -> None:
    made = recipe(files)
    with pytest.raises(error, match=message) as caught:
        EmbeddingSpace.compose({**made, "towers": {"clip": made["towers"]["clip"], "clap": tower}})
    assert "\n" not in str(caught.value)


def test_two_towers_may_not_serve_one_modality(files: Path) -> None:
    made = recipe(files)
    twice = {**made["towers"], "other": made["towers"]["clip"]}
    with pytest.raises(ConfigError, match="image is served by two towers, 'clip' and 'other'"):
        EmbeddingSpace.compose({**made, "towers": twice})


def test_validation_pairs_give_probabilities(files: Path, tmp_path: Path) -> None:
    rows = []
    for seed in range(24):
        Image.fromarray(picture(seed)).save(tmp_path / f"{seed}.png")
        rows.append(json.dumps({"text": f"{WORDS[seed % 14]} {seed}", "image": f"{seed}.png"}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    towers = {"clip": recipe(files)["towers"]["clip"]}
    table = {"anchor": "clip", "towers": towers, "calibration": {"pairs": str(tmp_path / "pairs.jsonl")}}
    made = EmbeddingSpace.compose(table)
    assert set(made.calibration.pairs) == {"text>image", "image>text"}
    again = EmbeddingSpace.from_pretrained(made.save(tmp_path / "space"))
    assert again.calibration_json() == made.calibration_json()
    with pytest.raises(InputError, match="too few pairs to fit probabilities on"):
        (tmp_path / "few.jsonl").write_text(rows[0])
        EmbeddingSpace.compose({**table, "calibration": {"pairs": str(tmp_path / "few.jsonl")}})


def test_a_file_says_the_same_as_a_mapping(files: Path, space: EmbeddingSpace) -> None:
    path = files / "space.toml"
    path.write_text(
        'anchor = "clip"\n'
        '[towers.clip]\nmodel = "open_clip:local-dir:clip"\nmodalities = ["text", "image"]\n'
        '[towers.clap]\nmodel = "transformers:clap"\nmodalities = ["text", "audio"]\nwindow_seconds = 5.0\n'
        '[connect.clap]\nmethod = "procrustes"\ntexts = ["words.txt"]\ncentre = "sounds/*"\n'
    )
    assert EmbeddingSpace.compose(path).fingerprints() == space.fingerprints()
    with pytest.raises(ConfigError, match="no such composed space"):
        EmbeddingSpace.compose(files / "none.toml")


def test_without_texts_the_names_that_ship_connect() -> None:
    made = read_recipe({"anchor": "a", "towers": {"a": {"model": "x:y", "modalities": ["text", "image"]},
                        "b": {"model": "x:z", "modalities": ["text", "audio"]}}, "connect": {"b": {}}})  # fmt: skip
    texts = _texts(made, made.connect["b"])
    assert len(texts) > 10_000 and "dog" in texts
    assert len(set(texts)) == len(texts)
