"""`index --voices`, `catalog add` and `search --by voice`, with the network that ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from embedspace.media.audio import load_audio
from embedspace.media.write import write_audio
from embedspace.space import EmbeddingSpace
from tests.support.cli_media import make_run

PENGUIN = Path(__file__).resolve().parents[1] / "data" / "penguin.ogg"


def test_a_recording_that_is_added_gets_its_voice_and_is_found_by_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run, space = make_run(capsys, monkeypatch), EmbeddingSpace.from_pretrained()
    Path("clips").mkdir()
    shutil.copy(PENGUIN, "clips/penguin.ogg")
    heard = load_audio(PENGUIN)
    write_audio(Path("other.wav"), heard.waveform, round(heard.sample_rate * 1.35))  # a higher voice
    indexed = run("index", "clips", "--catalog", "a.catalog", "--voices", "--no-recogniser", "--quiet", space=space)
    assert indexed.code == 0, indexed.err
    added = run("catalog", "add", "a.catalog", "other.wav", space=space)
    assert added.code == 0 and added.out.startswith("1 added"), added.err
    found = run("search", "a.catalog", "other.wav", "--by", "voice", "--json", space=space)
    assert found.code == 0, found.err
    first, second = (json.loads(line) for line in found.out.splitlines())
    assert [Path(one["uri"]).name for one in (first, second)] == ["other.wav", "penguin.ogg"]
    assert first["modality"] == second["modality"] == "voice"
    assert first["score"] > 0.98 > second["score"] + 0.05
