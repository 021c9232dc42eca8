"""What `embedspace generate --from talk.mp4 --to text --by lips` does: the words of a film by the speaker's lips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.cli.shared.targets import check_targets, deliver, each_source, sample_paths
from embedspace.errors import ArgumentError, InputError
from embedspace.modality import SUFFIXES

if TYPE_CHECKING:
    from embedspace.generate.base import Sample
    from embedspace.generate.lips import LipReader

__all__ = ["LIPS", "read_films"]

LIPS = "lips"
_TARGETS = ("text", "speech")


def read_films(
    films: Sequence[str],
    to: str,
    by: str,
    settings: dict[str, Any],
    *,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Read the lips in films, and write or say what is said.

    Args:
        films: Sources, as the user gave them.
        to: "text" or "speech".
        by: "lips", or the folder of a reader.
        settings: Options of the target and others that only a voice goes with; None, 0 or False where they were not
            given; "landmarks" is a file or folder of them.
        out: File to write; several films become name-1, name-2, ...
        overwrite: Replace files.
        as_json: Print one object a film.

    Raises:
        EmbedspaceError: If an option does not fit, or a film cannot be read; of several, those that can be are.
    """
    landmarks = settings.pop("landmarks", None)
    paths = _checked(films, to, by, settings, out, overwrite)
    _check_landmarks(landmarks, films)
    reader = _reader(by)

    def read(number: int) -> None:
        sample = _sample(reader, films[number], to, settings.get("voice"), landmarks)
        deliver(sample, films[number], paths[number], as_json=as_json, said=f"  {sample.text!r}")

    each_source(len(films), read, "films could not be read")


def _checked(
    films: Sequence[str],
    to: str,
    by: str,
    settings: dict[str, Any],
    out: Path | None,
    overwrite: bool,
) -> list[Path | None]:
    """Refuse what does not fit before anything is loaded; returns the file of each film, None where words are said."""
    from embedspace.cli.shared.output import open_for_writing
    from embedspace.generate.targets import target_of

    if to not in _TARGETS:
        raise InputError(f"--by {by} reads words from films: --to {' or --to '.join(_TARGETS)}, not --to {to}")
    for name, value in settings.items():
        if value not in (None, False, 0) and (name, to) != ("voice", "speech"):
            raise ArgumentError(name, f"{value}: does not go with --by {by}")
    for film in films:
        if not Path(film).is_file():
            raise InputError(f"--from {film}: no such file; --by {by} takes files of films")
        if SUFFIXES.get(Path(film).suffix.lower()) != "video":
            raise InputError(f"--from {film}: no film; --by {by} takes files of films")
    target = target_of(to)
    assert target is not None, to
    named = sample_paths(out, films, target, 1)
    paths = [own[0] if own else None for own in named]
    check_targets([path for path in paths if path], [Path(film) for film in films], overwrite=overwrite)
    if out is not None:
        open_for_writing(out)
    return paths


def _check_landmarks(landmarks: Path | None, films: Sequence[str]) -> None:
    if landmarks is None:
        return
    if not landmarks.exists():
        raise ArgumentError("landmarks", f"{landmarks}: no such file or folder")
    if landmarks.is_file() and len(films) > 1:
        raise ArgumentError("landmarks", f"{landmarks}: is of one film; of {len(films)} films name a folder of files")


def _reader(by: str) -> LipReader:
    from embedspace.generate.lips import LipReader

    if by != LIPS and not Path(by).is_dir():
        raise ArgumentError("by", f"{by}: must be {LIPS}, or the folder of a reader that you trained")
    return LipReader.from_pretrained(None if by == LIPS else by)


def _sample(reader: LipReader, film: str, to: str, voice: str | None, landmarks: Path | None) -> Sample:
    """Return what is said in a film, as text or in a voice."""
    from embedspace.generate.base import Sample
    from embedspace.generate.conversion.say import say_words
    from embedspace.generate.lips.landmarks import read_landmarks

    lines = reader.read(film, locate=None if landmarks is None else read_landmarks(landmarks, film))
    text = "\n".join(line.text for line in lines)
    about = {
        "by": LIPS,
        "weights": reader.digest,
        "trained_on": reader.about,
        **({} if landmarks is None else {"landmarks": landmarks.name}),
        "lines": [{"start": round(one.start, 2), "end": round(one.end, 2), "text": one.text} for one in lines],
    }  # fmt: skip
    score = sum(line.score for line in lines) / len(lines)
    if to == "text":
        return Sample("text", text, 0, text=text, score=score, provenance=about)
    waveform, rate, made_by = say_words(text.replace("\n", ". "), voice)
    return Sample("speech", waveform, 0, rate, text=text, score=score, provenance={**made_by, **about})
