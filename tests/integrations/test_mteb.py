"""A space as a model of mteb, on mteb's own mock tasks: real runs of the library, without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace import EmbeddingSpace
from embedspace.cli import main
from embedspace.errors import InputError, MissingExtraError, UnknownModalityError
from embedspace.integrations.mteb import SpaceEncoder, evaluate_mteb, tasks_named

pytestmark = [
    pytest.mark.filterwarnings("default::DeprecationWarning"),
    pytest.mark.filterwarnings("default::FutureWarning"),
    pytest.mark.filterwarnings("default::UserWarning"),
]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


def test_retrieval_of_pictures_by_text(space: EmbeddingSpace) -> None:
    from mteb.mocks.mock_tasks.retrieval import MockAny2AnyRetrievalT2ITask

    told: list[tuple[str, int, int]] = []
    (record,) = evaluate_mteb(space, [MockAny2AnyRetrievalT2ITask()], callback=lambda *at: told.append(at))
    assert (record["task"], record["split"], record["metric"]) == ("MockAny2AnyRetrievalT2I", "test", "ndcg_at_10")
    assert told == [("MockAny2AnyRetrievalT2I", 0, 1)]

    task = MockAny2AnyRetrievalT2ITask()
    task.load_data()
    data = task.dataset["default"]["test"]
    texts = space.encode(list(data["queries"]["text"]), modality="text")
    pictures = space.encode([image.convert("RGB") for image in data["corpus"]["image"]], modality="image")
    order = (-texts @ pictures.T).argsort(axis=1)
    gains = [1 / np.log2(2 + int(np.where(row == wanted)[0][0])) for wanted, row in enumerate(order)]
    assert record["score"] == pytest.approx(np.mean(gains), abs=1e-5)  # nDCG of one relevant picture per text


def test_zero_shot_of_pictures(space: EmbeddingSpace) -> None:
    from mteb.mocks.mock_tasks.zeroshot_classification import MockZeroShotClassificationTask

    (record,) = evaluate_mteb(space, [MockZeroShotClassificationTask()])
    assert record["metric"] == "accuracy" and 0 <= record["score"] <= 1


def test_items_of_several_modalities_and_of_nothing(space: EmbeddingSpace) -> None:
    from PIL import Image

    encoder = SpaceEncoder(space)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    rows = encoder.encode([{"text": ["a dog", ""], "image": [picture, picture]}])
    text, image = space.encode(["a dog"]), space.encode([picture])
    both = (text + image) / np.linalg.norm(text + image)
    np.testing.assert_allclose(rows, np.concatenate([both, image]), atol=1e-5)
    assert not encoder.encode([{"text": [""]}]).any()
    assert encoder.encode([]).shape == (0, space.embed_dim)
    pair = encoder.similarity_pairwise(text, image)
    np.testing.assert_allclose(pair, np.diag(encoder.similarity(text, image)), atol=1e-6)


def test_sounds_are_heard_as_asked(space: EmbeddingSpace) -> None:
    wave = (0.3 * np.sin(np.arange(16_000) / 10)).astype(np.float32)
    batch = {"audio": [{"array": np.stack([wave, wave]), "sampling_rate": 16_000}]}
    heard = SpaceEncoder(space).encode([batch])
    np.testing.assert_allclose(heard, space.encode_audio(wave, 16_000), atol=1e-5)
    with pytest.raises(UnknownModalityError, match="sounds as 'image': this space hears audio, speech"):
        SpaceEncoder(space, sound="image")
    with pytest.raises(UnknownModalityError, match="neither text, pictures nor sound"):
        SpaceEncoder(space).encode([{"video": [1]}])


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask

    asked: list[list[str]] = []

    def named(names: list[str]) -> list[Any]:  # mteb finds its mock tasks by no name
        asked.append(names)
        return [MockRetrievalTask()]

    monkeypatch.setattr("embedspace.integrations.mteb.tasks_named", named)
    out = tmp_path / "scores.json"
    arguments = ["eval", "mteb", "default", "--tasks", "A, B", "--quiet", "--out", str(out)]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    records = json.loads(out.read_text())
    assert asked == [["A", "B"]]
    assert records and all(f"{record['score']:.4f}" in table for record in records)
    assert all(record["scores"]["main_score"] == record["score"] for record in records)
    assert main([*arguments[:5], "--quiet", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == records


def test_what_cannot_be_run_is_one_line(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="mteb has no task 'Nope'"):
        tasks_named(["Nope"])
    (task,) = tasks_named(["Flickr30kI2TRetrieval"])

    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr("socket.getaddrinfo", reached)
    with pytest.raises(InputError, match=r"Flickr30kI2TRetrieval: .*on this machine.*--download") as raised:
        evaluate_mteb(space, [task])
    assert "\n" not in str(raised.value)
    for name in [name for name in sys.modules if name == "mteb" or name.startswith("mteb.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match=r"pip install embedspace\[mteb\]"):
        tasks_named(["a"])
