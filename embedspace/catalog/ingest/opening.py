"""A catalog to write to: opened, or made where there is none."""

from __future__ import annotations

from pathlib import Path

from embedspace.catalog.catalog import Catalog
from embedspace.catalog.index.settings import IndexSettings
from embedspace.errors import CatalogExistsError, CatalogNotFoundError, ConfigError
from embedspace.segment import SegmentEncoder

__all__ = ["open_or_create"]


def open_or_create(path: Path, space: SegmentEncoder, settings: IndexSettings | None = None) -> Catalog:
    """Open a catalog for writing, or make it.

    Raises:
        CatalogError: If it cannot be opened or made.
        ConfigError: If settings are given for a catalog that exists already with others.
        FingerprintMismatchError: If its vectors come from another space.
    """
    try:
        opened = Catalog.open(path)
    except CatalogNotFoundError:
        try:
            return Catalog.create(
                path,
                embed_dim=space.embed_dim,
                fingerprints=space.fingerprints(),
                calibration_json=space.calibration_json(),
                settings=settings,
            )
        except CatalogExistsError:  # another process made it between the two
            opened = Catalog.open(path)
    try:
        if settings is not None and settings != opened.settings:
            raise ConfigError(
                f"{path}: was made with the index settings {opened.settings.name!r}; leave settings (--settings) off, "
                "or index into a new catalog"
            )
        opened.check_fingerprint(space.fingerprints())
    except BaseException:
        opened.close()
        raise
    return opened
