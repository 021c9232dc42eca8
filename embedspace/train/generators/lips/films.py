"""Films that lips are learnt from: one's own, labelled by the recogniser (as Auto-AVSR does), or those of a corpus.

    ~/talks/monday.mp4, ...                               "folder": every film; the recogniser writes what is said
    s1/bbaf2n.mpg, s1/align/bbaf2n.align or align/...     "grid": GRID (Cooke et al. 2006)
    <speaker>/00001.mp4, <speaker>/00001.txt              "lrs": LRS2 and LRS3, "Text: ..." in the first line

Source: Ma et al. 2023, "Auto-AVSR: Audio-Visual Speech Recognition with Automatic Labels".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.generate.lips.landmarks import landmarks_file, read_landmarks
from embedspace.generate.lips.mouths import FPS, Locate, MouthTrack, iter_mouths
from embedspace.generate.lips.network import letters_of
from embedspace.media.audio import load_audio
from embedspace.media.film import Film
from embedspace.modality import SUFFIXES
from embedspace.train.generators.lips.clips import Clip, write_shard

__all__ = ["LAYOUTS", "Transcribe", "prepare_films", "utterances"]

LAYOUTS = ("folder", "grid", "lrs")
RATE = 16_000
"""Hz that the recogniser hears."""
Transcribe = Callable[[NDArray[np.float32]], str]
"""(T,) float32 samples at `RATE` -> what is said."""
_LONGEST, _SHORTEST = 8.0, 0.6
"""Seconds of an utterance."""
_PAUSE = 0.25
_QUIET = 0.08
"""Share of the loud parts' level below which a tenth of a second is a pause."""
_BLOCK = RATE // 20


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A film and its text; None where the recogniser is to write it."""

    path: Path
    text: str | None
    speaker: str


def prepare_films(
    videos: Path,
    layout: str,
    folder: Path,
    transcribe: Transcribe,
    *,
    val_share: float = 0.1,
    locate: Locate | Path | None = None,
    tell: Callable[[int, int], None] = lambda done, films: None,
) -> list[str]:
    """Write the mouths of all films, and what is said, into a folder of clips; films that are there are kept.

    Args:
        videos: Folder of films.
        layout: One of `LAYOUTS`.
        folder: Where the clips go.
        transcribe: Writes what is said; used for "folder" alone.
        val_share: Share of the speakers (folders; films where there is one folder) that are kept for validation.
        locate: Finds the mouth; a folder holds landmarks, in folders and named as the films are; by skin and motion by
            default.
        tell: Told how many films are done, of how many.

    Returns:
        What was left out and why, a line each.

    Raises:
        ConfigError: If the folder or layout is wrong, or there is no film.
    """
    if isinstance(locate, Path) and not locate.is_dir():
        raise ConfigError(f"{locate}: no such folder of landmarks")
    films = _films(videos, layout)
    skipped: list[str] = []
    for number, film in enumerate(films):
        tell(number, len(films))
        split = "val" if _share(film.speaker) < val_share else "train"
        try:
            marks = landmarks_file(locate, film.path, videos) if isinstance(locate, Path) else None
            name = _name_of(film.path, marks)
            if (folder / f"{name}.jsonl").exists():
                continue
            find = locate if not isinstance(locate, Path) else read_landmarks(marks or locate, film.path)
            clips = list(_clips(film, split, transcribe, find))
        except EmbedspaceError as error:
            skipped.append(str(error))
            continue
        if clips:
            write_shard(folder, name, clips)
        else:
            skipped.append(f"{film.path}: nothing that is said was recognised")
    tell(len(films), len(films))
    return skipped


def utterances(waveform: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return (start, end) in seconds of what is said between pauses, each `_LONGEST` at most.

    Args:
        waveform: (T,) float32 at `RATE`.
    """
    blocks = waveform[: len(waveform) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    level = np.sqrt(np.square(blocks).mean(axis=1)) if len(blocks) else np.zeros(0, np.float32)
    if not len(level) or float(level.max()) <= 0:
        return []
    loud = level > _QUIET * float(np.percentile(level, 95))
    step, found, start, last = _BLOCK / RATE, [], -1, -1
    for k, heard in enumerate([*loud, False]):
        if heard and start < 0:
            start = k
        last = k if heard else last
        over = start >= 0 and ((k - last) * step >= _PAUSE or (k - start) * step >= _LONGEST or k == len(loud))
        if over:
            found.append((max(0.0, start * step - 0.1), min(len(waveform) / RATE, (last + 1) * step + 0.1)))
            start = -1
    return [(a, b) for a, b in found if b - a >= _SHORTEST]


def _films(videos: Path, layout: str) -> list[_Labelled]:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r}: must be one of {', '.join(LAYOUTS)}")
    if not videos.is_dir():
        raise ConfigError(f"{videos}: no such folder of videos")
    paths = sorted(path for path in videos.rglob("*") if SUFFIXES.get(path.suffix.lower()) == "video")
    if not paths:
        raise ConfigError(f"{videos}: no videos there; name a folder of films")
    parents = {path.parent for path in paths}
    read = {"folder": lambda path: None, "grid": _grid_text, "lrs": _lrs_text}[layout]
    films = []
    for path in paths:
        speaker = str(path.parent.relative_to(videos)) if len(parents) > 1 else path.stem
        films.append(_Labelled(path, read(path), speaker))
    return films


def _grid_text(path: Path) -> str:
    """Return the words of a clip of GRID by its alignment: lines of start, end and a word."""
    speaker, name = path.parent, f"{path.stem}.align"
    for place in (
        speaker / "align" / name,
        speaker.parent / "align" / speaker.name / name,
        speaker.parent / "align" / name,
    ):
        if place.is_file():
            words = [line.split()[2] for line in place.read_text("utf-8").splitlines() if len(line.split()) == 3]
            return " ".join(word for word in words if word not in ("sil", "sp"))
    raise ConfigError(f"{path}: has no {name} in a folder align beside it; unpack GRID's alignments there")


def _lrs_text(path: Path) -> str:
    """Return the words of a clip of LRS2 or LRS3: "Text:  ..." in the first line of the file beside it."""
    beside = path.with_suffix(".txt")
    first = beside.read_text("utf-8").splitlines()[:1] if beside.is_file() else []
    if not first or not first[0].startswith("Text:"):
        raise ConfigError(f"{beside}: must begin with 'Text:' and what is said in {path.name}")
    return first[0].removeprefix("Text:").strip()


def _clips(film: _Labelled, split: str, transcribe: Transcribe, locate: Locate | MouthTrack | None) -> Iterator[Clip]:
    crops = np.concatenate(list(iter_mouths(film.path, Film(), locate)))
    about = {"film": film.path.name, "speaker": film.speaker}
    if film.text is not None:
        yield Clip(crops, film.text, split, about=about)
        return
    sound = load_audio(film.path, sample_rate=RATE).waveform
    for start, end in utterances(sound):
        part = crops[round(start * FPS) : round(end * FPS)]
        text = transcribe(sound[round(start * RATE) : round(end * RATE)])
        if len(part) > len(letters_of(text)) > 0:  # more letters than pictures cannot be learnt
            yield Clip(part, text, split, about={**about, "seconds": round(start, 2)})


def _name_of(path: Path, marks: Path | None) -> str:
    """Return a name for a film's shard: another one where the film or its landmarks change."""
    about = [(each.resolve(), os.stat(each)) for each in (path, marks) if each is not None]
    key = "|".join(f"{where}|{found.st_size}|{found.st_mtime_ns}" for where, found in about)
    return f"{path.stem[:40]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _share(speaker: str) -> float:
    return int(hashlib.sha256(f"lips {speaker}".encode()).hexdigest()[:8], 16) / 0x1_0000_0000
