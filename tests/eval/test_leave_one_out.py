"""Every source left out in turn: who is asked, what the heads may have heard, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from embedspace.encoders.projections import LinearProjection
from embedspace.encoders.shipped.audio import AudioProjections
from embedspace.errors import ConfigError
from embedspace.evaluate.items import EvalItem, select_all
from embedspace.evaluate.suite import load_suite
from eval import leave_one_out
from eval.leave_one_out import SUITE, LeaveOneOut, covered, measure, without
from training.align.recipe import AudioRecipe, Recipe

WIDTH, CLASSES, DIM = 20, 7, 6
ROWS = [  # source, concept, group, split
    ("x", "dog", "", "train"),
    ("y", "dog", "", "train"),
    ("x", "cat", "copy", "train"),
    ("y", "cat", "copy", "train"),
    ("z", "cat", "", "train"),
    ("tux", "bell", "", "test"),
    ("x", "bell", "", "train"),
    ("y", "rain", "", "train"),
]


class FakeSpace:
    """Gives each text a direction of its own."""

    embed_dim = DIM
    folder = Path()

    def encode_text(self, texts: list[str]) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[[("bell", "cat", "dog").index(text) for text in texts]]

    def fingerprints(self) -> dict[str, str]:
        return {"text": "t", "audio": "of what ships"}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    rows = [
        {
            "id": f"{source}/{k}",
            "modality": "audio",
            "path": f"{k}.flac",
            "source": source,
            "concept": concept,
            "group": group,
            "split": split,
            "captions": [f"a {concept}"],
        }
        for k, (source, concept, group, split) in enumerate(ROWS)
    ]
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (tmp_path / "audio").mkdir()
    features = np.random.default_rng(0).standard_normal((len(ROWS), WIDTH)).astype(np.float16)
    ids = np.array([row["id"] for row in rows])
    np.savez(tmp_path / "audio/sounds.0.npz", ids=ids, features=features, logits=features[:, :CLASSES])
    audio = AudioRecipe(sources={"sounds": 1.0}, members=0, memory_dim=4)
    return Recipe("tiny", corpora=str(tmp_path), features=str(tmp_path), start="somewhere", audio=audio)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> Iterator[dict[str, list[str]]]:
    """Left-out source -> the rows that its heads were trained on; the heads answer with the concept's direction."""
    found: dict[str, list[str]] = {}

    class Heads(AudioProjections):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.config = type("Config", (), {"feature_dim": WIDTH})()
            self.register_buffer("seen", torch.tensor(float(len(found))))

        def forward(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            assert features.shape[1:] == (WIDTH,)
            out = torch.zeros(len(features), DIM)
            out[:, 2] = 1.0  # always "dog"
            return out

    def train(given: Recipe, *rest: object) -> AudioProjections:
        found[given.audio.exclude[-1]] = [row["id"] for row in leave_one_out.training_rows(given, "sounds")]
        return Heads()

    def start(self: LeaveOneOut, given: Recipe, checkpoints: Path) -> None:
        self.recipe, self.checkpoints = given, checkpoints
        self.space = FakeSpace()  # type: ignore[assignment]
        self.text = LinearProjection(8, DIM, 0)
        self._digest = leave_one_out.hashlib.sha256()

    monkeypatch.setattr(leave_one_out, "train_audio", train)
    monkeypatch.setattr(LeaveOneOut, "__init__", start)
    yield found


def test_covered_asks_only_what_another_source_in_training_has(recipe: Recipe) -> None:
    suite = load_suite(SUITE)
    corpora = Path(recipe.corpora)
    every = [item.id for item in select_all(suite, corpora)["audio"]]
    assert every == ["x/0", "y/1", "x/2", "y/3", "z/4", "tux/5", "x/6"]
    sets = select_all(covered(suite, recipe), corpora)
    # the test source is no teacher: of bells only its own can be asked
    assert [item.id for item in sets["audio"]] == ["x/0", "y/1", "x/2", "y/3", "z/4", "tux/5"]
    assert sorted(item.content for item in sets["text"]) == ["bell", "cat", "dog"]


def test_without_takes_a_source_and_what_only_it_shares_away(recipe: Recipe) -> None:
    sets = select_all(without(load_suite(SUITE), "tux"), Path(recipe.corpora))
    assert sorted(item.content for item in sets["text"]) == ["cat", "dog"]
    assert {item.row["source"] for item in sets["audio"]} == {"x", "y", "z"}


def test_measure_trains_without_each_source_and_its_copies(recipe: Recipe, heard: dict[str, list[str]]) -> None:
    entry = measure(recipe, load_suite(SUITE), Path("nowhere"))
    assert heard == {
        "tux": ["x/0", "y/1", "x/2", "y/3", "z/4", "x/6", "y/7"],
        "x": ["y/1", "z/4", "y/7"],  # y/3 holds the recording of x/2
        "y": ["x/0", "z/4", "x/6"],
        "z": ["x/0", "y/1", "x/2", "y/3", "x/6", "y/7"],
    }
    (result,) = entry["results"]
    assert (result["num_queries"], result["gallery_size"]) == (6, 3)
    assert result["metrics"]["recall_at_1"][0] == pytest.approx(2 / 6, abs=1e-4)
    assert result["groups"]["x"]["num_queries"] == 2
    assert entry["weights"]["text"] == "t"
    assert entry["weights"]["audio"] != "of what ships"


def test_encode_names_a_clip_without_features(recipe: Recipe, heard: dict[str, list[str]]) -> None:
    left = LeaveOneOut(recipe, Path())
    with pytest.raises(ConfigError, match=r"x/99: no features; run: python -m training"):
        left.encode([EvalItem("x/99", "x.flac", "dog", {"source": "x"})], "audio")


def test_leave_one_out_needs_a_space_to_meet() -> None:
    with pytest.raises(ConfigError, match="start is empty"):
        LeaveOneOut(Recipe("x"), Path())
