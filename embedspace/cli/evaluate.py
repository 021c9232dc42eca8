"""`embedspace eval`: measure a space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from json import dumps as dump
from pathlib import Path
from typing import Annotated, Any

import typer

from embedspace.cli.shared.options import AsModality, BatchSize, Device, Download, Json, Quiet, SpaceName
from embedspace.errors import ConfigError
from embedspace.files import replacing

__all__ = ["app", "generation", "mteb", "retrieval"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure a space.")


@app.callback()
def group() -> None:
    """Measure a space."""


@app.command()
def retrieval(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite, for example eval/suites/stamps.toml.")],
    space_name: SpaceName = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the JSON, the table and the heat map go.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Measure retrieval: recall@k in both conventions, MedR, MRR, nDCG, with confidence intervals.

    Prints the table in Markdown; --out also keeps it, the JSON and the heat map.
    """
    _check(suite)
    from embedspace.evaluate.report import evaluate_retrieval, markdown

    _run(suite, (evaluate_retrieval, markdown), _Options(space_name, out, json, quiet, device, download))


@app.command()
def generation(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite: eval/suites/generation*.toml.")],
    space_name: SpaceName = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the JSON, the table and the pictures go.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Measure generation: captions, speech, pictures, sounds; beside baselines, by judges of their own.

    Prints the table in Markdown; --out also keeps it, the JSON, curves and sample sheets. The suite names the judge,
    which is found from the repository's root. Samples are kept under build/eval-cache: a run that was stopped goes on.
    """
    _check(suite)
    from embedspace.evaluate.generation.kinds import evaluate, table

    _run(suite, (evaluate, table), _Options(space_name, out, json, quiet, device, download))


@app.command()
def mteb(
    space_name: Annotated[
        str, typer.Argument(metavar="SPACE", help="The space, as --space takes it; `default` is the one that ships.")
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            metavar="TASKS",
            help="Names of mteb's tasks with commas, e.g. Flickr30kI2TRetrieval,ESC50_Zeroshot.",
        ),
    ],
    as_modality: AsModality = None,
    batch_size: BatchSize = 32,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where all scores go, as JSON.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Let the tasks' data and the space's towers be downloaded; without it they must be here."
        ),
    ] = False,
) -> None:
    """Measure a space on tasks of mteb: retrieval and zero-shot classification of text, pictures and sound.

    Only data that are on this machine are used unless --download is given.
    """
    from embedspace.cli.shared.output import open_for_writing, print_json, print_table
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_space
    from embedspace.integrations.mteb import evaluate_mteb, tasks_named

    if out is not None:
        open_for_writing(out)
    found = tasks_named([name.strip() for name in tasks.split(",") if name.strip()])
    space = load_space(space_name, device, download)
    with ProgressReport(quiet=quiet) as report:
        records = evaluate_mteb(
            space,
            found,
            name=Path(space_name).name,
            sound=None if as_modality is None else str(as_modality),
            batch_size=batch_size,
            download=download,
            callback=report.update,
        )
    if out is not None:
        with replacing(out) as partial:
            partial.write_text(dump(records, indent=1) + "\n", "utf-8")
    if json:
        for record in records:
            print_json(record)
        return
    rows = [[r["task"], r["split"], r["subset"], r["metric"], f"{r['score']:.4f}"] for r in records]
    print_table(["task", "split", "subset", "metric", "score"], rows, right=[4])


@dataclass(frozen=True)
class _Options:
    """What both verbs are asked for beside the suite."""

    space: str | None
    out: Path | None
    json: bool
    quiet: bool
    device: str
    download: bool


def _check(suite: Path) -> None:
    """Refuse a suite that is not there before anything is loaded."""
    if not suite.is_file():
        raise ConfigError(f"{suite}: no such suite; the shipped ones are in eval/suites")


def _run(suite: Path, measure: tuple[Callable[..., Any], Callable[[Any], str]], asked: _Options) -> None:
    """Measure a suite and print its report; `measure` measures it and writes the report as a table."""
    from embedspace.cli.shared.output import print_json
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_space

    evaluate, table = measure
    with ProgressReport(quiet=asked.quiet) as report:
        entry = evaluate(suite, load_space(asked.space, asked.device, asked.download), asked.out, report.update)
    if asked.json:
        print_json(entry)
    else:
        print(table(entry))
