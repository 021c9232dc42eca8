"""The catalog: SQLite as the truth, exact or approximate search derived from it, ingest, migration and export.

Names load on first use: importing this package loads neither FAISS nor torch. The functions stay in their modules,
`embedspace.catalog.ingest.ingest.ingest` and `embedspace.catalog.migrate.migrate`, which bear the same names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedspace.catalog.bulk.table import ItemTable
    from embedspace.catalog.catalog import Catalog
    from embedspace.catalog.index.settings import IndexSettings
    from embedspace.catalog.migrate import MigrateReport
    from embedspace.catalog.records import (
        AddReport,
        CatalogInfo,
        CatalogItem,
        Failure,
        Hit,
        IngestReport,
        ItemRecord,
        Loss,
        Problem,
        Progress,
        RemoveReport,
        VerifyReport,
    )
    from embedspace.catalog.stored import FieldFacts, StoredItem, StoredPlace

__all__ = [
    "AddReport",
    "Catalog",
    "CatalogInfo",
    "CatalogItem",
    "Failure",
    "FieldFacts",
    "Hit",
    "IndexSettings",
    "IngestReport",
    "ItemRecord",
    "ItemTable",
    "Loss",
    "MigrateReport",
    "Problem",
    "Progress",
    "RemoveReport",
    "StoredItem",
    "StoredPlace",
    "VerifyReport",
]

_OLD_NAMES = {"Recipe": "IndexSettings"}
_HOMES = {
    "Catalog": "catalog",
    "FieldFacts": "stored",
    "MigrateReport": "migrate",
    "IndexSettings": "index.settings",
    "ItemTable": "bulk.table",
    "StoredItem": "stored",
    "StoredPlace": "stored",
}


def __getattr__(name: str) -> object:
    """Load a public name, or one by its old name, from its module."""
    name = _OLD_NAMES.get(name, name)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'records')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
