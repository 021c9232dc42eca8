"""Encoders by type: what a configuration may name, and that each says how media are cut for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from embedspace.encoders.registry import encoder_types, files_named_in, misfit
from embedspace.errors import ConfigError, UnknownModalityError
from embedspace.space import EmbeddingSpace
from tests.support.spaces import noise, segments_of, spans

RATE = 16_000


def changed(folder: Path, target: Path, **sections: Any) -> Path:
    """Copy a space with other sections; None leaves one away."""
    copy = Path(shutil.copytree(folder, target))
    config = json.loads((copy / "config.json").read_text())
    config["sections"] = {k: v for k, v in {**config["sections"], **sections}.items() if v is not None}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_an_unknown_type_is_refused_when_the_space_is_opened(tiny_space_folder: Path, tmp_path: Path) -> None:
    folder = changed(tiny_space_folder, tmp_path / "space", image={"type": "crystal.ball"})
    known = r"known: pooled, shipped\.audio, shipped\.image, shipped\.speech, shipped\.text, timing, tower"
    with pytest.raises(ConfigError, match=rf"section 'image' has the unknown type 'crystal\.ball'; {known}"):
        EmbeddingSpace.from_pretrained(folder)
    with pytest.raises(ConfigError, match="section 'image' must be a table, got 3"):
        EmbeddingSpace.from_pretrained(changed(tiny_space_folder, tmp_path / "other", image=3))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"backbone": "minilm_l6"}, "does not fit the encoder: key 'head' is missing"),
        ({"type": "tower"}, "section 'text': key 'tower' is missing"),
        ({"type": "tower", "colour": 1}, "section 'text': unknown key 'colour'"),
        ({"type": "tower", "tower": "clip"}, "no tower 'clip'; it has: none"),
    ],
)
def test_a_wrong_section_is_refused_in_one_line(
    tiny_space_folder: Path, tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    folder = changed(tiny_space_folder, tmp_path / "space", text=section)
    with pytest.raises(ConfigError, match=message) as caught:
        EmbeddingSpace.from_pretrained(folder).encoder("text")
    assert "\n" not in str(caught.value)


def test_naming_the_type_of_a_shipped_encoder_changes_no_vector(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    section = {**tiny_space.config["sections"]["text"], "type": "shipped.text"}
    other = EmbeddingSpace.from_pretrained(changed(tiny_space.folder, tmp_path / "space", text=section))
    assert (other.encode_text("a dog") == tiny_space.encode_text("a dog")).all()


def test_windows_are_as_long_as_the_encoder_says(tiny_space: EmbeddingSpace) -> None:
    short = tiny_space.with_options("audio", window_seconds=3.0)
    assert spans(segments_of(short, (noise(7), RATE), wanted="audio"), "audio") == [(0, 3), (3, 6), (6, 7)]
    spoken = tiny_space.with_options("speech", window_seconds=5.0)
    assert spans(segments_of(spoken, (noise(12), RATE), wanted="speech"), "speech") == [(0, 5), (5, 10), (10, 12)]
    with pytest.raises(ConfigError, match="window_seconds 40"):
        tiny_space.with_options("audio", window_seconds=40.0).encoder("audio")


def test_a_space_without_speech_or_without_sounds_takes_recordings(tiny_space_folder: Path, tmp_path: Path) -> None:
    deaf = EmbeddingSpace.from_pretrained(changed(tiny_space_folder, tmp_path / "a", speech=None))
    assert spans(segments_of(deaf, (noise(7), RATE)), "audio") == [(0, 6), (6, 7)]
    listener = EmbeddingSpace.from_pretrained(changed(tiny_space_folder, tmp_path / "b", audio=None))
    assert spans(segments_of(listener, (noise(7), RATE)), "speech") == [(0, 7)]
    neither = EmbeddingSpace.from_pretrained(changed(tiny_space_folder, tmp_path / "c", audio=None, speech=None))
    with pytest.raises(UnknownModalityError, match="has no audio or speech encoder; it has: text, image"):
        neither.decode((noise(1), RATE), "audio")


def test_weights_files_are_found_wherever_a_section_names_them() -> None:
    section = {"a": "x.safetensors", "b": {"c": ["y.safetensors", "z.json"]}, "d": 3}
    assert files_named_in(section) == ["x.safetensors", "y.safetensors"]
    assert "tower" in encoder_types()


def test_misfits_are_said_for_people() -> None:
    def make(a: int, *, b: int) -> None: ...

    for call, said in (
        (lambda: make(1, b=2, c=3), "unknown key 'c'"),  # type: ignore[call-arg]
        (lambda: make(1), "missing: 'b'"),  # type: ignore[call-arg]
        (lambda: {}["head"], "key 'head' is missing"),
        (lambda: "a" + 1, "a value has the wrong type"),  # type: ignore[operator]
    ):
        with pytest.raises((TypeError, KeyError)) as caught:
            call()
        assert misfit(caught.value).startswith(said)
