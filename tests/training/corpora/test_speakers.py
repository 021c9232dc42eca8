"""The speakers of voice conversion: nobody is on two sides, and what a package holds is read."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from training.corpora import manifest
from training.corpora.fetch import package
from training.corpora.manifest import Item, write_manifest
from training.corpora.speech import speakers


def test_no_voice_is_on_two_sides() -> None:
    voices = speakers._voices()
    train = {voice for voice, split in voices.items() if split == "train"}
    assert len(train) > 30 and not train & {*speakers.TEST_VOICES, *speakers.VAL_VOICES}
    assert not set(speakers.TEST_PEOPLE) & set(speakers.VAL_PEOPLE)
    for source, _, _ in speakers.PROMPTS.values():
        assert package(source).licence.startswith("CC-BY")


def test_people_are_divided_by_who_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "CORPORA", tmp_path)
    items = [
        Item(
            id=f"human/{language}/{k}", modality="speech", path=f"human/{language}.npy#0:1", captions=("A dog",),
            speaker=f"human:tux:{language}", language=language, split=split, extra={"seconds": 1.0},
        )
        for language in ("fr", "nl", "bg")
        for k, split in enumerate(("train", "test"))
    ]  # fmt: skip
    write_manifest(tmp_path / "human" / "manifest.jsonl", items)
    found = {(item.speaker, item.split) for item in speakers.people()}  # a stamp's own split says nothing here
    assert found == {("human:tux:fr", "train"), ("human:tux:nl", "val"), ("human:tux:bg", "test")}


def test_a_prompt_without_a_header_is_read(tmp_path: Path) -> None:
    tone = (8000 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000)).astype(np.int16)
    path = tmp_path / "prompt.g722"
    with av.open(str(path), "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    found = speakers._decode(path)
    assert len(found) == pytest.approx(16_000, abs=400)
    spectrum = np.abs(np.fft.rfft(found[2000:10_000]))
    assert spectrum.argmax() * 2 == pytest.approx(300, abs=4)
    (tmp_path / "empty.g722").write_bytes(b"")
    assert len(speakers._decode(tmp_path / "empty.g722")) == 0
