"""How candidates are measured: what is drawn is kept, and several judges see the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.generate import create_generator
from embedspace.modality import Modality
from eval import candidates
from tests.support.cli_space import vector_of
from tests.support.generators import WORDS, SpaceWithGenerators, write_latent_generator


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    heads = tmp_path / "space" / "heads"
    write_latent_generator(heads, "image", options={"num_steps": 2})
    monkeypatch.setattr(candidates, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(candidates, "FROM_NOISE", {})
    monkeypatch.setattr(candidates, "WAYS", {"one": (1, {}, False), "steps": (1, {"num_steps": 1}, False)})
    return create_generator(Modality.IMAGE, heads, SpaceWithGenerators(tmp_path / "space"))


def test_what_is_drawn_is_kept_by_what_it_follows_from(
    generator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.stack([vector_of(word) for word in WORDS])
    monkeypatch.setattr(candidates, "_PART", 3)
    first = candidates.kept(generator, "looks", vectors, "one", 0)
    assert first["pictures"].shape[0] == len(WORDS) == len(first["likeness"]) == len(first["copies"])
    files = len(list((tmp_path / "kept").iterdir()))
    assert files == -(-len(WORDS) // 3)
    monkeypatch.setattr(candidates, "drawn", None)  # nothing is drawn again
    again = candidates.kept(generator, "looks", vectors, "one", 0)
    np.testing.assert_array_equal(again["pictures"], first["pictures"])
    for other in (("others", vectors, "one", 0), ("looks", vectors[::-1], "one", 0), ("looks", vectors, "one", 1)):
        with pytest.raises(TypeError):
            candidates.kept(generator, *other)
    with pytest.raises(TypeError):
        candidates.kept(generator, "looks", vectors, "steps", 0)


def test_another_seed_draws_another_picture(generator: Any) -> None:
    vectors = np.stack([vector_of(word) for word in WORDS[:2]])
    made = [candidates.kept(generator, "", vectors, "one", seed)["pictures"] for seed in (0, 1)]
    assert (made[0] != made[1]).any()


def test_a_page_shows_the_second_judge_beside_the_first() -> None:
    told = {f"{name}{less}": [0.5, 0.4, 0.6] for name in ("top_1", "recall_at_10") for less in ("", "_less_nearest")}
    entry = {
        **{name: "0123456789abcdef" for name in ("commit", "corpora_splits", "generator", "looks", "judge")},
        **{"name": "n", "command": "c", "date": "d", "names": 2, "gallery": 3, "seeds": 3, "how": "h"},
    }
    alone = "\n".join(candidates.lines({**entry, "rows": [{"way": "8", **told}]}))
    assert "second judge" not in alone and "seeds 0 to 2" in alone
    both = {"way": "8", **told, "second": {name: [0.25, 0.2, 0.3] for name in told}}
    page = "\n".join(candidates.lines({**entry, "second": "m:f", "second_digest": "fedcba9876543210", "rows": [both]}))
    assert "The same pictures by a second judge (m:f, fedcba987654)" in page
    assert "| 8 | 25.0 [20, 30] | 25.0 [20, 30] |" in page
