"""The files that `embedspace generate` writes: their names, and that none of them is in the way of something."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.errors import EmbedspaceError, InputError
from embedspace.generate.targets import Target
from embedspace.modality import SUFFIXES, Modality

if TYPE_CHECKING:
    from embedspace.generate import Request, Sample
    from embedspace.query.grammar import Query

__all__ = [
    "check_edited", "check_targets", "deliver", "each_source", "edited_source", "files_of", "sample_paths",
]  # fmt: skip


def each_source(
    count: int, make: Callable[[int], None], failed: str, fatal: Callable[[EmbedspaceError], bool] | None = None
) -> None:
    """Make something of each of several sources; what fails is said at once, and the others are made.

    Args:
        count: How many.
        make: Told the number of one, from 0.
        failed: What could not be done, such as "films could not be read".
        fatal: Whether an error is about none of the sources, so that nothing else can be made either.

    Raises:
        EmbedspaceError: If the only source fails, or an error is fatal; at the end, if any source failed.
    """
    failures = 0
    for number in range(count):
        try:
            make(number)
        except EmbedspaceError as error:
            if count == 1 or (fatal is not None and fatal(error)):
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            failures += 1
    if failures:
        raise InputError(f"{failures} of {count} {failed}; what is above is finished")


def deliver(sample: Sample, source: str, path: Path | None, *, as_json: bool, said: str = "") -> None:
    """Write a sample, and say where it is.

    Args:
        sample: The sample.
        source: What it was made from.
        path: File to write; None: it is a text that is only printed.
        as_json: Print one object.
        said: What stands behind the path.
    """
    from embedspace.cli.shared.output import print_json
    from embedspace.generate.files import record_of, write_sample

    record = record_of(sample, source)
    written = write_sample(path, sample, record) if path is not None else None
    if as_json:
        print_json({**record, "path": str(written) if written else None})
    else:
        print(sample.text if written is None else f"{written}{said}", flush=True)


def sample_paths(
    out: Path | None, sources: Sequence[str], to: Target, number: int, *, morph: bool = False
) -> list[list[Path]]:
    """Return the files of each source's samples; none for captions that are only printed.

    Args:
        out: What the user named; several samples become name-1, name-2, ...; None names them after the sources.
        sources: Queries.
        to: Target.
        number: Samples of each source.
        morph: The samples are frames of one morph, which begins at the first source.
    """
    named: list[list[Path]] = []
    taken: set[Path] = set()
    for index, source in enumerate(sources[:1] if morph else sources):
        if out is None and to.content == "text":
            named.append([])
            continue
        if out is None:
            stem = Path(source).stem if Path(source).suffix else re.sub(r"\W+", "-", source.casefold()).strip("-")[:60]
            base = Path(f"{stem or 'sample'}.{to.name}{to.suffix}")
            if base in taken:  # two sources of one name
                base = base.with_stem(f"{base.stem}-of-{index + 1}")
        else:
            base = out if out.suffix else out.with_suffix(to.suffix)
            if len(sources) > 1 and not morph:
                base = base.with_stem(f"{base.stem}-{index + 1}")
        taken.add(base)
        named.append([base] if number == 1 else [base.with_stem(f"{base.stem}-{k + 1}") for k in range(number)])
    return named


def files_of(queries: Iterable[Query], as_modality: str | None) -> list[Path]:
    """Return the files that queries are made from.

    Raises:
        QueryError: If one does not exist.
    """
    from embedspace.query.sources import resolve

    found = [
        resolve(term.value, quoted=term.quoted, as_modality=as_modality).path
        for query in queries
        for term in query.terms
    ]
    return [Path(path) for path in found if path is not None]


def check_targets(paths: Iterable[Path], sources: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write over something, before anything is loaded.

    Args:
        paths: What will be written; beside a .txt goes its record, a .json.
        sources: Files that the samples are made from: they are never written over.
        overwrite: Files that exist may be replaced.

    Raises:
        InputError: If a file would be lost.
    """
    seen: set[str] = set()
    for named in paths:
        for path in (named, named.with_suffix(".json")) if named.suffix.lower() == ".txt" else (named,):
            place = os.path.realpath(path)
            if place in seen:
                raise InputError(f"{path}: two samples would be written to it; give them other names with --out")
            seen.add(place)
            if not os.path.lexists(path):
                continue
            if any(_same(path, source) for source in sources):
                raise InputError(f"{path}: is what the sample is made from; give another name with --out")
            if not overwrite:
                raise InputError(f"{path}: exists; give another name with --out, or --overwrite to replace it")


def _same(path: Path, source: Path) -> bool:
    try:
        return os.path.samefile(path, source)
    except OSError:
        return False


def check_edited(
    written: Sequence[Path | None], sources: Sequence[Path], settings: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Refuse to write over something, as `check_targets` does; what is edited is a source, too."""
    edited = [Path(settings[name]) for name in ("init", "mask", "map") if settings.get(name) is not None]
    check_targets([path for path in written if path is not None], [*sources, *edited], overwrite=overwrite)


def edited_source(request: Request, query: str, terms: int, styles: Iterable[str]) -> Request:
    """Return a request with its source as what is edited, where that is one picture and it can be redrawn in the style.

    Args:
        request: What is asked.
        query: The source.
        terms: How many terms it has.
        styles: Those that pictures are redrawn in.
    """
    is_picture = terms == 1 and SUFFIXES.get(Path(query).suffix.lower()) == Modality.IMAGE and Path(query).is_file()
    if not is_picture or request.edit is not None or request.style not in set(styles):
        return request
    import dataclasses

    from embedspace.generate.editing import edit_of_picture

    return dataclasses.replace(request, edit=edit_of_picture(query))
