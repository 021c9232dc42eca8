"""Train the default space, or a part of it, as a recipe says.

    python -m training.align training/recipes/default.toml
    python -m training.align training/recipes/default.toml --resume --minutes 10

It writes checkpoints, curves and, in `space/`, a folder that `EmbeddingSpace.from_pretrained` opens. What the recipes
need (corpora, features) is made by the stages before, see training/README.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from embedspace.errors import EmbedspaceError
from embedspace.train.loop import FitProgress
from training.align.aligner import align


def main(argv: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="for example training/recipes/default.toml")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, with what there is")
    parser.add_argument("--out", type=Path, help="folder of the run; default build/runs/<recipe>")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoints")
    parser.add_argument("--seed", type=int, help="another seed than the recipe's")
    given = parser.parse_args(argv)
    options = {"minutes": given.minutes, "out": given.out, "resume": given.resume, "seed": given.seed}
    try:
        report = align(given.recipe, callback=_tell, **options)
    except EmbedspaceError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; go on from the last checkpoint with --resume", file=sys.stderr)
        return 130
    print(report.folder or f"out of time after {', '.join(report.done) or 'no stage'}; go on with --resume")
    return 0


def _tell(progress: FitProgress) -> None:
    """Print one line of progress."""
    scalars = "  ".join(f"{name} {value:.4g}" for name, value in progress.scalars.items())
    print(f"{progress.stage}  step {progress.step}/{progress.steps}  {progress.seconds:.0f} s  {scalars}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
