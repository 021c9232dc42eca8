"""`embedspace eval`: measure a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import Device, Json, Quiet, Weights
from embedspace.errors import ConfigError

__all__ = ["app", "generation", "retrieval"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure a space.")


@app.callback()
def group() -> None:
    """Measure a space."""


@app.command()
def retrieval(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite, for example eval/suites/stamps.toml.")],
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the JSON, the table and the heat map go.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
) -> None:
    """Measure retrieval: recall@k in both conventions, MedR, MRR, nDCG, with confidence intervals.

    Prints the table in Markdown; --out also keeps it, the JSON and the heat map.
    """
    if not suite.is_file():
        raise ConfigError(f"{suite}: no such suite; the shipped ones are in eval/suites")
    from embedspace.cli.shared.output import print_json
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_space
    from embedspace.evaluate.report import evaluate_retrieval, markdown

    with ProgressReport(quiet=quiet) as report:
        entry = evaluate_retrieval(suite, load_space(weights, device), out, report.update)
    if json:
        print_json(entry)
    else:
        print(markdown(entry))


@app.command()
def generation(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite: eval/suites/generation*.toml.")],
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the JSON, the table and the pictures go.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
) -> None:
    """Measure generation: captions, speech, pictures, sounds; beside baselines, by judges of their own.

    Prints the table in Markdown; --out also keeps it, the JSON, curves and sample sheets. The suite names the judge,
    which is found from the repository's root. Samples are kept under build/eval-cache: a run that was stopped goes on.
    """
    if not suite.is_file():
        raise ConfigError(f"{suite}: no such suite; the shipped ones are eval/suites/generation*.toml")
    from embedspace.cli.shared.output import print_json
    from embedspace.cli.shared.progress import ProgressReport
    from embedspace.cli.shared.space import load_space
    from embedspace.evaluate.generation.kinds import evaluate, table

    with ProgressReport(quiet=quiet) as report:
        entry = evaluate(suite, load_space(weights, device), out, report.update)
    if json:
        print_json(entry)
    else:
        print(table(entry))
