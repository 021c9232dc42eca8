"""When something strikes: windows of what is seen and heard, the networks that ship, and search by both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.migrate import migrate
from embedspace.cli.index import _with_asked
from embedspace.encoders.timing.network import STEPS, TimingNetwork
from embedspace.encoders.timing.profiles import BANDS, GRID, HOPS, TICKS, bands_of, profiles_of
from embedspace.encoders.timing.windows import Recut, moves, seen_windows
from embedspace.encoders.towers import create_backbone
from embedspace.errors import ConfigError, InputError
from embedspace.media.film import Film, iter_greys
from embedspace.query import compose, search_composed
from embedspace.query.timing import merged, timing_wanted
from embedspace.space import EmbeddingSpace
from tests.support.ball_film import HITS, ball, write_film

RATE = 16_000


def sloping(time: float) -> NDArray[np.uint8]:
    """A picture whose grey levels are a slope that moves evenly."""
    across = np.arange(GRID[0])[None] + 20 * time
    return np.broadcast_to(across, GRID[::-1]).astype(np.uint8)


def clicks(times: tuple[float, ...], seconds: float = 4.0) -> NDArray[np.float32]:
    wave = np.zeros(round(seconds * RATE), np.float32)
    burst = np.random.default_rng(0).normal(size=RATE // 8) * np.exp(-np.arange(RATE // 8) / 400)
    for time in times:
        at = round(time * RATE)
        part = burst[: len(wave) - at]
        wave[at : at + len(part)] += 0.4 * part.astype(np.float32)
    return wave


@pytest.mark.parametrize("fps", [8, 20, 24, 25, 30, 59.94])
def test_what_moves_evenly_does_not_stutter_whatever_the_rate(fps: float) -> None:
    frames = [(k / fps, sloping(k / fps)) for k in range(round(8 * fps) + 1)]
    (start, end, first), (_, _, second), *rest = seen_windows(iter(frames), 8.0)
    assert (start, end) == (0.0, 4.0) and not rest
    assert first.shape == second.shape == (TICKS + 1, *GRID[::-1])
    steps = np.diff(np.concatenate([first[1:], second[1:]]).astype(float)[:, 0, 0])
    assert np.abs(steps - 1).max() <= 1.01  # of grey levels, which are whole
    np.testing.assert_array_equal(second[0], first[-1])


def test_short_ends_are_left_out_and_one_frame_is_a_window() -> None:
    frames = [(k / 10, sloping(k / 10)) for k in range(45)]
    assert [(start, end) for start, end, _ in seen_windows(iter(frames), 4.5)] == [(0.0, 4.0)]
    assert [(start, end) for start, end, _ in seen_windows(iter(frames), 5.5)] == [(0.0, 4.0), (4.0, 5.5)]
    (only,) = seen_windows(iter([(0.0, sloping(0))]), 0.04)
    assert only[1] == 0.04 and not moves(only[2])
    assert list(seen_windows(iter(()), 0.0)) == []


def test_sound_is_cut_anew_with_silence_for_what_is_missing() -> None:
    recut, wave = Recut(4.0, RATE), np.arange(14 * RATE, dtype=np.float32)
    first = list(recut.add(0.0, wave[: 6 * RATE]))
    second = [*recut.add(8.0, wave[8 * RATE :]), *recut.end()]
    assert [window[:2] for window in first + second] == [(0.0, 4.0), (4.0, 8.0), (8.0, 12.0), (12.0, 14.0)]
    np.testing.assert_array_equal(first[0][2], wave[: 4 * RATE])
    np.testing.assert_array_equal(second[0][2][: 2 * RATE], wave[4 * RATE : 6 * RATE])
    assert not second[0][2][2 * RATE :].any()
    np.testing.assert_array_equal(second[2][2], wave[12 * RATE :])


def test_profiles_and_bands_have_their_shapes_whatever_comes() -> None:
    still = np.zeros((TICKS + 1, *GRID[::-1]), np.uint8)
    for rows, columns in (profiles_of(still), profiles_of(still + 255)):
        assert rows.shape == (3, GRID[1], TICKS) and columns.shape == (3, GRID[0], TICKS)
        assert np.isfinite(rows).all() and np.isfinite(columns).all()
    for wave in (np.zeros(0, np.float32), np.zeros(5, np.float32), np.ones(9 * RATE, np.float32)):
        assert bands_of(wave).shape == (BANDS, HOPS) and np.isfinite(bands_of(wave)).all()


def test_louder_sound_has_the_same_bands() -> None:
    wave = clicks((1.0, 2.0)) + 0.01
    np.testing.assert_allclose(bands_of(0.5 * wave)[:, 100], bands_of(wave)[:, 100], atol=0.08)


@pytest.fixture(scope="module")
def network() -> TimingNetwork:
    made = create_backbone("timing")
    assert isinstance(made, TimingNetwork)
    return made


def test_what_is_heard_later_is_written_later(network: TimingNetwork) -> None:
    early, late = (network.hear(torch.from_numpy(bands_of(clicks((t, t + 0.7))))[None])[0] for t in (1.0, 1.5))
    assert early.shape == (STEPS,) and float(early.norm()) == pytest.approx(1.0, abs=1e-5)
    assert float(early.roll(8) @ late) > 0.9 > float(early @ late) + 0.4
    assert abs(int(early.argmax()) * 4 / STEPS - 1.0) < 0.2 or abs(int(early.argmax()) * 4 / STEPS - 1.7) < 0.2


def test_a_film_fits_the_sounds_that_strike_with_it(tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained().with_timing()
    film = write_film(tmp_path / "ball.mp4", ball, seconds=4.0)
    seen = space.encode([film], modality="motion")[0]
    assert seen.shape == (space.embed_dim,) and not seen[STEPS:].any()
    heard = []
    for moved in (0.0, 0.25, 0.4, 0.55):
        path = tmp_path / f"{moved}.wav"
        soundfile.write(path, clicks(tuple(hit + moved for hit in HITS)), RATE)
        heard.append(space.encode([path], modality="onset")[0])
    scores = np.stack(heard) @ seen
    assert scores[0] > scores[1:].max() + 0.1, scores


def test_timing_changes_no_other_fingerprint() -> None:
    plain = EmbeddingSpace.from_pretrained()
    prints = dict(plain.with_timing().fingerprints())
    assert {len(prints.pop("motion")), len(prints.pop("onset"))} == {64}
    assert prints == dict(plain.fingerprints())
    both = plain.with_voices().with_timing()
    assert {"voice", "motion", "onset"} < set(both.modalities) and both.with_timing() is both


def test_a_space_without_videos_or_room_has_no_timing(tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained()
    narrow = EmbeddingSpace(space.folder, {**space.config, "embed_dim": 32}, space.calibration)
    with pytest.raises(ConfigError, match="rows of 32 numbers have no room for timing, which has 64"):
        narrow.with_timing()
    sections = {name: section for name, section in space.config["sections"].items() if name != "video"}
    with pytest.raises(ConfigError, match="no encoder of video, beside which timing is kept"):
        EmbeddingSpace(space.folder, {**space.config, "sections": sections}, space.calibration).with_timing()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of a ball, sounds that strike with it and otherwise, and a film without movement."""
    folder = tmp_path_factory.mktemp("media")
    write_film(folder / "ball.mp4", ball, seconds=4.0)
    write_film(folder / "still.mp4", lambda t: ball(0.0), seconds=4.0)
    for name, moved in (("fits", 0.0), ("late", 0.4), ("later", 0.55)):
        soundfile.write(folder / f"{name}.wav", clicks(tuple(hit + moved for hit in HITS)), RATE)
    return folder


def test_a_film_finds_the_sound_of_its_own_moments_and_the_sound_the_film(media: Path, tmp_path: Path) -> None:
    space = EmbeddingSpace.from_pretrained().with_timing()
    with Catalog.create(tmp_path / "c", embed_dim=space.embed_dim, fingerprints=space.fingerprints()) as catalog:
        report = ingest(catalog, [media], space)
        assert not report.failed
        held = catalog.info().segments
        assert held["motion"] == 1 and held["onset"] == 3  # nothing moves in the still one
        hits = search_composed(catalog, [compose(str(media / "ball.mp4"), space)], to=["audio"])[0]
        assert Path(hits[0].uri).stem == "fits" and len(hits) == 3
        assert [hit.rank for hit in hits] == [1, 2, 3] and {hit.modality for hit in hits} == {"audio"}
        assert hits[0].probability is None and hits[0].score > hits[1].score + 0.05
        back = search_composed(catalog, [compose(str(media / "fits.wav"), space, as_modality="audio")], to=["video"])
        assert [Path(hit.uri).stem for hit in back[0]] == ["ball", "still"]
        everything = search_composed(catalog, [compose(str(media / "ball.mp4"), space)])[0]
        assert not {"motion", "onset"} & {hit.modality for hit in everything}
        with pytest.raises(InputError, match="motion cannot be found by image"):
            catalog.search(np.ones(space.embed_dim), query_modality="image", to="motion")


def test_a_catalog_of_before_opens_as_before_and_gets_timing_by_migration(media: Path, tmp_path: Path) -> None:
    plain = EmbeddingSpace.from_pretrained()
    with Catalog.create(tmp_path / "c", embed_dim=plain.embed_dim, fingerprints=plain.fingerprints()) as catalog:
        ingest(catalog, [media], plain)
        catalog.check_fingerprint(plain.with_timing().fingerprints())
        query = compose(str(media / "ball.mp4"), plain.with_timing())
        before = search_composed(catalog, [query], to=["audio"])[0]
        assert before == catalog.search(query.vector, query_modality="video", to=["audio"])[0]
        rows = {name: catalog.vectors(name)[1] for name in ("audio", "video", "image")}
        report = migrate(catalog, plain.with_timing())
        assert set(report.modalities) == {"motion", "onset"} and not report.failed
        assert catalog.info().segments["onset"] == 3 and catalog.info().segments["motion"] == 1
        for name, kept in rows.items():
            np.testing.assert_array_equal(catalog.vectors(name)[1], kept)
        after = search_composed(catalog, [query], to=["audio"])[0]
        assert Path(after[0].uri).stem == "fits"


def test_timing_takes_part_only_where_a_film_asks_for_sounds_or_a_sound_for_films() -> None:
    assert timing_wanted("video", ["audio"]) == timing_wanted("video", "audio") == "onset"
    assert timing_wanted("speech", ["video"]) == timing_wanted("audio", ["video"]) == "motion"
    for modality, to in (("video", None), ("video", ["audio", "image"]), ("video", ["video"]), ("text", ["audio"])):
        assert timing_wanted(modality, to) == ""


def test_hits_are_merged_by_the_mean_of_both_cosines() -> None:
    from tests.support.hits import hit

    meant = [hit("a", 0.5), hit("b", 0.4)]
    struck = [[hit("b", 0.9), hit("c", 0.8)], [hit("a", 0.1), hit("b", 0.2)]]
    found = merged(meant, struck, 1.0, whole=True)
    assert [(one.id, round(one.score, 3)) for one in found] == [("b", 0.65), ("a", 0.3)]
    found = merged(meant, struck, 1.0, whole=False)
    assert [(one.id, round(one.score, 3)) for one in found] == [("b", 0.65), ("c", 0.6), ("a", 0.3)]
    assert {one.modality for one in found} == {"audio"}


def test_every_frame_is_shown_upright_and_small(tmp_path: Path) -> None:
    film = Film()
    frames = list(iter_greys(write_film(tmp_path / "ball.mp4", ball, seconds=1.0), film, GRID))
    assert len(frames) == 25 and frames[0][1].shape == GRID[::-1]
    assert film.seconds == pytest.approx(1.0, abs=0.05)


def test_timing_for_new_items_alone_is_refused(media: Path, tmp_path: Path) -> None:
    plain = EmbeddingSpace.from_pretrained()
    with Catalog.create(tmp_path / "c", embed_dim=plain.embed_dim, fingerprints=plain.fingerprints()) as catalog:
        ingest(catalog, [media / "fits.wav"], plain)
    with pytest.raises(InputError, match=r"no timing yet; run: embedspace catalog migrate .* --timing"):
        _with_asked(plain, tmp_path / "c", voices=False, timing=True)
    assert "motion" in _with_asked(plain, tmp_path / "new", voices=False, timing=True).modalities
