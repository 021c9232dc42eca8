from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.captions.speech import error_row
from embedspace.evaluate.generation.captions.suite import load_caption_suite
from embedspace.evaluate.generation.kinds import evaluate, table
from embedspace.evaluate.generation.measures.words import content_words, names_all, names_any, spoken_words, word_errors
from embedspace.generate.speech import voices
from tests.support.generators import (
    WORDS,
    SpaceWithGenerators,
    write_speech_generator,
    write_text_generator,
    write_vocabulary,
)

SUITES = Path(__file__).resolve().parents[2] / "eval/suites"


@pytest.mark.parametrize(
    ("caption", "names", "some", "every"),
    [
        ("a barking dog", ["dog"], True, True),
        ("dogs", ["a dog"], True, True),
        ("a dog", ["hot dog"], True, False),
        ("a violin and a bow", ["violin", "fiddle"], True, True),
        ("the cat", ["the dog"], False, False),
        ("", ["dog"], False, False),
        ("dog", [""], False, False),
    ],
)
def test_names(caption: str, names: list[str], some: bool, every: bool) -> None:
    assert names_any(caption, names) is some
    assert names_all(caption, names) is every


def test_content_words_leave_out_what_says_nothing() -> None:
    assert content_words("A picture of the Dogs") == content_words("dog picture")


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("a red dog", "a red dog", 0),
        ("a red dog", "red dog", 1),
        ("a dog", "the fog now", 3),
        ("", "x y", 2),
        ("x", "", 1),
    ],
)
def test_word_errors(said: str, heard: str, errors: int) -> None:
    assert word_errors(said.split(), heard.split()) == errors


def test_spoken_words_are_what_one_hears() -> None:
    assert spoken_words("“Hospital”, 3 T-shirts!") == ["hospital", "three", "t", "shirts"]


def _suite(folder: Path, body: str = "") -> Path:
    path = folder / "gen.toml"
    path.write_text(
        'name = "gen"\ndescription = "d"\njudge = "tiny_judge:hear"\n'
        'targets = ["words"]\nseeds = [0, 1]\nresamples = 50\n'
        '[sets.words]\nmanifests = ["tiny"]\nmodality = "text"\n'
        f'[speech]\ncaptions = "words"\nvoices = ["flite:slt", "espeak:en-us"]\n{body}'
    )
    return path


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    folder = tmp_path / "corpora"
    (folder / "tiny").mkdir(parents=True)
    rows = [{"id": f"tiny/{n}", "modality": "text", "captions": [text]} for n, text in enumerate(WORDS)]
    (folder / "tiny" / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_a_suite_is_measured_beside_its_baselines(
    tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = tmp_path / "space" / "heads"
    write_text_generator(heads)
    write_speech_generator(heads)
    write_vocabulary(heads)
    spoken: list[str] = []

    def say(text: str, voice: str | None = None) -> tuple[np.ndarray, str]:
        if voice != "flite:slt":
            raise voices.MissingExtraError("espeak-ng is not installed")
        spoken.append(text)
        return np.zeros(2205, np.float32), voice

    judge = types.ModuleType("tiny_judge")
    judge.hear = lambda clips: [WORDS[0]] * len(clips)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tiny_judge", judge)
    monkeypatch.setattr(voices, "speak", say)
    space: Any = SpaceWithGenerators(tmp_path / "space")
    entry = evaluate(_suite(tmp_path), space, tmp_path / "out", corpora=corpora, cache=None)
    rows = {row["system"]: row for row in entry["captions"]}
    assert set(rows) == {"generated", "nearest training caption", "shuffled condition", "no condition"}
    assert rows["nearest training caption"]["names_all"][0] == 1.0  # the memory holds these very words
    assert spoken == list(WORDS)
    (first, shuffled) = entry["speech"]
    total = sum(len(text.split()) for text in WORDS)
    expected = sum(word_errors(text.split(), WORDS[0].split()) for text in WORDS) / total
    assert first["word_error_rate"][0] == pytest.approx(expected, abs=1e-4)
    assert first["system"] == "flite:slt" and shuffled["system"] == "flite:slt, shuffled"
    assert "espeak:en-us" in entry["failures"]
    written = json.loads((tmp_path / "out/gen.json").read_text())
    assert written["captions"] == entry["captions"]
    assert "| words | generated | 8 |" in table(entry)
    assert "suite" not in written  # the retrieval tables read every file that has one


def test_error_rate_is_over_words() -> None:
    suite = load_caption_suite(SUITES / "generation.toml")
    row = error_row("x", ["a b c d", "e"], ["a b c d", "f g"], suite.resamples)
    assert row["word_error_rate"][0] == pytest.approx(2 / 5)
    assert row["misheard"] == [{"meant": "e", "heard": "f g"}]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({'targets = ["words"]': 'targets = ["nothing"]'}, "no set 'nothing'"),
        ({'judge = "tiny_judge:hear"\n': ""}, "needs a judge"),
        ({"resamples = 50": "resample = 50"}, "unknown key 'resample'"),
        ({"[speech]": "[speec"}, "not a TOML file"),
        ({"resamples = 50": 'folder = "x"'}, "unknown key 'folder'"),
    ],
)
def test_a_wrong_suite_is_refused(tmp_path: Path, change: dict[str, str], what: str) -> None:
    path = _suite(tmp_path)
    text = path.read_text()
    for old, new in change.items():
        text = text.replace(old, new)
    path.write_text(text)
    with pytest.raises(ConfigError, match=what):
        load_caption_suite(path)
    with pytest.raises(ConfigError, match="no such suite"):
        load_caption_suite(tmp_path / "none.toml")
