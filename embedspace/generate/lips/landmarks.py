"""Landmarks of a face, found by a model of one's own, in place of skin and motion: one file for each film.

    talk.npy, talk.npz     (frames, points, 2 or more): x and y of each point; NaN or 0, 0 where it was not found
    talk.json              a list with one list of [x, y] for each frame; null or [] for a frame without a face
    talk.csv               a row per frame with the columns x_0, y_0, x_1, ..., as OpenFace writes them
    talk/*_keypoints.json  OpenPose's files, one for each frame, with its points of the face

The number of points says which layout it is: 68 (dlib, OpenFace), 70 (OpenPose: dlib's and the pupils), 468 or 478
(MediaPipe's mesh of the face), 543 (MediaPipe's holistic points), 20 (dlib's points of the mouth alone, its 48 to 67).
Points are in pixels of the upright film, or, where all lie near 0 to 1 as MediaPipe's do, in shares of its width and
height.
"""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError, MediaError
from embedspace.generate.lips.mouths import SHARE, MouthTrack, smooth
from embedspace.media.video import open_video, rotation_of

__all__ = ["landmarks_file", "read_landmarks"]

Points = NDArray[np.float32]
_SUFFIXES = (".npy", ".npz", ".csv", ".json")
_OPENPOSE = "*_keypoints.json"


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which points of a face are the corners of its mouth, and which its sides; without sides the mouth tells."""

    mouth: tuple[int, int]
    sides: tuple[int, int] | None


_DLIB = _Layout((48, 54), (0, 16))
_MESH = _Layout((61, 291), (234, 454))
_BODY = 33
"""MediaPipe's holistic points begin with so many of the body."""
_LAYOUTS = {
    20: _Layout((0, 6), None),
    68: _DLIB,
    70: _DLIB,
    468: _MESH,
    478: _MESH,
    543: _Layout((_BODY + 61, _BODY + 291), (_BODY + 234, _BODY + 454)),
}
_FACE = 2.6
"""Widths of a mouth at rest that a face is wide, where only the mouth's points are known."""
_NEAR = (-1.0, 2.0)
"""Points that all lie between these are shares of the picture, not pixels."""
_SEEN = 0.5
"""Share of the frames in which the mouth must be known; between them it is interpolated."""


def landmarks_file(place: str | os.PathLike[str], film: str | os.PathLike[str], within: Path | None = None) -> Path:
    """Return where the landmarks of a film lie.

    Args:
        place: A file; or a folder that has one named as the film is, or one of OpenPose's files.
        film: The film.
        within: Folder of films, whose folders `place` has, too.

    Raises:
        InputError: If there are none.
    """
    where, path = Path(place), Path(film)
    if where.is_file() or (within is None and next(where.glob(_OPENPOSE), None) is not None):
        return where
    if not where.is_dir():
        raise InputError(f"{where}: no such file or folder of landmarks")
    folder = where if within is None else where / path.parent.relative_to(within)
    for suffix in _SUFFIXES:
        if (found := folder / f"{path.stem}{suffix}").is_file():
            return found
    if next((folder / path.stem).glob(_OPENPOSE), None) is not None:
        return folder / path.stem
    names = ", ".join(f"{path.stem}{suffix}" for suffix in _SUFFIXES)
    raise InputError(
        f"{folder}: has no landmarks of {path.name}: none of {names}, and no folder {path.stem} of OpenPose"
    )


def read_landmarks(place: str | os.PathLike[str], film: str | os.PathLike[str]) -> MouthTrack:
    """Read where the mouth is in each frame of a film.

    Args:
        place: A file; or a folder, see `landmarks_file`.
        film: The film; its frames are counted, for which it is decoded once.

    Raises:
        InputError: If there are no landmarks, they are of another number of frames, or know no mouth.
        MediaError: If the landmarks or the film are damaged.
    """
    file = landmarks_file(place, film)
    points = _points(file)
    if points.shape[1] not in _LAYOUTS:
        known = ", ".join(map(str, _LAYOUTS))
        raise MediaError(f"{file}: has {points.shape[1]} points a face; layouts of {known} points are known")
    seconds, size = _frames(film)
    if len(points) != len(seconds):
        raise InputError(
            f"{file}: has landmarks of {len(points)} frames, {film} has {len(seconds)}; write those of every frame"
        )
    return _track(points, seconds, size, file)


def _frames(film: str | os.PathLike[str]) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Return when each frame of a film is shown, and its width and height, upright."""
    seconds, size = [], (0, 0)
    with open_video(film) as video:
        for time, frame in video.frames():
            seconds.append(time)
            across = rotation_of(frame) % 180 == 90
            size = (frame.height, frame.width) if across else (frame.width, frame.height)
    return np.array(seconds, np.float64), size


def _track(points: Points, seconds: NDArray[np.float64], size: tuple[int, int], file: Path) -> MouthTrack:
    """Return middle and half of a crop's side, in shares of the picture's width and height, from a face's points."""
    layout = _LAYOUTS[points.shape[1]]
    found = points[np.isfinite(points)]
    low, high = _NEAR
    shares = bool(len(found)) and float(found.min()) >= low and float(found.max()) <= high
    pixels = points * np.array(size, np.float32) if shares else points  # (N, P, 2)
    left, right = pixels[:, layout.mouth[0]], pixels[:, layout.mouth[1]]
    middle, mouth = (left + right) / 2, np.linalg.norm(right - left, axis=1)
    inside = ((middle >= 0) & (middle <= np.array(size))).all(axis=1)  # NaN is not
    there = inside & (mouth > 1)
    if there.mean() < _SEEN:
        raise InputError(
            f"{file}: the mouth is within the picture ({size[0]} x {size[1]}) in {int(there.sum())} of {len(points)} "
            "frames, half of them at least are needed; look whether they are of this film"
        )
    width = np.full(len(points), _FACE * float(np.median(mouth[there])))
    if layout.sides is not None:
        sides = np.linalg.norm(pixels[:, layout.sides[1]] - pixels[:, layout.sides[0]], axis=1)
        known = there & np.isfinite(sides) & (sides > mouth)
        width = np.interp(seconds, seconds[known], sides[known]) if known.any() else width
    at = np.stack([np.interp(seconds, seconds[there], middle[there, k]) for k in range(2)] + [SHARE * width], axis=1)
    return MouthTrack(seconds, (smooth(at) / np.array([size[0], size[1], size[0]])).astype(np.float32))


def _points(file: Path) -> Points:
    """Return (frames, points, 2) of a file, NaN where nothing was found."""
    read = _READERS.get(file.suffix.lower() if file.is_file() else "")
    if read is None:
        raise MediaError(f"{file}: no file of landmarks; name one of {', '.join(_SUFFIXES)}")
    try:
        found = read(file).astype(np.float32)
    except _DAMAGED as error:
        raise MediaError(f"{file}: no landmarks of a face can be read ({error}); see docs/lips.md") from error
    if found.ndim != 3 or not len(found) or found.shape[2] < 2:
        raise MediaError(f"{file}: has shape {found.shape}; must be (frames, points of a face, 2 or more)")
    points = found[:, :, :2].copy()
    points[(points == 0).all(axis=2)] = np.nan
    return points


def _from_array(file: Path) -> NDArray[Any]:
    with file.open("rb") as opened:  # numpy leaves a damaged archive open
        found = np.load(opened, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        names = list(found)
        if len(names) != 1:
            raise ValueError(f"holds {len(names)} arrays; save one")
        return np.asarray(found[names[0]])


def _from_json(file: Path) -> NDArray[Any]:
    frames = json.loads(file.read_text("utf-8"))
    if not isinstance(frames, list):
        raise ValueError("must be a list with one list of points for each frame")
    return _filled([None if not frame else np.asarray([point[:2] for point in frame], np.float32) for frame in frames])


def _from_openpose(folder: Path) -> NDArray[Any]:
    frames: list[NDArray[Any] | None] = []
    for file in sorted(folder.glob(_OPENPOSE)):
        people = json.loads(file.read_text("utf-8")).get("people", [])
        flat = people[0].get("face_keypoints_2d") if people else None
        if not flat:
            frames.append(None)
            continue
        face = np.asarray(flat, np.float32).reshape(-1, 3)
        frames.append(np.where(face[:, 2:] > 0, face[:, :2], np.nan))
    return _filled(frames)


def _filled(frames: Sequence[NDArray[Any] | None]) -> NDArray[Any]:
    """Return frames as one array, NaN where one is None."""
    shapes = {frame.shape for frame in frames if frame is not None}
    if len(shapes) != 1:
        raise ValueError("no frame has points" if not shapes else "its frames have unlike numbers of points")
    empty = np.full(shapes.pop(), np.nan, np.float32)
    return np.stack([empty if frame is None else frame for frame in frames])


def _from_csv(file: Path) -> NDArray[Any]:
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [{(key or "").strip(): value for key, value in row.items()} for row in csv.DictReader(opened)]
    count = 0
    while rows and f"x_{count}" in rows[0] and f"y_{count}" in rows[0]:
        count += 1
    if not count:
        raise ValueError("has no columns x_0, y_0, x_1, ...")
    out = np.full((len(rows), count, 2), np.nan, np.float32)
    for number, row in enumerate(rows):
        if float(row.get("success") or 1) == 0:
            continue
        for k in range(count):
            x, y = (str(row[f"{axis}_{k}"] or "").strip() for axis in "xy")
            if x and y:
                out[number, k] = float(x), float(y)
    return out


_DAMAGED = (OSError, ValueError, TypeError, AttributeError, LookupError, EOFError, csv.Error, zipfile.BadZipFile)
_READERS = {".npy": _from_array, ".npz": _from_array, ".json": _from_json, ".csv": _from_csv, "": _from_openpose}
