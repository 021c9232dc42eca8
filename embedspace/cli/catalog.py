"""`embedspace catalog`: look into a catalog and change it."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedspace.cli.shared.options import (
    AsModality,
    BatchSize,
    CatalogPath,
    Device,
    Download,
    Json,
    Quiet,
    SpaceName,
    Where,
    Workers,
)
from embedspace.cli.upkeep import optimize, tune
from embedspace.errors import InputError
from embedspace.modality import holds_several

if TYPE_CHECKING:
    from embedspace.catalog.records import CatalogInfo, CatalogItem, RemoveReport

__all__ = ["add", "app", "export", "info", "migrate", "remove", "verify"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a catalog and change it.")


@app.command()
def info(catalog: CatalogPath, json: Json = False) -> None:
    """Show what a catalog holds and how it was made."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import list_failures, print_json

    with Catalog.open(catalog, read_only=True) as opened:
        found = opened.info()
    if json:
        print_json(dataclasses.asdict(found))
        return
    for name, value in _facts(found):
        print(f"{name:<14}{value}")
    list_failures([(failure.uri, failure.reason) for failure in found.failures])


def _facts(found: CatalogInfo) -> list[tuple[str, str]]:
    from embedspace.cli.shared.output import size_text

    def listed(counts: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in counts.items()) or "none"

    places = f" at {found.uris} places" if found.uris != found.items else ""
    return [
        ("path", found.path),
        ("items", f"{found.items}{places}: {listed(found.kinds)}"),
        ("segments", listed(found.segments)),
        ("failed", str(len(found.failures))),
        ("size", size_text(found.size_bytes)),
        ("embed_dim", str(found.embed_dim)),
        ("settings", found.settings),
        ("search", listed(found.indexes)),
        ("calibrated", "yes" if found.calibrated else "no: hits have no probabilities"),
        ("encoders", listed({name: digest[:12] for name, digest in found.fingerprints.items()})),
        ("fields", ", ".join(found.fields) or "none"),
        ("format", str(found.format_version)),
    ]


@app.command()
def add(
    catalog: CatalogPath,
    items: Annotated[
        list[str],
        typer.Argument(metavar="ITEMS", help="Files, or words to keep as texts; in double quotes, words always."),
    ],
    metadata: Annotated[
        list[str] | None, typer.Option("--meta", metavar="NAME=VALUE", help="Metadata of all of them; may be repeated.")
    ] = None,
    as_modality: AsModality = None,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Add single files or words, with metadata; `embedspace index` is for folders and manifests."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import list_failures, print_json
    from embedspace.cli.shared.space import load_space

    facts = _metadata(metadata or [])
    failures: list[tuple[str, str]] = []
    with Catalog.open(catalog) as opened:
        space = load_space(space_name, device, download)
        opened.adopt_fingerprints(space.fingerprints(), space.calibration_json())
        good: list[CatalogItem] = []
        for item in items:
            try:
                good.append(_catalog_item(_utf8(item), facts, space, as_modality))
            except InputError as error:
                failures.append((item, str(error)))
        report = opened.add(good)
    if json:
        print_json({**dataclasses.asdict(report), "failed": [{"uri": uri, "reason": why} for uri, why in failures]})
    else:
        print(f"{report.added} added, {report.updated} updated, {report.known} known already, {len(failures)} failed")
        list_failures(failures)
    if failures and not good:
        raise typer.Exit(1)


def _metadata(pairs: list[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; numbers and booleans become what they are."""
    facts: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--meta {pair!r}: expected NAME=VALUE")
        facts[_utf8(name.strip())] = _value(_utf8(value))
    return facts


def _utf8(text: str) -> str:
    """Return a text from the command line.

    Raises:
        InputError: If it is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{text!a}: not UTF-8; write it so, or rename the file") from None
    return text


def _value(text: str) -> str | int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?\d+\.\d*", text) else text


def _catalog_item(value: str, facts: dict[str, Any], space: Any, as_modality: str | None) -> CatalogItem:  # noqa: ANN401
    """Decode and encode one file or text."""
    from embedspace.catalog.content_ids import content_hash
    from embedspace.catalog.ingest.reading import read_file
    from embedspace.catalog.records import CatalogItem
    from embedspace.query.sources import Source, resolve

    if len(value) > 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
        source = Source(value, "text")
    else:
        source = resolve(value, as_modality=as_modality)
        if source.path is None and os.path.isdir(os.path.expanduser(value)):
            raise InputError(
                f"{value}: a folder; `embedspace index` reads folders; if you mean the word, write '\"{value}\"'"
            )
    wanted = as_modality if holds_several(source.kind) else None
    if source.path is None:
        decoded = space.decode(value, "text")
        identity = content_hash(value, "text")
        uri, size, mtime_ns = f"text:{identity[:12]}", len(value), 0
    else:
        path = Path(os.path.abspath(source.path))  # as `index` names it, so that both mean one place
        stat = path.stat()
        reading = read_file(path, source.kind, lambda _: space.decode(path, source.kind, as_modality=wanted))
        if reading.error is not None:
            raise reading.error
        identity, decoded = reading.digest, reading.decoded
        uri, size, mtime_ns = str(path), stat.st_size, stat.st_mtime_ns
    return CatalogItem(
        uri=uri,
        kind=source.kind,
        segments=space.encode_decoded([decoded])[0],
        metadata=facts,
        content_hash=identity,
        size=size,
        mtime_ns=mtime_ns,
        as_modality=wanted or "",
        content=value if source.path is None else None,
        facts=decoded.metadata,
    )


@app.command()
def remove(
    catalog: CatalogPath,
    uris: Annotated[
        list[str] | None, typer.Argument(metavar="URIS", help="Files, uris, or the words of texts, to forget.")
    ] = None,
    where: Where = None,
    json: Json = False,
) -> None:
    """Forget items; the files themselves stay. An item that lies at several places goes with the last of them."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import note, print_json

    if bool(uris) == (where is not None):
        raise InputError("say what to remove: URIS, or --where, but not both")
    missing: list[str] = []
    with Catalog.open(catalog) as opened:
        if where is not None:
            report = opened.remove(where=where)
        else:
            places: list[str] = []
            for name in uris or []:
                found = opened.places_of(_utf8(name))
                if not found:
                    missing.append(name)
                places.extend(found)
            report = opened.remove(uris=places)
    if json:
        print_json({**dataclasses.asdict(report), "missing": missing})
    else:
        for name in missing:
            note(f"{name}: not in the catalog")
        print(_removed(report))
    if not (report.places or report.failures):
        raise typer.Exit(1)


def _removed(report: RemoveReport) -> str:
    said = []
    if report.items or not (report.places or report.failures):
        said.append(f"{report.items} removed")
    if report.places != report.items:
        places = f"{report.places} place{'s' if report.places > 1 else ''} forgotten"
        said.append(places if report.items else f"{places}; what lay there is at other places, too")
    if report.failures:
        said.append(f"{report.failures} no longer listed as failed")
    return ", ".join(said)


@app.command()
def verify(
    catalog: CatalogPath,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Also read every file and compare it.")] = True,
    json: Json = False,
) -> None:
    """Prove that vectors, items and files agree; exits 1 if they do not."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import print_json

    with Catalog.open(catalog, read_only=True) as opened:
        report = opened.verify(files=files)
    if json:
        print_json({**dataclasses.asdict(report), "ok": report.ok})
    else:
        checked = f"{report.items} items, {report.segments} segments, {report.files} files checked"
        print(f"{checked}: {'all agree' if report.ok else f'{len(report.problems)} problems'}")
        for problem in report.problems:
            print(f"{problem.what}: {problem.where}: {problem.detail}")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def export(
    catalog: CatalogPath,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .parquet, .npz or .jsonl file.")],
    json: Json = False,
) -> None:
    """Write every segment with its vector and metadata to a file."""
    from embedspace.catalog.catalog import Catalog
    from embedspace.cli.shared.output import open_for_writing, print_json

    with Catalog.open(catalog, read_only=True) as opened:
        open_for_writing(out)
        count = opened.export(out)
    if json:
        print_json({"segments": count, "path": str(out)})
    else:
        print(f"{count} segments in {out}")


@app.command()
def migrate(
    catalog: CatalogPath,
    batch_size: BatchSize = 32,
    workers: Workers = None,
    quiet: Quiet = False,
    json: Json = False,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Encode again what another encoder made: only modalities whose encoder changed.

    A space of another width encodes everything. Searches stay right meanwhile: the new vectors replace the old ones all
    at once. It may be interrupted or killed at any moment: run it again to go on.
    """
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.migrate import migrate as run
    from embedspace.cli.shared.output import Interrupted, list_failures, print_json
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_space

    with Catalog.open(catalog) as opened, ProgressReport(quiet=quiet or json) as bar:
        report = run(
            opened,
            load_space(space_name, device, download),
            batch_size=batch_size,
            workers=workers,
            callback=lambda now: bar.show("encoding", now),
        )
    if report.interrupted:
        raise Interrupted(
            f"interrupted; {catalog} is as it was, {report.encoded} items are encoded; run the same command to go on"
        )
    if json:
        print_json(dataclasses.asdict(report))
        return
    if not quiet and not report.modalities:
        print("nothing to do: the catalog's vectors are of this encoder")
    elif not quiet:
        print(
            f"{', '.join(report.modalities)}: {report.encoded} encoded, {report.kept} kept, {report.removed} removed, "
            f"{len(report.failed)} failed, {report.seconds:.1f} s"
        )
    list_failures([(failure.uri, failure.reason) for failure in report.failed])


app.command()(optimize)
app.command()(tune)
