"""What `embedspace generate --from film.mp4 --to audio` does: sound for a film rather than a sound of what it means."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.errors import ArgumentError, InputError
from embedspace.modality import SUFFIXES, Modality

if TYPE_CHECKING:
    from embedspace.generate.base import Request
    from embedspace.generate.soundtrack import SoundBank, Soundtrack
    from embedspace.space import EmbeddingSpace

__all__ = ["check_no_film", "is_film", "score_films"]

_ONE_SOUND = ("seconds", "init", "mask", "strength", "voice")
"""Options of one sound; a film that comes with one of them is a source as any other."""


def is_film(
    sources: Sequence[str],
    to: str,
    settings: dict[str, Any],
    *,
    morph: str | None,
    head: str | None,
    as_modality: str | None,
) -> bool:
    """Return whether films are given sound: all sources are files of films, and nothing asks for one sound.

    Raises:
        InputError: If some sources are films and others are not.
    """
    if to != Modality.AUDIO or morph or head or as_modality or any(settings.get(n) is not None for n in _ONE_SOUND):
        return False
    films = [SUFFIXES.get(Path(source).suffix.lower()) == "video" and Path(source).is_file() for source in sources]
    if any(films) and not all(films):
        other = sources[films.index(False)]
        raise InputError(f"--from {other}: no film, beside films; give it a command of its own, or say --seconds")
    return all(films)


def check_no_film(sounds: str | None, film_sound: str | None) -> None:
    """Refuse options of films where no film is given sound.

    Raises:
        ArgumentError: If one is given.
    """
    for name, value in (("sounds", sounds), ("film_sound", film_sound)):
        if value is not None:
            raise ArgumentError(name, f"{value}: goes with films alone: --from film.mp4 --to audio, without --seconds")


def score_films(
    films: Sequence[str],
    settings: dict[str, Any],
    *,
    number: int,
    seed: int,
    out: Path | None,
    sheet: Path | None,
    neighbours: int,
    sounds: str | None,
    film_sound: str | None,
    overwrite: bool,
    as_json: bool,
    space: tuple[str | None, str, bool],
) -> None:
    """Give films sound, and write them.

    Raises:
        EmbedspaceError: If one cannot be read or written, or an option does not fit; what is finished is kept.
    """
    from embedspace.cli.shared.output import open_for_writing
    from embedspace.cli.shared.space import load_space, quick_start
    from embedspace.generate.base import request_of
    from embedspace.generate.soundtrack import scored, watch
    from embedspace.generate.soundtrack.sounds import MADE
    from embedspace.generate.soundtrack.soundtrack import KEEP, REPLACE

    if sheet is not None or neighbours:
        raise InputError("--sheet and --neighbours do not go with films; the record in the file names every sound")
    if film_sound not in (None, KEEP, REPLACE):
        raise ArgumentError("film_sound", f"{film_sound}: must be {KEEP} or {REPLACE}")
    given = {name: value for name, value in settings.items() if value is not None}
    if given and sounds != MADE:
        name, value = next(iter(given.items()))
        raise ArgumentError(name, f"{value}: says how sounds are made; add --sounds {MADE}")
    request = request_of(given, number, seed, "audio")
    paths = _paths(films, out, number)
    _check(paths, films, overwrite)
    if out is not None:
        open_for_writing(out)
    with quick_start(words_only=False):
        loaded = load_space(*space)
    with _bank(loaded, sounds, request) as bank:
        for film, own in zip(films, paths, strict=True):
            watched = watch(film, loaded)
            for k, path in enumerate(own):
                track = scored(watched, loaded, bank, seed=seed + k, film_sound=film_sound)
                track.write(path)
                _say(track, path, asked=film_sound is not None, as_json=as_json)


def _paths(films: Sequence[str], out: Path | None, number: int) -> list[list[Path]]:
    """Return the files of each film; without --out they are films beside the working folder's other files."""
    from embedspace.cli.shared.targets import sample_paths
    from embedspace.generate.targets import target_of

    target = target_of(Modality.AUDIO)
    assert target is not None
    named = sample_paths(out, films, target, number)
    if out is not None:
        return named
    return [
        [path.with_suffix(Path(film).suffix.lower()) for path in own] for film, own in zip(films, named, strict=True)
    ]


def _check(paths: Sequence[Sequence[Path]], films: Sequence[str], overwrite: bool) -> None:
    """Refuse files that cannot be written, before anything is looked at."""
    from embedspace.cli.shared.targets import check_targets
    from embedspace.media.mux import FILM_FORMATS

    every = [path for own in paths for path in own]
    known = (*FILM_FORMATS, ".wav", ".flac", ".ogg")
    for path in every:
        if path.suffix.lower() not in known:
            raise InputError(f"{path}: cannot be written; use {', '.join(known)}")
    check_targets(every, [Path(film) for film in films], overwrite=overwrite)


@contextlib.contextmanager
def _bank(space: EmbeddingSpace, sounds: str | None, request: Request) -> Iterator[SoundBank]:
    """Give what the sounds come from: a word, or the folder of a catalog, open while it is used."""
    from embedspace.generate.soundtrack.sounds import GALLERY, MADE, CatalogSounds, bank_of

    if sounds in (None, GALLERY, MADE):
        yield bank_of(space, sounds or GALLERY, request)
        return
    from embedspace.cli.shared.opening import opened_catalog

    folder = Path(sounds or "")
    if not os.path.lexists(folder):
        raise ArgumentError("sounds", f"{sounds}: must be {GALLERY}, {MADE} or the folder of a catalog of sounds")
    with opened_catalog(folder) as catalog:
        catalog.check_fingerprint(space.fingerprints())
        yield CatalogSounds(catalog, str(folder))


def _say(track: Soundtrack, path: Path, *, asked: bool, as_json: bool) -> None:
    """Say where it is and what is heard; and what became of a sound that the film had, where nobody said it."""
    from embedspace.cli.shared.output import print_json

    record = track.record()
    if "film_sound" in record and not asked:
        print(
            f"{track.film}: has sound, which stays under what is added; --film-sound replace leaves it out",
            file=sys.stderr,
        )
    if as_json:
        print_json({**record, "path": str(path)})
        return
    names = dict.fromkeys(event.name for event in track.events)
    heard = f"{len(track.events)} events: {', '.join(names)}" if track.events else "nothing strikes in it"
    print(f"{path}  {heard}", flush=True)
