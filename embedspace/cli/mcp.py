"""`embedspace mcp`: a catalog as tools of an assistant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedspace.cli.shared.options import CatalogPath, Device, Download, SpaceName

__all__ = ["mcp"]


def mcp(
    catalog: CatalogPath,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Keep what is generated here, and say where it is.")
    ] = None,
    space_name: SpaceName = None,
    device: Device = "cpu",
    download: Download = False,
) -> None:
    """Give an assistant the tools search, look and generate over a catalog, by the Model Context Protocol.

    The assistant starts it and talks over standard input and output; it writes nothing beside --out. Needs the extra
    `mcp`.
    """
    from embedspace.catalog import Catalog
    from embedspace.cli.shared.space import load_space
    from embedspace.integrations.collection import Collection
    from embedspace.integrations.mcp import server  # before all else: is the library there?

    with Catalog.open(catalog, read_only=True) as opened:
        server(Collection(opened, load_space(space_name, device, download), out)).run()
