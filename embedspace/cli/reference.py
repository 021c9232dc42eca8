"""The command line's help as one Markdown page, so that it cannot go stale.

python -m embedspace.cli.reference > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from embedspace.cli.app import application

__all__ = ["markdown"]

WIDTH = 100

INTRODUCTION = """\
# The command line

<!-- Made by `python -m embedspace.cli.reference > docs/cli.md`; a test compares it with the commands. -->

Results go to standard output, remarks and errors to standard error. A mistake in what was asked is one line,
`embedspace: what, where, what to do`, never a traceback.

| exit code | meaning |
|---|---|
| 0 | done; a search without a hit is done, and says so |
| 1 | nothing could be done as asked: every file failed, `verify` found something wrong |
| 2 | a mistake in what was asked |
| 70 | an unexpected error, a defect of embedspace: run again with `--debug` for the traceback |
| 130 | interrupted; everything already indexed is kept |
"""


def _commands(
    command: Any,  # noqa: ANN401 - a type of typer's internals
    name: str,
    parent: typer.Context | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield (full name, help) of a command and all below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = typer.Context(command, info_name=name, parent=parent, **settings)
    yield context.command_path, command.get_help(context)
    for sub in getattr(command, "commands", {}).values():
        if not sub.hidden:  # a name of earlier versions
            yield from _commands(sub, sub.name, context)


def markdown() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for name, text in _commands(typer.main.get_command(application()), "embedspace"):
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"## {name}\n\n```\n{lines}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(markdown(), end="")
