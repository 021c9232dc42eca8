"""What `embedspace generate --from who.wav --to image --by voice` does: faces that fit who speaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.cli.shared.targets import check_targets, deliver, each_source, sample_paths
from embedspace.errors import ArgumentError, InputError
from embedspace.modality import SUFFIXES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedspace.generate.faces import FaceMaker
    from embedspace.space import EmbeddingSpace

__all__ = ["VOICE", "make_faces", "makes_faces"]

VOICE = "voice"
_TARGET = "image"
_TAKES = ("size",)


def makes_faces(by: str) -> bool:
    """Return whether what is named by `--by` makes faces."""
    if by == VOICE:
        return True
    if not Path(by).is_dir():
        return False
    from embedspace.generate.faces.maker import is_face_maker

    return is_face_maker(Path(by))


def make_faces(
    recordings: Sequence[str],
    to: str,
    by: str,
    settings: dict[str, Any],
    *,
    number: int,
    seed: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    space: tuple[str | None, str, bool],
) -> None:
    """Make faces for recordings, and write them.

    Args:
        recordings: Sources, as the user gave them.
        to: "image".
        by: "voice", or the folder of what makes faces.
        settings: Options of the target and others; None, 0 or False where they were not given.
        number: Faces for each.
        seed: Of the first.
        out: File to write; several become name-1, name-2, ...
        overwrite: Replace files.
        as_json: Print one object a face.
        space: Name, device and whether it may be fetched, of the space that hears voices.

    Raises:
        EmbedspaceError: If an option does not fit, or nobody is heard; of several, those that can be heard have faces.
    """
    paths = _checked(recordings, to, by, settings, number, out, overwrite)
    maker = _maker(by)
    from embedspace.cli.shared.space import load_space

    opened = load_space(*space).with_voices()

    def draw(number_of: int) -> None:
        voice = _voice(opened, recordings[number_of])
        made = maker.make(voice, number, seed=seed, size=settings.get("size"))
        for sample, path in zip(made, paths[number_of], strict=True):
            deliver(sample, recordings[number_of], path, as_json=as_json)

    each_source(len(recordings), draw, "recordings could not be heard")


def _checked(
    recordings: Sequence[str],
    to: str,
    by: str,
    settings: dict[str, Any],
    number: int,
    out: Path | None,
    overwrite: bool,
) -> list[list[Path]]:
    """Refuse what does not fit before anything is loaded; returns the files of each recording's faces."""
    from embedspace.cli.shared.output import open_for_writing
    from embedspace.generate.targets import target_of

    if to != _TARGET:
        raise InputError(f"--by {by} makes faces from voices: --to {_TARGET}, not --to {to}")
    for name, value in settings.items():
        if value not in (None, False, 0) and name not in _TAKES:
            raise ArgumentError(name, f"{value}: does not go with --by {by}")
    target = target_of(to)
    assert target is not None, to
    if settings.get("size") is not None:
        next(option for option in target.options if option.name == "size").check(settings["size"])
    for recording in recordings:
        if not Path(recording).is_file():
            raise InputError(f"--from {recording}: no such file; --by {by} takes recordings of somebody who speaks")
        if SUFFIXES.get(Path(recording).suffix.lower()) not in ("audio", "video"):
            raise InputError(f"--from {recording}: no recording; --by {by} takes files of sound or video")
    paths = sample_paths(out, recordings, target, number)
    check_targets([path for own in paths for path in own], [Path(one) for one in recordings], overwrite=overwrite)
    if out is not None:
        open_for_writing(out)
    return paths


def _maker(by: str) -> FaceMaker:
    from embedspace.generate.faces import FaceMaker

    return FaceMaker.from_pretrained(None if by == VOICE else by)


def _voice(space: EmbeddingSpace, recording: str) -> NDArray[np.float32]:
    """Return the voice of who speaks longest in a recording.

    Raises:
        InputError: If nobody is heard to speak.
        MediaError: If it cannot be read.
    """
    from embedspace.modality import Modality
    from embedspace.segment import mean_vector

    segments = space.encode_decoded([space.decode(recording, "audio")])[0]  # of a film the sound alone
    found = mean_vector(segments, Modality.VOICE)
    if found is None:
        raise InputError(f"{recording}: nobody is heard to speak; take a recording of some seconds of speech")
    return found.astype("float32")
