from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.kinds import evaluate, table
from embedspace.evaluate.generation.matrix.suite import load_matrix_suite
from tests.evaluate.test_media import SUITES, corpora, space  # noqa: F401 - fixtures
from tests.support.generators import WORDS

_SUITE = """
kind = "matrix"
name = "tiny_matrix"
description = "d"
pictures = "colour_judge:load"
sounds = "colour_judge:closed"
ears = "colour_judge:hear"
concepts = "words"
captions = ["words"]
seeds = [0, 1]
resamples = 50
[sources]
image = "pictures"
audio = "clips"
text = "words"
speech = "voice flite:rms"
[sets.words]
manifests = ["clips"]
modality = "text"
key = "concept"
[sets.clips]
manifests = ["clips"]
modality = "audio"
key = "concept"
[sets.pictures]
manifests = ["tiny"]
key = "concept"
where = { split = "val", concept = ["a dog", "a cat"] }
"""


def test_every_cell_is_scored(tmp_path: Path, space: Any, corpora: Path) -> None:  # noqa: F811
    path = tmp_path / "suite.toml"
    path.write_text(_SUITE)
    entry = evaluate(path, space, tmp_path / "out", corpora=corpora, cache=None)
    cells = {(r["query"], r["gallery"]): r for r in entry["results"]}
    assert len(cells) == 16
    assert cells["image", "text"]["concepts"] == 2 and cells["text", "image"]["concepts"] == 6
    # the recogniser hears "a dog" always: right for "a dog" and "a barking dog", of the six that the judge knows
    assert cells["text", "speech"]["metrics"]["hit"][0] == pytest.approx(2 / 6, abs=1e-4)
    assert entry["concepts"] == list(WORDS[:6])
    assert set(entry["heads"]) == {"image", "audio", "text", "speech"}
    assert json.loads((tmp_path / "out/tiny_matrix.json").read_text()) == entry
    assert (tmp_path / "out/tiny_matrix.png").exists()
    assert "| speech | 6 |" in table(entry)


def test_a_missing_generator_leaves_its_cells_out(tmp_path: Path, space: Any, corpora: Path) -> None:  # noqa: F811
    shutil.rmtree(space.folder / "heads" / "audio")
    path = tmp_path / "suite.toml"
    path.write_text(_SUITE)
    entry = evaluate(path, space, corpora=corpora, cache=None)
    assert len(entry["results"]) == 12
    assert "this space has no generator of audio" in entry["failures"]["text -> audio"]
    assert "–" in table(entry)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('image = "pictures"', 'film = "pictures"', "unknown modality 'film'"),
        ('concepts = "words"', 'concepts = "nothing"', "no set 'nothing'"),
        ("seeds = [0, 1]", "seeds = []", "seeds must follow"),
        ("resamples = 50", 'folder = "x"', "unknown key 'folder'"),
    ],
)
def test_a_wrong_suite_is_refused(tmp_path: Path, old: str, new: str, what: str) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(_SUITE.replace(old, new))
    with pytest.raises(ConfigError, match=what):
        load_matrix_suite(path)


def test_the_shipped_suite_loads() -> None:
    assert load_matrix_suite(SUITES / "generation_matrix.toml").name == "generation_matrix"
