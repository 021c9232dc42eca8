"""`embedspace eval`: measure a space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli._options import Device, Json, Quiet, Weights
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
    from embedspace.cli._output import print_json
    from embedspace.cli._progress import ProgressReport
    from embedspace.cli._space import load_space
    from embedspace.evaluate.report import evaluate_retrieval, markdown

    with ProgressReport(quiet=quiet) as report:
        entry = evaluate_retrieval(suite, load_space(weights, device), out, report.update)
    if json:
        print_json(entry)
    else:
        print(markdown(entry))


@app.command()
def generation(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite: eval/suites/generation.toml.")],
    weights: Weights = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the JSON and the table go.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    device: Device = "cpu",
) -> None:
    """Measure generation: do captions name what is there, is what is said understood; beside baselines.

    Prints the table in Markdown; --out also keeps it and the JSON. The judge of speech is named by the suite and is
    found from the repository's root.
    """
    if not suite.is_file():
        raise ConfigError(f"{suite}: no such suite; the shipped one is eval/suites/generation.toml")
    from embedspace.cli._output import print_json
    from embedspace.cli._progress import ProgressReport
    from embedspace.cli._space import load_space
    from embedspace.evaluate.generation import evaluate_generation, markdown

    with ProgressReport(quiet=quiet) as report:
        entry = evaluate_generation(suite, load_space(weights, device), out, report.update)
    if json:
        print_json(entry)
    else:
        print(markdown(entry))
