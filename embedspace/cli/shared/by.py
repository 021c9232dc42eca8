"""What `embedspace generate --by` chooses: who draws faces for voices, or who reads lips in films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedspace.cli.shared.faces import make_faces, makes_faces
from embedspace.cli.shared.lips import LIPS, read_films
from embedspace.errors import ArgumentError
from embedspace.modality import Modality

__all__ = ["generate_by"]


def generate_by(
    by: str,
    sources: Sequence[str],
    to: str,
    given: dict[str, Any],
    drawn: tuple[int, int],
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    space: tuple[str | None, str, bool],
) -> None:
    """Draw faces by voices, or read films by lips; `drawn` is number and seed, others are as `make_faces` takes them.

    Raises:
        EmbedspaceError: If an option does not fit, or a source cannot be used.
    """
    number, seed = drawn
    if makes_faces(by):
        make_faces(
            sources, to, by, given, number=number, seed=seed, out=out, overwrite=overwrite, as_json=as_json, space=space
        )
        return
    if to == Modality.IMAGE and by != LIPS and not Path(by).is_dir():
        raise ArgumentError("by", f"{by}: must be voice, or a folder that a recipe of kind faces made")
    read_films(sources, to, by, {**given, "n": number - 1}, out=out, overwrite=overwrite, as_json=as_json)
