"""`embedspace catalog add`: single files and words."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedspace.cli.shared.options import AsModality, CatalogPath, Device, Download, Json, SpaceName, utf8
from embedspace.errors import InputError
from embedspace.modality import holds_several

if TYPE_CHECKING:
    from embedspace.catalog.records import CatalogItem

__all__ = ["add"]


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
    from embedspace.space.fitting import fitted

    facts = _metadata(metadata or [])
    failures: list[tuple[str, str]] = []
    with Catalog.open(catalog) as opened:
        space = fitted(load_space(space_name, device, download), opened.fingerprints)
        opened.adopt_fingerprints(space.fingerprints(), space.calibration_json())
        good: list[CatalogItem] = []
        for item in items:
            try:
                good.append(_catalog_item(utf8(item), facts, space, as_modality))
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
        facts[utf8(name.strip())] = _value(utf8(value))
    return facts


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
