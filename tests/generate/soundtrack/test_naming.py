"""What strikes is named first, and its sound bears that name; what ships fits together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.errors import WeightsError
from embedspace.generate.base import Sample
from embedspace.generate.soundtrack import FoundSound, soundtrack
from embedspace.generate.soundtrack.naming import SHIPPED, SoundNames, load_names
from embedspace.generate.soundtrack.sounds import GallerySounds, MadeSounds, _drawn, sound_of_views
from embedspace.vocabulary import SHIPPED_GENERATORS, Neighbour

MIDDLE = np.array([0.6, 0.0, 0.0, 0.0], np.float32)


def _names() -> SoundNames:
    rows = np.eye(4, dtype=np.float32)[1:]
    return SoundNames(("a bell", "a cow", "a saw"), (("b1",), ("c1", "c2"), ("s1",)), rows, MIDDLE, "eyes")


def _views(*places: int) -> NDArray[np.float32]:
    rows = np.stack([MIDDLE + 0.5 * np.eye(4)[place] for place in places])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class _Clicks:
    name = "clicks"

    def find(self, vector: NDArray[np.float32], modality: str, seed: int) -> FoundSound:
        return FoundSound(f"a click of {modality}", "click", 0.5, np.zeros(100, np.float32), 16_000)


class _Generator:
    class neighbours:  # noqa: N801
        items = ("b1", "c2", "c1")

    class spectrogram:  # noqa: N801
        sample_rate = 16_000

    def neighbour_media(self, vector: NDArray[np.float32], k: int) -> list[object]:
        raise AssertionError("a name was there")

    def item_media(self, item: str) -> tuple[NDArray[np.float32], str]:
        return np.full(100, {"b1": 0.1, "c1": 0.2, "c2": 0.3}[item], np.float32), f"sound {item}"


class _Space:
    class calibration:  # noqa: N801
        means: ClassVar[dict[str, NDArray[np.float32]]] = {}

    def __init__(self, eyes: str = "eyes") -> None:
        self.generators, self._eyes = {"audio": _Generator()}, eyes

    def fingerprints(self) -> dict[str, str]:
        return {"image": self._eyes}


def test_the_name_of_most_views_wins_and_says_how_sure_it_is() -> None:
    names = _names()
    sure, torn = names.of(_views(2, 2, 2)), names.of(_views(2, 2, 1))
    assert sure.name == torn.name == "a cow"
    assert sure.probability > 0.99 and torn.probability == pytest.approx(2 / 3, abs=0.02)
    assert sure.similarity > torn.similarity > 0


def test_what_all_pictures_have_in_common_names_nothing() -> None:
    rows = np.eye(4, dtype=np.float32)
    names = SoundNames(("a hum", "a bell", "a cow", "a saw"), (("h",), ("b",), ("c",), ("s",)), rows, MIDDLE, "eyes")
    assert names.of(_views(2)).name == "a cow"


def test_a_seed_draws_among_the_nearest_four(monkeypatch: pytest.MonkeyPatch) -> None:
    items = tuple("abcdef")
    many = SoundNames(("a cow",), (items,), np.eye(4, dtype=np.float32)[2:3], MIDDLE, "eyes")
    monkeypatch.setattr("embedspace.generate.soundtrack.sounds.load_names", lambda: many)
    asked: list[int] = []

    class Gallery(_Generator):
        class neighbours:  # noqa: N801
            items = tuple("abcdef")

        def item_media(self, item: str) -> tuple[NDArray[np.float32], str]:
            return np.zeros(9, np.float32), item

        def neighbour_media(self, vector: NDArray[np.float32], k: int) -> list[Any]:
            asked.append(k)
            return [(Neighbour(item, item, 0.5), np.zeros(9, np.float32)) for item in items[:k]]

    space = _Space()
    space.generators = {"audio": Gallery()}
    bank = GallerySounds(space)  # type: ignore[arg-type]
    assert {bank.seen(_views(2), seed).item for seed in range(1, 60)} == set("abcd")
    found = [bank.find(_views(2)[0], "image", seed).item for seed in range(60)]
    assert found[0] == "a" and set(found) == set("abcd") and asked == [1, *[4] * 59]


def test_names_without_a_sound_take_no_part() -> None:
    kept = _names().among(["b1", "c2"])
    assert kept is not None and kept.names == ("a bell", "a cow") and kept.items_of("a cow") == ("c2",)
    assert kept.of(_views(3)).name != "a saw"
    assert _names().among(["other"]) is None
    last = _names().among(["s1", "c1"])  # vectors go with their names
    assert last is not None and last.names == ("a cow", "a saw") and last.of(_views(3)).name == "a saw"


def test_a_sound_of_the_name_is_chosen_the_most_like_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.generate.soundtrack.sounds.load_names", _names)
    bank = GallerySounds(_Space())  # type: ignore[arg-type]
    found = sound_of_views(bank, _views(2, 2), 0)
    assert found.item == "c1" and found.name == "sound c1" and found.named is not None
    assert found.named.name == "a cow" and float(found.waveform[0]) == pytest.approx(0.2)
    assert {bank.seen(_views(2), seed).item for seed in range(1, 20)} == {"c1", "c2"}
    with pytest.raises(AssertionError, match="a name was there"):  # other eyes: found by the vector, as ever
        GallerySounds(_Space("other")).seen(_views(2), 0)  # type: ignore[arg-type]


def test_a_seed_draws_near_sounds_more_often_than_far_ones() -> None:
    drawn = [_drawn([0.5, 0.45, 0.2], seed) for seed in range(1, 200)]
    counts = np.bincount(drawn, minlength=3)
    assert counts[0] > 2 * counts[1] > 0 and counts[2] < 5
    assert _drawn([0.2, 0.5], 0) == 0


def test_made_sounds_are_asked_for_by_the_name_and_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.generate.soundtrack.sounds.load_names", _names)
    asked: list[tuple[str, int, str]] = []

    def made(space: object, vector: NDArray[np.float32], **options: Any) -> list[list[Sample]]:
        asked.append((options["modality"], options["request"].seed, options["to"]))
        near = Neighbour("i", "a moo", 0.5)
        return [[Sample("audio", vector, 0, sample_rate=16_000, neighbours=(near,))]]

    monkeypatch.setattr("embedspace.generate.soundtrack.sounds.generate", made)
    space = _Space()
    space.encode_text = lambda texts: np.full((1, 4), len(texts[0]), np.float32)  # type: ignore[attr-defined]
    found = MadeSounds(space).seen(_views(2, 2), 7)  # type: ignore[arg-type]
    assert asked == [("text", 7, "audio")] and float(found.waveform[0]) == len("a cow")
    assert found.name == "a cow" and found.named is not None and found.item == "made, seed 7"


def test_a_bank_without_names_is_asked_by_the_vector() -> None:
    found = sound_of_views(_Clicks(), _views(2), 0)
    assert found.name == "a click of image" and found.named is None


def test_an_event_says_what_was_seen_in_it() -> None:
    found = FoundSound("a cow", "c1", 0.4, np.zeros(10, np.float32), 16_000, _names().of(_views(2)))
    event = soundtrack.SoundEvent(1.0, found.name, found.item, found.similarity, 1.0, 0.0, found.named)
    said = event.as_json()["named"]
    assert said["name"] == "a cow" and 0.99 < said["probability"] <= 1 and 0 < said["similarity"] <= 1
    assert "named" not in soundtrack.SoundEvent(1.0, "x", "x", 0.4, 1.0, 0.0).as_json()


def test_names_come_back_from_their_files_and_damage_is_said(tmp_path: Path) -> None:
    names = _names()
    names.save(tmp_path, {"seed": 0})
    again = load_names(tmp_path)
    assert again.names == names.names and again.items == names.items and again.encoder == "eyes"
    assert again.vectors == pytest.approx(names.vectors, abs=1e-3)
    listed = json.loads((tmp_path / "names.json").read_text("utf-8"))
    (tmp_path / "names.json").write_text(json.dumps({**listed, "names": listed["names"][:2]}))
    load_names.cache_clear()
    with pytest.raises(WeightsError, match="2 names, 3 lists of items and 3 vectors"):
        load_names(tmp_path)
    (tmp_path / "names.json").write_text(json.dumps(listed))
    (tmp_path / "names.safetensors").write_bytes(b"nothing")
    load_names.cache_clear()
    with pytest.raises(WeightsError, match=r"names\.safetensors: not the vectors of names"):
        load_names(tmp_path)


def test_names_that_ship_have_sounds_and_belong_to_the_eyes_that_ship() -> None:
    from embedspace.space import EmbeddingSpace

    names = load_names(SHIPPED)
    gallery = json.loads((SHIPPED_GENERATORS / "audio/gallery.json").read_text("utf-8"))
    captions = dict(zip(gallery["items"], gallery["captions"], strict=True))
    for name, own in zip(names.names, names.items, strict=True):
        assert own and all(captions[item].startswith(name) for item in own)
    assert names.encoder == EmbeddingSpace.from_pretrained().fingerprints()["image"]
    assert np.linalg.norm(names.vectors, axis=1) == pytest.approx(np.ones(len(names.names)), abs=2e-3)
