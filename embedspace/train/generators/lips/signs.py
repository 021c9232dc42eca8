"""Points of people who sign, for the network that reads lips: files of OpenPose and MediaPipe, the folders of How2Sign.

Both layouts become the same 49 points: nose, shoulders, elbows, wrists, and 21 of each hand.

    openpose_output/json/<SENTENCE_NAME>/*_keypoints.json      one file a frame, BODY_25 and hands
    <SENTENCE_NAME>.npy                                        (T, 75 or 543, 2 or more), MediaPipe's holistic points
    how2sign_realigned_train.csv                               SENTENCE_NAME and SENTENCE, separated by tabs
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError, EmbedspaceError, MediaError
from embedspace.generate.lips.network import letters_of
from embedspace.train.generators.lips.clips import Clip, write_shard

__all__ = ["POINTS", "mediapipe_points", "openpose_points", "prepare_signs"]

POINTS = 49
"""Points a frame; a network has `points = 49`."""
_HAND = 21
_OPENPOSE = (0, 2, 3, 4, 5, 6, 7)
"""Nose, then right and left shoulder, elbow and wrist of BODY_25."""
_MEDIAPIPE = (0, 12, 14, 16, 11, 13, 15)
"""The same of MediaPipe's pose."""
_LAYOUTS = {75: (0, 33, 54), 543: (0, 501, 522)}
"""Points of a file -> where its pose, left and right hand begin."""
_SHARD = 200
_SPLITS = {"train": "train", "val": "val", "test": "test"}
_FPS_SHARE = 2
"""Every second frame is taken: signs are slower than lips."""


def openpose_points(folder: Path) -> NDArray[np.float16]:
    """Read a folder of OpenPose's files, one a frame, in the order of their names.

    Returns:
        (T, 98) float16, see `POINTS`; 0 where a point was not found.

    Raises:
        MediaError: If there are none, or one is damaged.
    """
    files = sorted(folder.glob("*_keypoints.json"))
    if not files:
        raise MediaError(f"{folder}: no *_keypoints.json there; name a folder that OpenPose wrote")
    frames = np.zeros((len(files), POINTS, 3), np.float32)
    for number, file in enumerate(files):
        try:
            people = json.loads(file.read_text("utf-8"))["people"]
            if people:
                frames[number] = _openpose_frame(people[0])
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise MediaError(f"{file}: no frame of OpenPose with BODY_25 and hands ({error}); write it anew") from error
    return _levelled(frames[..., :2], frames[..., 2] > 0)


def _openpose_frame(person: dict[str, Any]) -> NDArray[np.float32]:
    body = np.asarray(person["pose_keypoints_2d"], np.float32).reshape(-1, 3)[list(_OPENPOSE)]
    hands = [
        np.asarray(person[f"hand_{side}_keypoints_2d"], np.float32).reshape(_HAND, 3) for side in ("left", "right")
    ]
    return np.concatenate([body, *hands])


def mediapipe_points(path: Path) -> NDArray[np.float16]:
    """Read MediaPipe's holistic points, (T, 75, C) without or (T, 543, C) with a face; NaN or 0 is not found.

    Returns:
        (T, 98) float16, see `POINTS`.

    Raises:
        MediaError: If it is no such file.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MediaError(f"{path}: no array of points ({error}); save MediaPipe's as .npy") from error
    if found.ndim != 3 or found.shape[1] not in _LAYOUTS or found.shape[2] < 2 or not len(found):
        raise MediaError(f"{path}: has shape {found.shape}; must be (frames, 75 or 543, 2 or more)")
    pose, left, right = _LAYOUTS[found.shape[1]]
    chosen = [*(pose + k for k in _MEDIAPIPE), *range(left, left + _HAND), *range(right, right + _HAND)]
    points = found[:, chosen, :2].astype(np.float32)
    there = np.isfinite(points).all(axis=2) & (points != 0).any(axis=2)
    return _levelled(np.nan_to_num(points), there)


def _levelled(points: NDArray[np.float32], there: NDArray[np.bool_]) -> NDArray[np.float16]:
    """Return points (T, 49, 2) about the middle of the shoulders, one apart; 0 where there is none."""
    both = there[:, 1] & there[:, 4]
    if not both.any():
        raise MediaError("both shoulders are seen in no frame; film the signer from the front")
    right, left = points[both, 1], points[both, 4]
    middle = np.median((right + left) / 2, axis=0)
    apart = max(float(np.median(np.linalg.norm(right - left, axis=1))), 1e-6)
    level = (points - middle) / apart * there[..., None]
    kept: NDArray[np.float16] = np.clip(level, -8, 8).reshape(len(points), -1).astype(np.float16)
    return kept


def prepare_signs(
    corpus: Path, folder: Path, *, tell: Callable[[int, int], None] = lambda done, films: None
) -> list[str]:
    """Write points and sentences of a folder of How2Sign into a folder of clips; splits that are there are kept.

    Args:
        corpus: Has one table a split, its name ending in _train.csv, _val.csv or _test.csv, and the points.
        folder: Where the clips go.
        tell: Told how many sentences are done, of how many.

    Returns:
        What was left out and why, a line each.

    Raises:
        ConfigError: If there is no table for training.
    """
    tables = {split: sorted(corpus.rglob(f"*_{split}.csv")) for split in _SPLITS}
    if not tables["train"]:
        raise ConfigError(f"{corpus}: no table *_train.csv there; name a folder of How2Sign")
    rows = [(split, row) for split, paths in tables.items() for path in paths for row in _rows(path)]
    skipped: list[str] = []
    for first in range(0, len(rows), _SHARD):
        tell(first, len(rows))
        name = f"signs-{first // _SHARD:05}"
        if not (folder / f"{name}.jsonl").exists():
            clips = list(_clips(corpus, rows[first : first + _SHARD], skipped))
            if clips:
                write_shard(folder, name, clips)
    tell(len(rows), len(rows))
    return skipped


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if rows and not {"SENTENCE_NAME", "SENTENCE"} <= rows[0].keys():
        raise ConfigError(
            f"{path}: has no columns SENTENCE_NAME and SENTENCE, separated by tabs; name How2Sign's table"
        )
    return rows


def _clips(corpus: Path, rows: list[tuple[str, dict[str, str]]], skipped: list[str]) -> Iterator[Clip]:
    for split, row in rows:
        name = row["SENTENCE_NAME"]
        if "/" in name or name.startswith("."):
            skipped.append(f"{name}: no name of a sentence")
            continue
        try:
            points = _points(corpus, split, name)[::_FPS_SHARE]
        except EmbedspaceError as error:
            skipped.append(str(error))
            continue
        if len(points) > len(letters_of(row["SENTENCE"])) > 0:
            yield Clip(points, row["SENTENCE"], split, about={"sentence": name})
        else:
            skipped.append(f"{name}: {len(points)} frames are too few for what is signed")


def _points(corpus: Path, split: str, name: str) -> NDArray[np.float16]:
    """Return the points of a sentence, in whichever layout they lie there."""
    for place in (corpus / "openpose_output/json" / name, corpus / split / "openpose_output/json" / name):
        if place.is_dir():
            return openpose_points(place)
    for path in (corpus / f"{name}.npy", corpus / split / f"{name}.npy"):
        if path.is_file():
            return mediapipe_points(path)
    raise MediaError(f"{name}: no points of it in {corpus}: neither openpose_output/json/{name} nor {name}.npy")
