"""The second judge of pictures: its eyes, what it learns from, and how far it agrees with the first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.errors import ConfigError
from training.corpora import manifest
from training.corpora.manifest import Item, write_manifest
from training.judges import naming, pictures, pixels
from training.judges.decoded import through_autoencoder
from training.judges.shapes import Patches, as_input, colours, drawn_features, learn_patches, outlines, shapes

SIDE = naming.SIDE
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 210)}


def _striped(across: bool) -> NDArray[np.uint8]:
    bright = (np.arange(SIDE) // 4 % 2 * 255).astype(np.uint8)
    rows = np.broadcast_to(bright[None, :, None] if across else bright[:, None, None], (SIDE, SIDE, 3))
    return np.ascontiguousarray(rows)


def _square(colour: tuple[int, int, int], left: int = 30, top: int = 30, side: int = 36) -> NDArray[np.uint8]:
    drawn = np.full((SIDE, SIDE, 3), 255, np.uint8)
    drawn[top : top + side, left : left + side] = colour
    return drawn


def test_outlines_tell_upright_from_lying_and_not_how_strong_they_are() -> None:
    upright, lying = _striped(True), _striped(False)
    found = outlines(as_input([upright, lying, upright // 2]))
    # 7 x 7 blocks of 12 pixels' cells, four cells a block: bins of each cell, all of them together
    bins = found[:, : 7 * 7 * 36].unflatten(1, (9, 4, 49)).sum(dim=(2, 3))
    assert bins[0].argmax() == 0 and bins[0, 0] > 0.99 * bins[0].sum()
    assert set(bins[1].topk(2).indices.tolist()) == {4, 5}  # a quarter turn lies between them
    torch.testing.assert_close(found[2], found[0], atol=2e-2, rtol=0)
    assert (found[1] - found[0]).abs().max() > 0.1


def test_colours_are_means_of_a_grid_and_shares_of_the_picture() -> None:
    drawn = np.zeros((SIDE, SIDE, 3), np.uint8)
    drawn[:, : SIDE // 2] = (255, 0, 0)
    (found,) = colours(as_input([drawn]))
    grid = found[: 3 * 64].view(3, 8, 8)
    assert grid[0, :, :4].eq(1).all() and grid[0, :, 4:].eq(0).all() and grid[1:].eq(0).all()
    whole = found[3 * 64 : 3 * 64 + 64]
    assert whole[48].item() == pytest.approx(0.5**0.5) and whole[0].item() == pytest.approx(0.5**0.5)
    assert whole.square().sum().item() == pytest.approx(1.0)


def test_a_dictionary_learns_the_patches_that_there_are() -> None:
    dice = np.random.default_rng(0)
    taught = [_striped(bool(n % 2)) if n < 8 else _square(COLOURS["blue"], *dice.integers(5, 50, 2)) for n in range(16)]
    patches = learn_patches(taught, 12, 1)
    assert patches.centres.shape == (12, 108)
    again, other = learn_patches(taught, 12, 1), learn_patches(taught, 12, 2)
    assert patches.digest() == again.digest() != other.digest()
    seen = patches(as_input([_striped(True), _striped(False)])).view(2, 12, 9).sum(dim=2)
    assert seen[0].argmax() != seen[1].argmax()


def test_patches_answer_where_they_are() -> None:
    edge = np.zeros((SIDE, SIDE, 3), np.uint8)
    edge[:, 80:] = 255
    rows = torch.zeros(2, 108)
    rows[0] = torch.tensor([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]).repeat(18)  # dark left of bright
    (answer,) = Patches(torch.zeros(108), torch.eye(108), rows)(as_input([edge]))
    there = answer.view(2, 3, 3)[0]
    assert there[:, 2].min() > 0.1 and there[:, :2].max() == 0.0


def test_features_do_not_depend_on_what_is_seen_beside(rng: np.random.Generator) -> None:
    drawn = list(rng.integers(0, 255, (35, SIDE, SIDE, 3), dtype=np.uint8))
    patches = learn_patches(drawn[:4], 5, 0)
    together = shapes(drawn, patches)
    np.testing.assert_allclose(together[33], shapes(drawn[33:34], patches)[0], atol=1e-5)
    np.testing.assert_array_equal(together[:, : -5 * 9], drawn_features(drawn))


def test_what_went_through_the_autoencoder_is_alike_and_not_the_same() -> None:
    square = _square(COLOURS["red"])
    (kept,) = through_autoencoder([square])
    assert kept.shape == square.shape and kept.dtype == np.uint8
    assert 0 < np.abs(kept.astype(int) - square).mean() < 12


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of squares of three colours in every source that a judge learns from or is measured with."""
    dice = np.random.default_rng(4)
    for source in (*naming.SOURCES, *naming.JUDGED):
        rows = []
        splits = naming.SOURCES.get(source, ("train",)) + (("test",) if source == "stamps" else ())
        for split in splits:
            for name, colour in COLOURS.items():
                path = tmp_path / source / f"{split}-{name}.png"
                path.parent.mkdir(exist_ok=True)
                changed = tuple(int(c) for c in np.clip(np.array(colour) + dice.integers(-20, 20, 3), 0, 255))
                Image.fromarray(_square(changed)).save(path)
                rows.append(
                    Item(
                        id=f"{source}/{split}-{name}",
                        modality="image",
                        path=f"{source}/{split}-{name}.png",
                        captions=(f"a {name} square",),
                        concept=name,
                        source=source,
                        split=split,
                        extra={"unique": True},
                    )
                )
        write_manifest(tmp_path / source / "manifest.jsonl", rows)
    for module in (naming, manifest):
        monkeypatch.setattr(module, "CORPORA", tmp_path)
    for module in (naming, pixels):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "judge")
    for name in ("_HEAD", "_ABOUT"):
        monkeypatch.setattr(pixels, name, tmp_path / "judge" / f"pixels{name}")
    monkeypatch.setattr(pixels, "_PATCHES", 8)
    pixels.load.cache_clear()
    return tmp_path


class _FirstByColour:
    """A first judge that knows red only."""

    def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[float("red" in name) for name in names]] * len(features), np.float32)


def test_it_learns_names_is_kept_and_says_how_good_it_is(
    corpora: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pixels", "--views", "2", "--steps", "60", "--batch", "12"])
    monkeypatch.setattr(pictures, "load", _FirstByColour)
    monkeypatch.setattr(pictures, "seen", lambda items, kind, view: np.zeros((len(items), 1), np.float32))
    assert pixels.main() == 0
    judge = pixels.load()
    assert len(judge.digest) == 64 and judge.about["views"] == 2
    drawn = [_square(colour) for colour in COLOURS.values()]
    rows = judge.features(drawn)
    names = [f"a {name} square" for name in COLOURS]
    assert judge.scores(rows, names).argmax(axis=1).tolist() == [0, 1, 2]
    assert judge.about["accuracy"]["stamps, test half"]["top_1_of_classes"] == 1.0
    assert judge.about["accuracy_decoded"]["emoji-google"]["pictures"] == 3
    shares = judge.about["agreement"]["emoji-fluent"]
    assert sum(shares[name] for name in ("both", "first_alone", "second_alone", "neither")) == pytest.approx(
        1.0, abs=1e-3
    )
    assert (judge.kernel_features(rows) ** 2).mean(axis=1) == pytest.approx([1.0] * 3, abs=1e-4)
    np.testing.assert_array_equal(judge.copy_features(drawn), drawn_features(drawn))
    assert "accuracy" in capsys.readouterr().out


def test_features_are_kept_by_what_they_are_of(corpora: Path) -> None:
    items = naming.items_of("openmoji", ("train",))
    asked: list[int] = []

    def see(some: Sequence[Item]) -> NDArray[np.float32]:
        asked.append(len(some))
        return np.ones((len(some), 2), np.float32)

    naming.remembered("a/b", items, see)
    naming.remembered("a/b", items, see)
    assert asked == [3]
    naming.remembered("a/b", items[:2], see)
    assert asked == [3, 2]


def test_a_judge_is_measured_by_pictures_that_it_did_not_learn_from(corpora: Path) -> None:
    taught = {item.id for source, splits in naming.SOURCES.items() for item in naming.items_of(source, splits)}
    asked = [item.id for items in naming.judged().values() for item in items]
    assert len(asked) == 12 and not taught & set(asked)
    published, chosen_by = naming.held_out("emoji-google")
    assert not {item.id for item in published} & {item.id for item in chosen_by}


def test_a_second_judge_that_is_not_trained_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_HEAD", tmp_path / "none")
    pixels.load.cache_clear()
    with pytest.raises(ConfigError, match=r"train it: python -m training\.judges\.pixels"):
        pixels.load()


def test_agreement_is_counted_picture_by_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class Judge:
        def __init__(self, right: list[bool]) -> None:
            self.right = right

        def scores(self, features: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
            found = np.zeros((4, len(names)), np.float32)
            for row, right in enumerate(self.right):
                found[row, row] = 1.0 if right else -1.0
            return found

    items = [
        Item(id=f"x/{n}", modality="image", path="", captions=(f"thing {n}",), concept="", source="x") for n in range(4)
    ]
    pool = [f"other {n}" for n in range(20)]
    monkeypatch.setattr(pixels, "judged", lambda: {"x": items})
    monkeypatch.setattr(pixels, "emoji_names", lambda: pool)
    monkeypatch.setattr(pixels, "seen", lambda *_: np.zeros((4, 1), np.float32))
    monkeypatch.setattr(pictures, "seen", lambda *_: np.zeros((4, 1), np.float32))
    monkeypatch.setattr(pictures, "load", lambda: Judge([True, True, True, False]))
    found = pixels.agreement(Judge([True, False, False, False]), None)["x"]  # type: ignore[arg-type]
    assert {key: found[key] for key in found if key != "phi"} == {
        "both": 0.25,
        "first_alone": 0.5,
        "second_alone": 0.0,
        "neither": 0.25,
    }
    assert found["phi"] == pytest.approx(1 / 3, abs=1e-3)
