"""Rebuild everything that ships, stage by stage: make weights.

    python -m training.weights                      # what is not done yet, in order; hours
    python -m training.weights --list               # the stages, their minutes, which are done
    python -m training.weights --from pictures      # this stage and all after it, done or not
    python -m training.weights --only judges vectors
    python -m training.weights --dry-run            # say what would run

The stages and their commands are in training/weights.toml. A run that was stopped goes on: a stage that was done is
skipped as long as its commands are what they were, and the commands themselves go on where they stopped. Trained
weights are copied over those under embedspace/weights; git brings the shipped ones back.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedspace.errors import ConfigError, EmbedspaceError

__all__ = ["Stage", "chosen_stages", "commands_of", "is_done", "load_stages", "run_stages"]

STAGES = Path(__file__).with_suffix(".toml")
DONE = Path("build/weights")
_PROGRAMS = {"python": [sys.executable], "embedspace": [sys.executable, "-m", "embedspace.cli"]}


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the rebuild.

    Attributes:
        name: Of it.
        what: It makes.
        minutes: Wall time on two idle cores, roughly.
        run: Commands, one after the other.
    """

    name: str
    what: str
    minutes: float
    run: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Hex digest of the commands: a stage whose commands changed is to be run again."""
        return hashlib.sha256("\n".join(self.run).encode()).hexdigest()


def load_stages(path: Path = STAGES) -> list[Stage]:
    """Read the list of stages.

    Raises:
        ConfigError: If a stage has an unknown or missing key, two have one name, or a command is none of the known.
    """
    tables = tomllib.loads(path.read_text("utf-8")).get("stages", [])
    try:
        stages = [Stage(**{**table, "run": tuple(table["run"])}) for table in tables]
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{path}: {error}; a stage has the keys name, what, minutes, run") from None
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: two stages have one name; names: {' '.join(names)}")
    for stage in stages:
        for line in stage.run:
            if shlex.split(line)[0] not in (*_PROGRAMS, "copy"):
                raise ConfigError(f"{path}: stage {stage.name}: {line!r}: begin with python, embedspace or copy")
    return stages


def chosen_stages(stages: Sequence[Stage], first: str | None, only: Sequence[str] | None, done: Path) -> list[Stage]:
    """Return the stages to run, in order.

    Args:
        stages: All of them.
        first: Run this one and all after it, done or not.
        only: Run these alone, done or not.
        done: Folder of the marks of finished stages; without `first` and `only` those are skipped.

    Raises:
        ConfigError: If a name is unknown.
    """
    names = [stage.name for stage in stages]
    for name in [*filter(None, [first]), *(only or [])]:
        if name not in names:
            raise ConfigError(f"unknown stage {name!r}; known: {' '.join(names)}")
    if only:
        return [stage for stage in stages if stage.name in only]
    if first:
        return list(stages[names.index(first) :])
    return [stage for stage in stages if not is_done(stage, done)]


def is_done(stage: Stage, done: Path) -> bool:
    """Return whether a stage was finished with the commands that it has now."""
    try:
        return bool(json.loads((done / f"{stage.name}.json").read_text("utf-8"))["commands"] == stage.digest)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def commands_of(stage: Stage) -> list[list[str]]:
    """Return a stage's commands as argument lists; those that start with "copy" are done in this process."""
    split = [shlex.split(line) for line in stage.run]
    return [[*_PROGRAMS.get(words[0], [words[0]]), *words[1:]] for words in split]


def _copy(patterns: Sequence[str], folder: Path) -> None:
    """Copy files into a folder.

    Raises:
        EmbedspaceError: If a pattern matches nothing: what the stage should have made is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        paths = sorted(Path(name) for name in glob.glob(pattern))
        if not paths:
            raise EmbedspaceError(f"copy {pattern}: no such file; run the stage again")
        for path in paths:
            shutil.copy2(path, folder / path.name)


def run_stages(stages: Sequence[Stage], done: Path, tell: Callable[[str], None]) -> None:
    """Run stages in order, and mark each that is finished with its minutes.

    Args:
        stages: To run.
        done: Folder of the marks.
        tell: Told what happens.

    Raises:
        EmbedspaceError: If a command fails; the stages before it stay done.
    """
    for stage in stages:
        (done / f"{stage.name}.json").unlink(missing_ok=True)
        tell(f"== {stage.name}: {stage.what} (about {stage.minutes:g} minutes)")
        started = time.monotonic()
        for line, command in zip(stage.run, commands_of(stage), strict=True):
            tell(f"-- {line}")
            if command[0] == "copy":
                _copy(command[1:-1], Path(command[-1]))
                continue
            code = subprocess.run(command, check=False, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode
            if code:
                raise EmbedspaceError(
                    f"stage {stage.name}: {line!r} ended with {code}; mend it and run again: "
                    "python -m training.weights goes on here"
                )
        minutes = round((time.monotonic() - started) / 60, 1)
        done.mkdir(parents=True, exist_ok=True)
        mark = {"commands": stage.digest, "minutes": minutes}
        (done / f"{stage.name}.json").write_text(json.dumps(mark) + "\n", "utf-8")
        tell(f"== {stage.name}: done in {minutes:g} minutes")


def listing(stages: Sequence[Stage], done: Path) -> list[str]:
    """Return a line for each stage: its name, its minutes, whether it is done, what it makes."""
    lines = []
    for stage in stages:
        state = "done" if is_done(stage, done) else "-"
        lines.append(f"{stage.name:14} {stage.minutes:4g} min  {state:4}  {stage.what}")
    total = sum(stage.minutes for stage in stages)
    return [*lines, f"{'all':14} {total:4g} min  on two idle cores, roughly"]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say which stages there are, and run none")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="run this stage and all after it")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="run these stages alone")
    parser.add_argument("--dry-run", action="store_true", help="say what would run")
    parser.add_argument("--done", type=Path, default=DONE, help="folder of the marks of finished stages")
    arguments = parser.parse_args()
    try:
        stages = load_stages()
        if arguments.list:
            print("\n".join(listing(stages, arguments.done)))
            return 0
        chosen = chosen_stages(stages, arguments.first, arguments.only, arguments.done)
        if arguments.dry_run:
            for stage in chosen:
                print(f"== {stage.name} (about {stage.minutes:g} minutes)", *stage.run, sep="\n")
            return 0
        if not chosen:
            print("every stage is done; --from STAGE runs some again")
        run_stages(chosen, arguments.done, lambda line: print(line, flush=True))
    except EmbedspaceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
