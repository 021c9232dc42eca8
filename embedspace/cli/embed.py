"""`embedspace embed`: vectors of files and words, to a file."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedspace.cli.shared.options import AsModality, BatchSize, Device, Download, Json, SpaceName
from embedspace.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedspace.query.sources import QueryEncoder, Source

__all__ = ["embed"]

WRITERS = (".npy", ".npz", ".jsonl")


@dataclass(slots=True)
class Embedded:
    """What became of the items, in their order.

    Attributes:
        ids: The good items as given.
        modalities: Which encoder made each vector.
        vectors: (embed_dim,) unit vectors.
        failures: (item, reason) of the bad ones.
    """

    ids: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def take(self, sources: Sequence[Source], rows: Sequence[tuple[NDArray[np.float32], str]]) -> None:
        """Append encoded items."""
        for source, (vector, modality) in zip(sources, rows, strict=True):
            self.ids.append(source.value)
            self.modalities.append(modality)
            self.vectors.append(vector)


def embed(
    items: Annotated[
        list[str],
        typer.Argument(metavar="ITEMS", help="Files or words; - reads one item per line from standard input."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="vectors.npy (with vectors.json, the ids and modalities, beside it), .npz or .jsonl.",
        ),
    ] = None,
    as_modality: AsModality = None,
    json: Json = False,
    batch_size: BatchSize = 32,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Turn files and words into unit vectors, one row an item, in the order given.

    A bad item is left out of the rows and listed; the exit code is 1 if all are bad.
    """
    from embedspace.cli.shared.output import input_lines, list_failures, note, open_for_writing, print_json
    from embedspace.cli.shared.space import load_space

    if out is None and not json:
        raise InputError("nowhere to put the vectors; give --out vectors.npy, or --json to print them")
    if out is not None:
        if out.suffix not in WRITERS:
            raise InputError(f"{out}: unknown suffix {out.suffix or '(none)'!r}; known: {' '.join(WRITERS)}")
        open_for_writing(out)
    wanted = input_lines() if items == ["-"] else items
    result = _embed_all(wanted, load_space(space_name, device, download), as_modality, batch_size)
    if result.ids and out is not None:
        _write(out, result)
        note(f"{len(result.ids)} vectors in {out}")
    if json:
        for record in _records(result):
            print_json(record)
    list_failures(result.failures)
    if not result.ids:
        raise typer.Exit(1)


def _embed_all(items: list[str], space: QueryEncoder, as_modality: str | None, batch_size: int) -> Embedded:
    """Encode batch by batch; a batch with a bad item is done again one by one."""
    from embedspace.query.sources import embed_sources, resolve

    result = Embedded()
    for start in range(0, len(items), batch_size):
        batch: list[Source] = []
        for item in items[start : start + batch_size]:
            try:
                batch.append(resolve(item, as_modality=as_modality))
            except InputError as error:
                result.failures.append((item, str(error)))
        try:
            result.take(batch, embed_sources(batch, space, as_modality=as_modality))
        except InputError:
            for source in batch:
                try:
                    result.take([source], embed_sources([source], space, as_modality=as_modality))
                except InputError as error:
                    result.failures.append((source.value, str(error)))
    return result


def _records(result: Embedded) -> list[dict[str, Any]]:
    return [
        {"id": name, "modality": modality, "vector": [round(float(value), 7) for value in vector]}
        for name, modality, vector in zip(result.ids, result.modalities, result.vectors, strict=True)
    ]


def _write(out: Path, result: Embedded) -> None:
    """Write the vectors at once or not at all."""
    import numpy as np

    from embedspace.files import replacing

    matrix = np.stack(result.vectors)
    with replacing(out) as partial:
        if out.suffix == ".jsonl":
            lines = [json_module.dumps(record, ensure_ascii=False) + "\n" for record in _records(result)]
            partial.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        else:
            with partial.open("wb") as file:
                if out.suffix == ".npy":
                    np.save(file, matrix)
                else:
                    np.savez(file, vectors=matrix, ids=np.array(result.ids), modalities=np.array(result.modalities))
        if out.suffix == ".npy":
            # A name that is not UTF-8 becomes a \\udc.. escape, which JSON reads back.
            index = json_module.dumps({"ids": result.ids, "modalities": result.modalities}, ensure_ascii=False)
            with replacing(out.with_suffix(".json")) as beside:
                beside.write_text(index + "\n", encoding="utf-8", errors="backslashreplace")
