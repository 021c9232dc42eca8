"""`embedspace catalog`: look into a catalog and change it."""

from __future__ import annotations

import typer

from embedspace.cli.catalog.add import add
from embedspace.cli.catalog.check import export, verify
from embedspace.cli.catalog.engine import push, snapshot
from embedspace.cli.catalog.facets import facets
from embedspace.cli.catalog.importing import import_
from embedspace.cli.catalog.info import info
from embedspace.cli.catalog.migrate import migrate
from embedspace.cli.catalog.remove import remove
from embedspace.cli.catalog.upkeep import optimize, tune

__all__ = [
    "add",
    "app",
    "export",
    "facets",
    "import_",
    "info",
    "migrate",
    "optimize",
    "push",
    "remove",
    "snapshot",
    "tune",
    "verify",
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into a catalog and change it.")
for _verb in (info, facets, add, remove, verify, export, import_, migrate, optimize, tune, push, snapshot):
    app.command(_verb.__name__.rstrip("_"))(_verb)
