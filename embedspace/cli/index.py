"""`embedspace index`: folders, files and manifests into a catalog."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from embedspace.cli.shared.index_options import (
    RAY,
    Actors,
    CatalogOption,
    HalfPrecision,
    IndexWorkers,
    NoRecogniser,
    Parts,
    Paths,
    Profile,
    Prune,
    PruneAll,
    RetryFailed,
    Settings,
)
from embedspace.cli.shared.options import (
    AsModality,
    BatchSize,
    Device,
    Download,
    Json,
    Quiet,
    SpaceName,
    Timing,
    Voices,
)
from embedspace.errors import ConfigError, FingerprintMismatchError, InputError
from embedspace.modality import NOT_READ, SUFFIXES, Modality

if TYPE_CHECKING:
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.index.settings import IndexSettings
    from embedspace.catalog.ingest.ingest import IngestReport
    from embedspace.catalog.records import Loss
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.encoders.half import HalfPrecision as HalfTrials
    from embedspace.space import EmbeddingSpace

__all__ = ["index", "index_settings", "report_ingest"]

BUILT_IN_SETTINGS = ("exact", "hnsw", "ivf")


def index(
    paths: Paths,
    catalog: CatalogOption,
    prune: Prune = False,
    prune_all: PruneAll = False,
    as_modality: AsModality = None,
    retry_failed: RetryFailed = False,
    batch_size: BatchSize = 32,
    workers: IndexWorkers = None,
    actors: Actors = None,
    parts: Parts = None,
    settings: Settings = None,
    no_recogniser: NoRecogniser = False,
    half_precision: HalfPrecision = False,
    voices: Voices = False,
    timing: Timing = False,
    profile: Profile = False,
    quiet: Quiet = False,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Add media to a catalog; only what is new or changed is encoded.

    May be killed at any moment: run it again to go on. Unreadable files are skipped and listed with the reason; they
    are tried again when they change, or with --retry-failed. The exit code is 1 if every file is bad or there is none,
    and where --prune would remove most of a folder's or manifest's items (see there) and nobody confirms it.
    """
    from embedspace.cli.shared.output import Interrupted
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_set_space
    from embedspace.space.fitting import fitted

    if not any(path.exists() for path in paths):  # before a catalog is made for nothing
        raise InputError(f"{', '.join(map(str, paths))}: no such file or folder; check the spelling")
    _check_workers(workers, actors, parts, half_precision=half_precision)
    chosen = index_settings(settings) if settings else None
    given = functools.partial(load_set_space, space_name, device, download, half=half_precision)
    space, load = _set_for(catalog, given, no_recogniser=no_recogniser)
    space = _with_asked(space, catalog, voices=voices, timing=timing)
    run = _ingest(workers, actors, parts, space, load)
    with _opened(catalog, space, chosen, no_recogniser=no_recogniser) as opened:
        with ProgressReport(quiet=quiet or json) as bar:
            report = run(
                opened,
                paths,
                fitted(space, opened.fingerprints),
                batch_size=batch_size,
                prune=prune or prune_all,
                confirm_loss=_confirm(bar, prune_all=prune_all, may_ask=not (quiet or json)),
                as_modality=as_modality,
                retry_failed=retry_failed,
                callback=None if quiet or json else lambda now: bar.show("indexing", now),
            )
        items = len(opened)
    _tell_speed(report, space, profile=profile and not json, quiet=quiet or json)
    report_ingest(report, paths, as_json=json, quiet=quiet)
    if report.interrupted:
        raise Interrupted(f"interrupted; the {items} items in {catalog} are intact, run the same command to go on")


def _check_workers(workers: Any, actors: int | None, parts: Path | None, *, half_precision: bool) -> None:  # noqa: ANN401
    if workers != RAY and (actors or parts):
        raise InputError("--actors and --parts are for --workers ray")
    if workers == RAY and half_precision:
        raise InputError("--half-precision is for one process: with --workers ray each actor would decide for itself")


def _set_for(
    catalog: Path, load: Callable[..., EmbeddingSpace], *, no_recogniser: bool
) -> tuple[EmbeddingSpace, Callable[[], EmbeddingSpace]]:
    """Return the space as it was for the catalog that there is, or as it is wanted for a new one, and what loads it."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.errors import CatalogNotFoundError
    from embedspace.space.fitting import fitted

    if no_recogniser:
        return load(recogniser=False), functools.partial(load, recogniser=False)
    space = load()
    try:
        with Catalog.open(catalog, read_only=True) as opened:
            its = fitted(space, opened.fingerprints)
    except CatalogNotFoundError:
        return space, load
    return its, functools.partial(load, recogniser=its is space or its.has_recogniser == space.has_recogniser)


def _opened(path: Path, space: EmbeddingSpace, settings: IndexSettings | None, *, no_recogniser: bool) -> Catalog:
    """Open the catalog, or make it.

    Raises:
        FingerprintMismatchError: If its vectors come from another space; the message knows of --no-recogniser.
    """
    from embedspace.catalog.ingest.opening import open_or_create

    try:
        return open_or_create(path, space, settings)
    except FingerprintMismatchError as error:
        if not no_recogniser:
            raise
        raise FingerprintMismatchError(
            f"--no-recogniser: {path} was made otherwise; leave the option off, index into a new catalog, or encode "
            f"its speech again with: embedspace catalog migrate {path} --no-recogniser"
        ) from error


def _with_asked(space: EmbeddingSpace, path: Path, *, voices: bool, timing: bool) -> EmbeddingSpace:
    """Return the space with what is asked for; refuse it for new items alone, as those of before would not be found."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.store.schema import database_path

    if (voices or timing) and database_path(path).is_file():
        with Catalog.open(path, read_only=True) as catalog:
            known, held = catalog.fingerprints, catalog.info().segments
        again = f"run: embedspace catalog migrate {path}"
        if voices and Modality.VOICE not in known and Modality.SPEECH in held:
            raise InputError(f"{path}: its recordings have no voices yet; {again} --voices")
        if timing and Modality.MOTION not in known and (Modality.AUDIO in held or Modality.VIDEO in held):
            raise InputError(f"{path}: its videos and recordings have no timing yet; {again} --timing")
    space = space.with_voices() if voices else space
    return space.with_timing() if timing else space


def _ingest(
    workers: Any,  # noqa: ANN401 - a number, RAY or None
    actors: int | None,
    parts: Path | None,
    space: EmbeddingSpace,
    load: Callable[[], EmbeddingSpace],
) -> Callable[..., IngestReport]:
    """Return what indexes: in this process, or with encoders of Ray, each of which loads the space as it is set."""
    if workers == RAY:
        from embedspace.catalog.ingest.spread.rays import require_ray
        from embedspace.catalog.ingest.spread.spread import ingest_spread

        require_ray()  # before a catalog is made for nothing
        many = actors or os.cpu_count() or 1
        extras = {"voices": space.supports(Modality.VOICE), "timing": space.supports(Modality.MOTION)}
        opened = functools.partial(_loaded, load, **extras)
        return functools.partial(ingest_spread, opened=opened, actors=many, parts=parts)
    from embedspace.catalog.ingest.ingest import ingest

    return functools.partial(ingest, workers=workers)


def _loaded(load: Callable[[], EmbeddingSpace], *, voices: bool, timing: bool) -> EmbeddingSpace:
    from embedspace.space.fitting import with_extras

    return with_extras(load(), voices=voices, timing=timing)


def _confirm(bar: ProgressReport, *, prune_all: bool, may_ask: bool) -> Callable[[Loss], bool] | None:
    """Return who decides about a prune of most of a source: the option, the user at a terminal, or nobody."""
    if prune_all:
        return lambda loss: True
    if not (may_ask and sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(loss: Loss) -> bool:
        with bar.paused():
            return typer.confirm(f"{_told(loss)}. Remove them from the catalog?", err=True)

    return ask


def _told(loss: Loss) -> str:
    if not loss.sure:
        return f"{loss.source}: {loss.places} of {loss.known} known places were kept: {loss.reason}"
    return f"{loss.source}: nothing is at {loss.places} of {loss.known} known places any more; {loss.reason}"


def index_settings(name: str) -> IndexSettings:
    """Return index settings by their built-in name or file.

    Raises:
        ConfigError: If there are no such settings.
    """
    from embedspace.catalog.index.settings import IndexSettings

    if name in BUILT_IN_SETTINGS:
        return IndexSettings(name=name, index=name)
    if Path(name).is_file():
        return IndexSettings.from_toml(name)
    raise ConfigError(f"no index settings {name!r}; give {', '.join(BUILT_IN_SETTINGS)}, or an existing TOML file")


def report_ingest(report: IngestReport, paths: list[Path], *, as_json: bool, quiet: bool) -> None:
    """Print what an ingest did.

    Raises:
        typer.Exit: With 1 if every file failed, or there was none, or a prune was not confirmed.
    """
    from embedspace.cli.shared.output import list_failures, note, print_json

    failures = [(failure.uri, failure.reason) for failure in report.failed]
    left_out = ", ".join(f"{count} {suffix}" for suffix, count in sorted(report.skipped.items()))
    nothing = not (report.seen or failures or report.removed or report.kept or report.interrupted)
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        if not (quiet or nothing):
            print(_summary(report, len(failures)))
            if left_out:
                print(f"left out, nothing to encode in them: {left_out}{_manifests(report)}")
        for reason in dict.fromkeys(NOT_READ[suffix] for suffix in report.skipped if suffix in NOT_READ):
            note(reason)
        list_failures(failures)
        for loss in report.kept:
            note(f"{_told(loss)}; kept, --prune-all removes them" if loss.sure else _told(loss))
        if known := sum(failure.known for failure in report.failed):
            note(f"{known} failed before and did not change since; --retry-failed tries again")
    if nothing:
        where = ", ".join(map(str, paths))
        found = f"only {left_out}" if left_out else "it is empty"
        note(f"embedspace: {where}: nothing to index ({found}); known suffixes: {' '.join(sorted(SUFFIXES))}")
    if any(loss.sure for loss in report.kept) or nothing or (failures and not (report.settled or report.interrupted)):
        raise typer.Exit(1)


def _manifests(report: IngestReport) -> str:
    """Say how a manifest that was only come across is read."""
    from embedspace.catalog.places import MANIFEST_SUFFIXES

    found = any(suffix in MANIFEST_SUFFIXES for suffix in report.skipped)
    return " (a manifest is read only where PATHS names it)" if found else ""


def _tell_speed(report: IngestReport, space: EmbeddingSpace, *, profile: bool, quiet: bool) -> None:
    """Say where the time went if wanted, and what was computed in half precision."""
    if profile:
        print(_profile(report))
    half: HalfTrials | None = getattr(space, "half", None)
    for line in half.told() if half and not quiet else ():
        print(line)


def _profile(report: IngestReport) -> str:
    """Return a table of where the time went, the longest stage first."""
    stages = {**report.stages, "look for files": report.seconds - sum(report.stages.values())}
    rows = [
        f"{name:20}{seconds:9.1f} s {100 * seconds / max(report.seconds, 1e-9):5.1f}%"
        for name, seconds in sorted(stages.items(), key=lambda pair: -pair[1])
    ]
    rows.append(
        f"{'all':20}{report.seconds:9.1f} s; reading and decoding in threads beside it: {report.decoding:.1f} s"
    )
    return "\n".join(rows)


def _summary(report: IngestReport, failed: int) -> str:
    parts = [f"{getattr(report, name)} {name}" for name in ("added", "updated", "unchanged")]
    parts += [f"{getattr(report, name)} {name}" for name in ("moved", "duplicates", "removed") if getattr(report, name)]
    return f"{', '.join(parts)}, {failed} failed, {report.seconds:.1f} s"
