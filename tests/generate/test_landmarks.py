"""Landmarks in place of skin and motion: every layout says the same mouth; what does not fit is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedspace.errors import InputError, MediaError
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.landmarks import landmarks_file, read_landmarks
from embedspace.generate.lips.mouths import MouthTrack, iter_mouths
from embedspace.media.film import Film
from tests.generate.test_lips import face, reader_in
from tests.support.ball_film import write_film

SIZE = (240, 160)
MESH = {"left": 61, "right": 291, "sides": (234, 454)}
DLIB = {"left": 48, "right": 54, "sides": (0, 16)}


def aside(t: float) -> Image.Image:
    """Return a face that moves to the right by 60 pixels a second, in a wide picture."""
    return face(t, at=(round(60 + 60 * t),), size=SIZE)


def marks(times: np.ndarray, points: int = 68) -> np.ndarray:
    """Return (T, points, 2) pixels of that face: its mouth 24 wide about y = 102, the face 60 wide."""
    begin = 33 if points == 543 else 0
    layout = DLIB if points in (68, 70) else MESH
    out = np.full((len(times), points, 2), np.nan, np.float32)
    x = 60 + 60 * times
    rows = {layout["left"]: x - 12, layout["right"]: x + 12, layout["sides"][0]: x - 30, layout["sides"][1]: x + 30}  # type: ignore[index]
    if points == 20:
        rows = {0: x - 12, 6: x + 12}
    for place, across in rows.items():
        out[:, begin + place] = np.stack([across, np.full(len(times), 102)], axis=1)  # type: ignore[operator]
    return out


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("films") / "talk.mp4", aside, fps=30, seconds=1.5)


TIMES = np.arange(45) / 30


def write_csv(path: Path, points: np.ndarray, lost: tuple[int, ...] = ()) -> Path:
    names = [f"{axis}_{k}" for axis in "xy" for k in range(points.shape[1])]
    lines = [", ".join(["frame", "success", *names])]
    for number, frame in enumerate(np.nan_to_num(points)):
        lines.append(", ".join(map(str, [number + 1, int(number not in lost), *frame.T.ravel()])))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_openpose(folder: Path, points: np.ndarray) -> Path:
    folder.mkdir()
    for number, frame in enumerate(points):
        known = np.isfinite(frame[:, :1]).astype(float)
        flat = np.concatenate([np.nan_to_num(frame), known], axis=1).ravel().tolist()
        (folder / f"talk_{number:012}_keypoints.json").write_text(json.dumps({"people": [{"face_keypoints_2d": flat}]}))
    return folder


def places(track: MouthTrack) -> np.ndarray:
    return track.within(list(track.seconds), SIZE[1], SIZE[0])


def test_every_layout_says_the_same_mouth(film: Path, tmp_path: Path) -> None:
    for points in (20, 68, 70, 468, 478, 543):
        np.save(tmp_path / "talk.npy", marks(TIMES, points))
        found = places(read_landmarks(tmp_path / "talk.npy", film))
        middle = slice(10, 35)  # a smooth track lags at its ends
        assert np.abs(found[middle, 0] - (60 + 60 * TIMES[middle])).max() < 0.5, points
        assert np.abs(found[:, 1] - 102).max() < 0.5
        assert np.abs(found[:, 2] - 0.24 * (62.4 if points == 20 else 60)).max() < 0.1
    np.save(tmp_path / "shares.npy", marks(TIMES, 478) / np.array(SIZE))
    assert np.abs(places(read_landmarks(tmp_path / "shares.npy", film))[middle] - found[middle]).max() < 0.1


def test_every_kind_of_file_is_read(film: Path, tmp_path: Path) -> None:
    own = marks(TIMES)
    np.save(tmp_path / "a.npy", own)
    wanted = places(read_landmarks(tmp_path / "a.npy", film))
    np.savez(tmp_path / "b.npz", face=own)
    (tmp_path / "c.json").write_text(json.dumps(np.nan_to_num(own).tolist()))
    write_csv(tmp_path / "d.csv", own, lost=(20,))
    write_openpose(tmp_path / "e", marks(TIMES, 70))
    for name in ("b.npz", "c.json", "d.csv", "e"):
        assert np.abs(places(read_landmarks(tmp_path / name, film)) - wanted).max() < 0.1, name


def test_frames_without_a_face_lie_between_their_neighbours(film: Path, tmp_path: Path) -> None:
    own = marks(TIMES)
    own[12:20] = np.nan
    np.save(tmp_path / "a.npy", own)
    assert np.abs(places(read_landmarks(tmp_path / "a.npy", film))[10:35, 0] - (60 + 60 * TIMES[10:35])).max() < 0.5
    rows: list[object] = [None if 12 <= k < 20 else frame for k, frame in enumerate(np.nan_to_num(own).tolist())]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    assert np.abs(places(read_landmarks(tmp_path / "b.json", film))[10:35, 0] - (60 + 60 * TIMES[10:35])).max() < 0.5


def test_the_mouth_is_cut_out_where_landmarks_say(tmp_path: Path) -> None:
    """Of 50 frames a second without a face the second half has a bright spot where the mouth is said to be."""

    def spot(t: float) -> Image.Image:
        picture = Image.new("RGB", SIZE, (0, 0, 0))
        if t >= 0.5:
            picture.paste((255, 255, 255), (170, 90, 190, 110))
        return picture

    film = write_film(tmp_path / "spot.mp4", spot, fps=50, seconds=1.0)
    own = np.full((50, 68, 2), np.nan, np.float32)
    for place, x in ((48, 176), (54, 184), (0, 170), (16, 190)):
        own[:, place] = (x, 100)
    np.save(tmp_path / "spot.npy", own)
    with pytest.raises(InputError, match="no face"):
        list(iter_mouths(film, Film()))
    crops = np.concatenate(list(iter_mouths(film, Film(), read_landmarks(tmp_path, film))))
    assert crops.shape == (25, 32, 32)
    means = crops.mean(axis=(1, 2))
    assert means[:12].max() < 20 and means[14:].min() > 200
    own[:, :, 0] -= 100  # now the mouth is said to be where nothing is shown
    np.save(tmp_path / "spot.npy", own)
    elsewhere = np.concatenate(list(iter_mouths(film, Film(), read_landmarks(tmp_path, film))))
    assert elsewhere.max() < 20


def test_what_does_not_fit_is_one_line(film: Path, tmp_path: Path) -> None:
    own = marks(TIMES)
    cases = {
        "short.npy": (own[:-1], InputError, "landmarks of 44 frames, .*talk.mp4 has 45"),
        "nobody.npy": (own * np.nan, InputError, "the mouth is within the picture .* in 0 of 45 frames"),
        "half.npy": (np.where(np.arange(45)[:, None, None] < 22, own, 0), InputError, "in 22 of 45 frames"),
        "far.npy": (own * 8, InputError, r"within the picture \(240 x 160\) in 0 of 45"),
        "flat.npy": (own[:, :, 0], MediaError, r"shape \(45, 68\)"),
        "five.npy": (own[:, :5], MediaError, "has 5 points a face; layouts of 20, 68"),
    }
    for name, (points, error, said) in cases.items():
        np.save(tmp_path / name, points)
        with pytest.raises(error, match=said) as caught:
            read_landmarks(tmp_path / name, film)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    texts = {
        "a.json": "{}", "b.json": "[[[1, 2], [3]]]", "c.json": "[null, null]", "d.json": "[", "e.csv": "x,y\n1,2\n",
        "f.csv": "x_0,y_0\n1,here\n", "g.npy": "no array", "h.txt": "1 2", "i.json": "[3, 4]", "j.npz": "PK\x03\x04no",
        "k.csv": "x_0,y_0\n1\n", "l.json": '[[["a", "b"]]]', "m.json": "[[[1, 2]], [[1, 2], [3, 4]]]",
        "o.json": '[[{"x": 1, "y": 2}]]',
    }  # fmt: skip
    (tmp_path / "frames").mkdir()
    texts["frames/n_keypoints.json"] = "[]"
    for written, text in texts.items():
        (tmp_path / written).write_text(text)
        name = written.split("/")[0]
        with pytest.raises(MediaError, match=r"landmarks|points") as caught:
            read_landmarks(tmp_path / name, film)
        assert name in str(caught.value) and str(caught.value).count("\n") == 0, name


def test_folders_hold_one_file_per_film(film: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no landmarks of talk.mp4: none of talk.npy, .* no folder talk of OpenPose"):
        landmarks_file(tmp_path, film)
    with pytest.raises(InputError, match="no such file or folder"):
        landmarks_file(tmp_path / "none", film)
    beside = tmp_path / "anna"
    beside.mkdir()
    (beside / "talk.csv").write_text("")
    assert landmarks_file(tmp_path, tmp_path / "anna" / "talk.mp4", tmp_path) == beside / "talk.csv"
    with pytest.raises(InputError, match=r"no landmarks of talk.mp4"):
        landmarks_file(tmp_path, tmp_path / "ben" / "talk.mp4", tmp_path)
    assert landmarks_file(tmp_path, write_openpose(tmp_path / "talk", marks(TIMES[:2], 70))) == tmp_path / "talk"
    assert landmarks_file(tmp_path / "talk", film) == tmp_path / "talk"


def test_a_reader_reads_where_landmarks_say(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedspace.generate.lips.reader.read_words", lambda *given: ("bin blue", -3.0))
    np.save(tmp_path / "talk.npy", marks(TIMES))
    reader = LipReader.from_pretrained(reader_in(tmp_path / "reader"))
    (line,) = reader.read(film, locate=read_landmarks(tmp_path, film))
    assert line.text == "bin blue" and line.end == pytest.approx(1.5, abs=0.05)
