"""`embedspace generate`: make anything from anything."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedspace.cli.shared.generate_options import (
    By,
    FilmSound,
    Force,
    HeadOptions,
    HeadReference,
    Landmarks,
    Morph,
    Neighbours,
    Number,
    Out,
    Overwrite,
    Seed,
    Sheet,
    Sounds,
    Sources,
    To,
    with_target_options,
)
from embedspace.cli.shared.options import AsModality, Device, Download, Json, SpaceName
from embedspace.cli.shared.targets import check_edited, edited_source, files_of, sample_paths
from embedspace.errors import ArgumentError, InputError
from embedspace.generate.targets import Target, target_of
from embedspace.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedspace.generate import Head, Request, Sample
    from embedspace.query.composition import ComposedQuery
    from embedspace.query.grammar import Query
    from embedspace.space import EmbeddingSpace

__all__ = ["generate"]

_SHEET_SIDE = 256
"""Pixels of a source's shorter side that a sheet needs at least."""


@dataclass(frozen=True)
class _Job:
    """One vector to generate from: where it comes from, and the files that its samples go into."""

    query: str
    terms: list[dict[str, Any]]
    vector: NDArray[np.float32]
    modality: str
    paths: list[Path]
    words: str


@with_target_options
def generate(
    sources: Sources,
    to: To,
    number: Number = 1,
    seed: Seed = 0,
    out: Out = None,
    sheet: Sheet = None,
    morph: Morph = None,
    neighbours: Neighbours = 0,
    force: Force = False,
    head: HeadReference = None,
    head_options: HeadOptions = None,
    sounds: Sounds = None,
    film_sound: FilmSound = None,
    by: By = None,
    landmarks: Landmarks = None,
    overwrite: Overwrite = False,
    as_modality: AsModality = None,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
    **settings: Any,  # noqa: ANN401 - of the targets' options
) -> None:
    """Make a picture, a sound, a caption or speech from words, files, or a composition of them.

    A file that exists is replaced only with --overwrite. A file says where it comes from: seed, generator, hash of its
    weights and the source's terms are inside. With --init a file is edited: --mask says where, --strength how far.
    Captions are printed, and written only with --out. With --json one object per sample. A film with --to audio is
    given sounds where something strikes in it, into the film or alone (.wav); with --seconds it is one sound of what it
    means. --by lips: what lips say; --by voice: a face; --voice FILE: that voice, only of people who agreed.
    """
    from embedspace.cli.shared.voices import says_without_vectors

    others = {"head": head, "morph": morph, "sheet": sheet, "sounds": sounds, "film_sound": film_sound,
              "neighbours": neighbours, "as": as_modality, "landmarks": landmarks}  # fmt: skip
    if says_without_vectors(sources, to, by, settings, others, (number, seed), out=out, overwrite=overwrite,
                            as_json=json, space=(space_name, device, download)):  # fmt: skip
        return
    from embedspace.cli.shared.films import check_no_film, is_film, score_films

    if is_film(sources, to, settings, morph=morph, head=head, as_modality=as_modality):
        score_films(sources, settings, number=number, seed=seed, out=out, sheet=sheet, neighbours=neighbours,
                    sounds=sounds, film_sound=film_sound, overwrite=overwrite, as_json=json,
                    space=(space_name, device, download))  # fmt: skip
        return
    check_no_film(sounds, film_sound)
    from embedspace.query.grammar import parse

    asked, target = _request(number, seed, to, settings), _target(to)
    chosen = _head(head, head_options)  # as a query that cannot be read, it costs no start-up
    parsed = [parse(text) for text in (*sources, *([morph] if morph is not None else []))]
    _check(asked, target, out, sheet, len(sources), morph)
    paths = sample_paths(out, sources, target, number, morph=morph is not None)
    check_edited([*itertools.chain(*paths), sheet], files_of(parsed, as_modality), settings, overwrite=overwrite)
    space, composed = _composed(parsed, (space_name, device, download), asked, to, chosen, as_modality)
    jobs, request = _jobs(sources, composed, asked, space, paths, morph)
    options = {"to": to, "head": chosen, "neighbours": max(neighbours, 4 if sheet else 0), "force": force}
    samples = _run(space, jobs, request, options, as_json=json, shown=neighbours)
    _draw(sheet, jobs, samples, space, chosen)


def _composed(
    parsed: Sequence[Query],
    opened: tuple[str | None, str, bool],
    asked: Request,
    to: str,
    head: Head | None,
    as_modality: str | None,
) -> tuple[EmbeddingSpace, list[ComposedQuery]]:
    """Open the space, refuse what cannot be done before anything is encoded, and encode the queries."""
    from embedspace.cli.shared.space import load_space, quick_start
    from embedspace.query.composition import compose

    with quick_start(words_only=False):
        space = load_space(*opened)
        space.generators.of(to, head).check(asked)
        return space, [compose(one, space, as_modality=as_modality) for one in parsed]


def _head(reference: str | None, options: list[str] | None) -> Head | None:
    """Return the published generator that is named, if one is."""
    from embedspace.generate.pretrained.head import head_of

    if options and reference is None:
        raise ArgumentError("head_option", f"{', '.join(options)}: goes with --head")
    return None if reference is None else head_of(reference, options or ())


def _target(name: str) -> Target:
    found = target_of(name)
    assert found is not None, name  # `--to` takes no other
    return found


def _request(number: int, seed: int, to: str, settings: dict[str, Any]) -> Request:
    """Return the request; settings are checked before torch is loaded.

    Raises:
        ArgumentError: If the target does not take one, or it is out of range.
    """
    takes = {option.name: option for option in _target(to).options}
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in given.items():
        if name not in takes:
            flags = ", ".join(option.on_command_line for option in takes.values()) or "no option of its own"
            raise ArgumentError(name, f"{value}: does not go with --to {to}, which takes: {flags}")
        takes[name].check(value)
    from embedspace.generate.base import request_of

    return request_of(given, number, seed, _target(to).content)


def _check(asked: Request, to: Target, out: Path | None, sheet: Path | None, number: int, morph: str | None) -> None:
    """Refuse what cannot be done before anything is loaded."""
    from embedspace.cli.shared.output import open_for_writing

    for path in (out, sheet):
        if path is not None:
            open_for_writing(path)
    if sheet is not None and to.name != Modality.IMAGE:
        raise InputError(f"--sheet shows pictures; it does not go with --to {to.name}")
    if morph is not None and number > 1:
        raise InputError("--morph goes from one --from to one other source; give one --from")
    if morph is not None and asked.num_samples < 2:
        raise InputError(f"-n {asked.num_samples}: a morph has at least 2 frames")


def _jobs(
    sources: Sequence[str],
    composed: Sequence[ComposedQuery],
    asked: Request,
    space: EmbeddingSpace,
    paths: Sequence[list[Path]],
    morph: str | None,
) -> tuple[list[_Job], Request]:
    """Return what to make, and the request for each of them: a morph's frames are one sample each."""
    import dataclasses

    from embedspace.calibration.centring import MIXED
    from embedspace.generate import interpolate

    terms = [[dataclasses.asdict(term) for term in query.terms] for query in composed]
    if morph is None:
        each = zip(sources, terms, composed, paths, strict=True)
        return [_Job(s, t, c.vector, c.source_modality, where, c.words) for s, t, c, where in each], asked
    ends = [(query.vector, query.source_modality) for query in composed]
    rows = interpolate(ends[0], ends[1], asked.num_samples, space)
    files, both = paths[0], [*terms[0], *terms[1]]
    name = f"{sources[0]} > {morph}"
    words = " ".join(query.words for query in composed) if all(query.words for query in composed) else ""
    jobs = [_Job(name, both, row, MIXED, files[k : k + 1], words) for k, row in enumerate(rows)]
    return jobs, dataclasses.replace(asked, num_samples=1)


def _run(
    space: EmbeddingSpace,
    jobs: Sequence[_Job],
    request: Request,
    options: dict[str, Any],
    *,
    as_json: bool,
    shown: int,
) -> list[list[Sample]]:
    """Make and write everything, a few samples at a time."""
    from embedspace.cli.shared.output import Interrupted

    finished: list[list[Sample]] = []
    written = 0
    total = len(jobs) * request.num_samples
    generator = space.generators.of(options["to"], options["head"])
    try:
        for job in jobs:
            own: list[Sample] = []
            for part in _parts(request, options["to"], generator.batch):
                for sample in _generate(space, job, part, options):
                    _deliver(sample, job, len(own), as_json=as_json, shown=shown)
                    own.append(sample)
                    written += 1
            finished.append(own)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {written} of {total} samples are finished and kept") from None
    except ArgumentError as error:
        if not written:
            raise
        kept = f"{error.problem}; {written} of {total} samples are finished and kept"
        raise ArgumentError(error.argument, kept) from error
    return finished


def _parts(request: Request, to: str, size: int) -> list[Request]:
    """Split a request into chunks that give the same samples; captions are ranked together and stay together."""
    import dataclasses

    if _target(to).ranked:
        return [request]
    return [
        dataclasses.replace(request, num_samples=min(size, request.num_samples - first), seed=request.seed + first)
        for first in range(0, request.num_samples, size)
    ]


def _generate(space: EmbeddingSpace, job: _Job, request: Request, options: dict[str, Any]) -> list[Sample]:
    from embedspace.errors import OutsideError
    from embedspace.generate import generate as run

    made_by = space.generators.of(options["to"], options["head"])
    redrawn = made_by.redrawn_styles(request) if request.style is not None else ()
    request = edited_source(request, job.query, len(job.terms), redrawn)
    try:
        return run(space, job.vector, modality=job.modality, request=request, texts=[job.words], **options)[0]
    except OutsideError as error:
        raise OutsideError(f"{job.query}: {error}".replace("force=True", "--force")) from None


def _deliver(sample: Sample, job: _Job, number: int, *, as_json: bool, shown: int) -> None:
    """Write a sample and say where it is; a caption is the answer itself."""
    import dataclasses

    from embedspace.cli.shared.output import print_json
    from embedspace.generate.files import content_of, record_of, write_sample

    kept = dataclasses.replace(sample, neighbours=sample.neighbours[:shown])
    record = record_of(kept, job.query, job.terms)
    path = write_sample(job.paths[number], sample, record) if job.paths else None
    if as_json:
        print_json({**record, "path": str(path) if path else None})
        return
    if content_of(sample) == "text":
        print(f"{sample.text}  ({sample.score:.2f})")
        for text, score in sample.alternatives:
            print(f"  {text}  ({score:.2f})")
    elif sample.text:
        print(f"{path}  {sample.text!r}")
    else:
        print(f"{path}{'  (near copy of a training item)' if sample.provenance.get('near_copy') else ''}")
    for neighbour in kept.neighbours:
        print(f"  near {neighbour.similarity:.2f} ({neighbour.of})  {neighbour.item}  {neighbour.caption}")
    sys.stdout.flush()


def _copied(sample: Sample) -> str:
    """Return what a sheet adds under a sample that is a near copy of a training item."""
    return ", near copy" if sample.provenance.get("near_copy") else ""


def _draw(
    sheet: Path | None,
    jobs: Sequence[_Job],
    drawn: Sequence[Sequence[Sample]],
    space: EmbeddingSpace,
    head: Head | None,
) -> None:
    """Write the contact sheet, if one is wanted: a row per source, the nearest training items before the samples."""
    if sheet is None:
        return
    from embedspace.generate.files import contact_sheet
    from embedspace.media.image import flatten, load_image
    from embedspace.media.write import write_image
    from embedspace.modality import SUFFIXES

    shown = getattr(space.generators.of(Modality.IMAGE, head), "neighbour_pictures", None)
    rows: list[tuple[str, list[tuple[str, Any]]]] = []
    for number, (job, samples) in enumerate(zip(jobs, drawn, strict=True)):
        if number and job.query == jobs[0].query:  # a morph's frames stand in one row
            rows[0][1].extend((f"frame {number + 1}{_copied(sample)}", sample.content) for sample in samples)
            continue
        cells: list[tuple[str, Any]] = []
        if SUFFIXES.get(Path(job.query).suffix.lower()) == "image" and Path(job.query).is_file():
            cells.append(("source", flatten(load_image(job.query, min_side=_SHEET_SIDE))))
        for neighbour, picture in shown(job.vector, job.modality, space, 3) if samples and shown else ():
            cells.append((f"near: {neighbour.caption}", picture))
        cells += [(f"seed {sample.seed}{_copied(sample)}", sample.content) for sample in samples]
        rows.append((job.query, cells))
    write_image(sheet, contact_sheet(rows))
    print(sheet)
