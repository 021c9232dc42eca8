"""The names that soundtracks choose among: whose they are, and that no test picture takes part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.corpora.manifest import Item
from training.generators import sound_names


def test_an_instrument_is_one_name_whatever_it_plays() -> None:
    captions = ["a flute playing a melody", "a flute", "a cow", "a flute playing a chord"]
    found = sound_names.items_by_name(captions, ["f1", "f2", "c1", "f3"])
    assert found == {"a cow": ["c1"], "a flute": ["f2", "f1", "f3"]}


def test_pictures_of_the_test_split_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(path: Path) -> list[Item]:
        source = path.parent.name
        ways = [("train", {}), ("val", {}), ("test", {}), ("train", {"symbol": True})]
        return [
            Item(
                f"{source}/{split}-{len(extra)}", "image", concept="cow", source=source, split=split, extra=dict(extra)
            )
            for split, extra in ways
        ]

    monkeypatch.setattr(sound_names, "read_manifest", rows)
    found = sound_names.pictured_items(["a cow", "a saw"], np.random.default_rng(0))
    taken = [item.id.split("/")[1] for item in found["a cow"]]
    assert set(found) == {"a cow"} and set(taken) == {"train-0", "val-0"} and len(taken) == 7


def test_a_thing_is_drawn_as_films_show_it(tmp_path: Path) -> None:
    thing = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    ImageDraw.Draw(thing).ellipse((50, 50, 250, 250), fill=(255, 0, 0, 255))
    thing.save(tmp_path / "ball.png")
    drawn = sound_names.film_picture(tmp_path / "ball.png", np.random.default_rng(0))
    assert drawn.mode == "RGB" and 30 <= max(drawn.size) <= 90
    middle = np.asarray(drawn)[drawn.height // 2, drawn.width // 2]
    assert middle[0] > 180 and middle[1] < 90
