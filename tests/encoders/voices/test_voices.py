"""Who speaks: turns of a recording, and search by speaker over a catalog, with the real network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedspace.catalog import Catalog
from embedspace.encoders.voices.encoder import VoiceConfig, VoiceEncoder
from embedspace.encoders.voices.turns import group_speakers, join_turns
from embedspace.errors import ConfigError, InputError, QueryError
from embedspace.query.composition import compose
from embedspace.segment import Segment, mean_vector
from embedspace.space import EmbeddingSpace

DATA = Path(__file__).resolve().parents[2] / "data"


def around(direction: int, seed: int, spread: float = 0.05) -> NDArray[np.float32]:
    row = np.zeros(8) + spread * np.random.default_rng(seed).random(8)
    row[direction] += 1.0
    return (row / np.linalg.norm(row)).astype(np.float32)


def stretches(speakers: str) -> list[Segment]:
    return [Segment("voice", around(int(who), k), 0.8 * k, 0.8 * (k + 1)) for k, who in enumerate(speakers)]


def test_turns_are_what_one_speaker_says_without_another_in_between() -> None:
    turns = join_turns(stretches("000011110000"), 0.7, 1.2)
    assert [(round(t.start or 0, 1), round(t.end or 0, 1)) for t in turns] == [(0.0, 3.2), (3.2, 6.4), (6.4, 9.6)]
    np.testing.assert_array_equal(turns[0].vector, turns[2].vector)
    assert float(turns[0].vector @ turns[1].vector) < 0.5
    again = join_turns(turns, 0.7, 1.2)
    assert [(t.start, t.end) for t in again] == [(t.start, t.end) for t in turns]
    assert len(join_turns(stretches("0000"), 0.7, 1.2)) == 1


def test_a_change_in_the_middle_of_a_stretch_is_no_third_speaker() -> None:
    between = Segment("voice", around(5, 9), 3.2, 4.0)
    others = [*stretches("0000"), between, *(s for s in stretches("000001111") if (s.start or 0) >= 4.0)]
    assert len({turn.vector.tobytes() for turn in join_turns(others, 0.7, 1.2)}) == 2
    assert len({turn.vector.tobytes() for turn in join_turns(others, 0.7, 0.0)}) == 3


def test_groups_meet_across_parts_of_a_long_recording() -> None:
    turns = join_turns(stretches("01" * 330), 0.7, 1.2)
    assert len(turns) == 660 and len({turn.vector.tobytes() for turn in turns}) == 2


def test_average_linkage_weighs_by_length() -> None:
    rows = np.eye(3)[[0, 0, 1]].astype(float)
    assert group_speakers(rows, np.ones(3), 0.5).tolist() == [0, 0, 1]
    assert group_speakers(rows, np.array([9.0, 9.0, 0.1]), 0.0).tolist() == [0, 0, 0]


def test_of_several_people_the_one_who_speaks_longest_is_searched_with() -> None:
    found = mean_vector(join_turns(stretches("0001111110"), 0.7, 1.2), "voice")
    assert found is not None and float(found[1]) > 0.9


def test_a_turn_begins_anew_after_a_pause_and_ends_with_its_last_stretch() -> None:
    same, over = around(0, 1), around(0, 2)
    apart = [Segment("voice", same, 0.0, 1.0), Segment("voice", same, 1.9, 3.0), Segment("voice", same, 4.5, 5.0)]
    assert [(t.start, t.end) for t in join_turns(apart, 0.7, 1.2)] == [(0.0, 3.0), (4.5, 5.0)]
    within = [Segment("voice", same, 0.0, 4.0), Segment("voice", over, 1.0, 2.0)]
    assert [(t.start, t.end) for t in join_turns(within, 0.7, 1.2)] == [(0.0, 4.0)]


def test_who_says_little_is_the_most_alike_speaker_and_order_is_that_of_time() -> None:
    little = Segment("voice", around(1, 3, 0.5), 3.2, 3.9)  # likest to 1
    said = [*stretches("0000"), little, *(s for s in stretches("000000111100") if (s.start or 0) >= 4.7)]
    turns = join_turns(said, 0.99, 1.2)
    assert [int(turn.vector.argmax()) for turn in turns] == [0, 1, 0]
    assert [(t.start, t.end) for t in join_turns(said[::-1], 0.99, 1.2)] == [(t.start, t.end) for t in turns]


def test_a_speakers_vector_weighs_stretches_by_their_seconds() -> None:
    long, short = np.array([1.0, 0.0], np.float32), np.array([0.6, 0.8], np.float32)
    (turn,) = join_turns([Segment("voice", long, 0.0, 3.0), Segment("voice", short, 3.0, 4.0)], 0.5, 0.0)
    np.testing.assert_allclose(turn.vector, np.array([3.6, 0.8]) / np.hypot(3.6, 0.8), atol=1e-6)


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    return VoiceEncoder(VoiceConfig(384))


def buzz(seconds: float, pitch: float) -> NDArray[np.float32]:
    time = np.arange(int(seconds * 16_000)) / 16_000
    return np.sum([np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20)], axis=0).astype(np.float32) * 0.1


def test_stretches_that_are_encoded_together_keep_their_rows(encoder: VoiceEncoder) -> None:
    """In a space wider than a voice, the voice is in front and zeros behind."""
    prepared = [encoder.prepare(buzz(*one)) for one in ((3.0, 100), (1.6, 260))]
    together = encoder.encode(prepared)
    for row, one in zip(together, prepared, strict=True):
        np.testing.assert_allclose(encoder.encode([one])[0], row, atol=1e-4)
    assert together.shape == (2, 384) and not together[:, 256:].any() and float(together[0] @ together[1]) < 0.95


def test_silence_within_a_stretch_has_no_row_and_the_others_keep_their_times(encoder: VoiceEncoder) -> None:
    quiet = np.zeros(5 * 16_000, np.float32)
    found = encoder.prepare(np.concatenate([buzz(3.0, 120), quiet, buzz(3.0, 120)]))
    assert len(found.partials) == len(found.spans)
    inside = (found.spans[:, 0] > 4.0) & (found.spans[:, 1] < 7.0)
    assert not inside.any()
    assert found.spans[0, 0] == 0.0 and found.spans[-1, 1] == pytest.approx(11.0)
    spans = encoder.prepare(buzz(6.0, 120)).spans
    np.testing.assert_allclose(spans[1:, 0], spans[:-1, 1])
    lengths = np.diff(spans, axis=1)[1:-1]
    np.testing.assert_allclose(lengths, np.full_like(lengths, lengths[0, 0]))
    assert spans[1, 0] == pytest.approx(0.8 + float(lengths[0, 0]) / 2, abs=0.02)  # the middle between two middles


@pytest.mark.parametrize(("name", "value"), [("window_seconds", 1.0), ("likeness", 1.5), ("shortest", -1.0)])
def test_settings_that_cannot_be_meant_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        VoiceConfig(256, **{name: value})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained().with_voices()


def test_voices_change_no_other_fingerprint(space: EmbeddingSpace) -> None:
    plain = dict(EmbeddingSpace.from_pretrained().fingerprints())
    voiced = dict(space.fingerprints())
    assert "voice" not in plain and len(voiced.pop("voice")) == 64
    assert voiced == plain
    assert space.with_voices() is space


def test_a_space_without_room_or_speech_has_no_voices(space: EmbeddingSpace) -> None:
    with pytest.raises(ConfigError, match=r"64 numbers have no room for a voice, which has 256"):
        EmbeddingSpace(space.folder, _without(space, "voice", embed_dim=64), space.calibration).with_voices()
    with pytest.raises(ConfigError, match="no encoder of speech"):
        EmbeddingSpace(space.folder, _without(space, "voice", "speech"), space.calibration).with_voices()


def _without(space: EmbeddingSpace, *names: str, **changes: Any) -> dict[str, Any]:
    sections = {name: section for name, section in space.config["sections"].items() if name not in names}
    return {**space.config, "sections": sections, **changes}


def test_rows_of_a_voice_are_the_networks_behind_equal_loudness(space: EmbeddingSpace) -> None:
    rows = space.encode_voice([DATA / "penguin.ogg"])
    golden = np.array(json.loads((DATA / "voice-penguin.json").read_text("utf-8"))["once"], np.float32)
    assert rows.shape == (1, 256) and float(np.linalg.norm(rows)) == pytest.approx(1, abs=1e-5)
    assert float(rows[0] @ golden) > 0.7  # the package leaves loud speech as loud as it is
    tone = np.tile(np.sin(np.arange(16_000) / 9), 2).astype(np.float32)
    quiet, loud = space.encode_voice([0.01 * tone, 0.9 * tone], 16_000)
    assert float(quiet @ loud) > 0.9999


def test_a_voice_is_found_by_voices_alone(space: EmbeddingSpace, tmp_path: Path) -> None:
    from embedspace.catalog.ingest.ingest import ingest

    with Catalog.create(
        tmp_path / "a.catalog",
        embed_dim=256,
        fingerprints=space.fingerprints(),
        calibration_json=space.calibration_json(),
    ) as catalog:
        ingest(catalog, [DATA / "penguin.ogg"], space)
        held = catalog.info().segments
        assert held["voice"] == held["speech"] == 1
        query = space.encode_voice([DATA / "penguin.ogg"])
        ((hit,),) = catalog.search(query, query_modality="voice")
        assert (hit.modality, hit.start) == ("voice", 0.0) and hit.score > 0.99
        words = space.encode_text(["a penguin"])
        found = catalog.search(words, query_modality="text")[0]
        assert found and all(one.modality != "voice" for one in found)
        with pytest.raises(InputError, match="voice cannot be found by text"):
            catalog.search(words, query_modality="text", to="voice")
        with pytest.raises(InputError, match="text cannot be found by voice"):
            catalog.search(query, query_modality="voice", to="text")
        about, _ = catalog.landmarks(10)
        assert {modality for _, modality, _, _ in about} == {"audio", "speech"}
        assert not catalog.verify().problems


def test_words_have_no_voice(space: EmbeddingSpace) -> None:
    with pytest.raises(QueryError, match="no recording"):
        compose("a penguin", space, as_modality="voice")


def test_migrate_adds_voices_where_somebody_speaks(space: EmbeddingSpace, tmp_path: Path) -> None:
    from embedspace.catalog.ingest.ingest import ingest
    from embedspace.catalog.migrate import migrate

    plain = EmbeddingSpace.from_pretrained()
    with Catalog.create(tmp_path / "a.catalog", embed_dim=256, fingerprints=plain.fingerprints()) as catalog:
        ingest(catalog, [DATA / "penguin.ogg", DATA / "page" / "dog.ogg"], plain)
        before = catalog.info().segments
        assert "voice" not in before
        report = migrate(catalog, space)
        assert (report.modalities, report.encoded, report.failed) == (("voice",), 1, [])
        assert catalog.info().segments == {**before, "voice": 1}
        assert len(catalog.search(space.encode_voice([DATA / "penguin.ogg"]), query_modality="voice")[0]) == 1
        assert migrate(catalog, space).modalities == ()
        assert not catalog.verify().problems
