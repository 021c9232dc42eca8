"""The application: its verbs, and how whatever goes wrong becomes one line and an exit code."""

from __future__ import annotations

import functools
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import embedspace
from embedspace.cli.shared.output import Interrupted
from embedspace.errors import ArgumentError, EmbedspaceError

__all__ = ["application", "main"]

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, as any tool cut off by `head` gives
EXIT_UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h

EXAMPLES = """\b
Three examples:
  embedspace index ~/media --catalog media.catalog
  embedspace search media.catalog "a barking dog" --to image
  embedspace generate --from dog.png --to audio
"""
"""What follows the help of the whole; the mark keeps its lines as they are."""

_VERBS = {
    "index": "index:index",
    "search": "search:search",
    "embed": "embed:embed",
    "generate": "generate:generate",
    "serve": "serve:serve",
    "mcp": "mcp:mcp",
    "catalog": "catalog:app",
    "eval": "evaluate:app",
    "train": "train:app",
    "space": "space:app",
}
"""Verb -> the file of this folder and the name in it of the function, or of the group of verbs below it."""


def application(only: str | None = None) -> typer.Typer:
    """Return the application.

    Args:
        only: A verb: the others are left out, for reading everybody's options takes longer than a search.
    """
    app = typer.Typer(
        name="embedspace",
        add_completion=True,
        rich_markup_mode=None,  # rich costs start-up time, and plain help is what docs/cli.md holds
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog=EXAMPLES,
    )
    app.callback(invoke_without_command=True)(root)
    for verb, place in _VERBS.items():
        if only in (None, verb):
            module, _, name = place.partition(":")
            found = getattr(importlib.import_module(f"embedspace.cli.{module}"), name)
            if isinstance(found, typer.Typer):
                app.add_typer(found, name=verb)
            else:
                app.command(name=verb)(found)
    return app


@functools.cache
def _command(only: str | None) -> Callable[..., Any]:
    """Return the application as something to call; its options are read once, however often it is called."""
    command: Callable[..., Any] = typer.main.get_command(application(only))
    return command


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"embedspace {embedspace.__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an unexpected error; works after the verb too."),
    ] = False,
) -> None:
    """One vector space for pictures, sounds, words and speech: search anything with anything.

    Exit codes: 0 done (a search without a hit is done), 1 nothing could be done as asked, 2 a mistake in what was
    asked, 130 interrupted.
    """
    del version, debug  # both are acted on before a verb runs
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in options or bool(os.environ.get("EMBEDSPACE_DEBUG"))
    if "--debug" in options:
        given.remove("--debug")
    warnings.filterwarnings("ignore", module=r"PIL\b")  # about odd but readable pictures, on stderr
    given = _shielded(_renamed(given))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    try:
        verb = given[0] if given and given[0] in _VERBS and "_EMBEDSPACE_COMPLETE" not in os.environ else None
        code = _command(verb)(given, prog_name="embedspace", standalone_mode=False)
        sys.stdout.flush()
    except Interrupted as ending:
        _complain(str(ending))
        return EXIT_INTERRUPTED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        return _leave_broken_pipe()
    except SystemExit as leaving:  # how the command parser ends on a broken pipe
        if isinstance(leaving.__context__, BrokenPipeError):
            return _leave_broken_pipe()
        code = leaving.code
    except Exception as error:
        if debug and not _is_mistake(error):
            raise
        code = _report(error)
        if isinstance(error, OSError):
            _silence_stdout()  # it may be what could not be written to
        return code
    if code == EXIT_INTERRUPTED:
        _complain("interrupted")
    return code if isinstance(code, int) else 0


def _renamed(given: list[str]) -> list[str]:
    """Return the arguments with options' earlier names replaced by those of today."""
    end = given.index("--") if "--" in given else len(given)
    return [
        re.sub(r"^--weights(?=$|=)", "--space", text) if number < end else text for number, text in enumerate(given)
    ]


def _shielded(given: list[str]) -> list[str]:
    """Return the arguments with a space before each query that begins with a minus, or they would count as options."""
    if "search" not in given[:1]:
        return given
    end = given.index("--") if "--" in given else len(given)
    return [f" {text}" if number < end and re.match(r"-\s", text) else text for number, text in enumerate(given)]


def _is_mistake(error: Exception) -> bool:
    """Whether an error is the user's to mend: ours, or the command parser's."""
    return isinstance(error, EmbedspaceError) or hasattr(error, "format_message")


def _flag(argument: str) -> str:
    """Return the flag of an argument of the library."""
    from embedspace.generate.targets import options_of, targets

    flags = {option.name: option.on_command_line for option in options_of(targets())}
    return {"num_samples": "-n", **flags}.get(argument, f"--{argument.replace('_', '-')}")


def _report(error: Exception) -> int:
    """Print one line about an error; returns the exit code."""
    if isinstance(error, ArgumentError):
        _complain(f"{_flag(error.argument)} {error.problem}")
        return EXIT_USER_ERROR
    if isinstance(error, EmbedspaceError):
        _complain(str(error))
        return EXIT_USER_ERROR
    if hasattr(error, "format_message"):  # a usage error of the command parser
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "embedspace"
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":  # a group was called without a verb: its help is the answer
            print(message)
            return 0
        _complain(f"{message.rstrip('.')}; see '{command} --help'")
        return int(getattr(error, "exit_code", EXIT_USER_ERROR))
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else "cannot write the output: "
        _complain(f"{place}{error.strerror}; check the path, its permissions and the space on its disk")
        return EXIT_USER_ERROR
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        _complain("out of memory; end other programs, or take a smaller --batch-size or --size, or fewer --workers")
        return EXIT_USER_ERROR
    _complain(f"unexpected {type(error).__name__}: {error}; run again with --debug for the traceback")
    return EXIT_UNEXPECTED


def _complain(message: str) -> None:
    print(f"embedspace: {' '.join(message.split())}", file=sys.stderr)


def _leave_broken_pipe() -> int:
    """The reader of stdout went away, which is its right: say nothing, also at interpreter exit."""
    _silence_stdout()
    return EXIT_BROKEN_PIPE


def _silence_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would complain about it at its exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # stdout is not a file: nothing will be flushed into it
