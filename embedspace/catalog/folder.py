"""A catalog as a folder on disk: made, opened, closed, and what is derived from it kept up to date."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from embedspace.calibration.model import Calibration
from embedspace.catalog.index.base import factory_of
from embedspace.catalog.index.gpu import require_device
from embedspace.catalog.index.settings import IndexSettings
from embedspace.catalog.index.synced import SyncedIndex
from embedspace.catalog.store.errors import translated
from embedspace.catalog.store.filters.values import fill_values, forget_values, values_agree
from embedspace.catalog.store.schema import create_schema, exists, is_vacant
from embedspace.catalog.store.store import Store
from embedspace.errors import CatalogCorruptError, CatalogError, ConfigError

if TYPE_CHECKING:
    from embedspace.catalog.index.tuning import Tried

__all__ = ["CatalogFolder"]

_INDEX_BYTES = 1 << 30
"""`close` leaves a larger index to `optimize`, so that an ingest stays small in memory."""


class CatalogFolder:
    """The life of a catalog; what can be done with an open one is in `Catalog`.

    Attributes:
        store: Its rows.
        path: Its folder.
        settings: How it is searched.
    """

    def __init__(self, store: Store) -> None:
        """Wrap an open store; use `create` or `open`."""
        self.store = store
        self.path = store.path
        self.settings = _settings_of(store)
        self._index = SyncedIndex(store, self.settings)
        self._changed = False

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        embed_dim: int,
        fingerprints: Mapping[str, str],
        calibration_json: str = "",
        settings: IndexSettings | None = None,
    ) -> Self:
        """Make an empty catalog.

        Args:
            path: Its folder, which must not exist or be empty.
            embed_dim: Length of the vectors.
            fingerprints: Modality -> digest of all that determines that modality's vectors.
            calibration_json: Calibration of the space, for probabilities and for interleaving modalities.
            settings: Which index is used when; the default suits most.

        Raises:
            CatalogExistsError: If something is at the path already, or another process makes it first.
            ConfigError: If the settings name an unknown engine, or a device that the installed FAISS cannot run on.
            StorageFullError: If the disk is full.
        """
        path = Path(path)
        if not is_vacant(path):
            raise exists(path)
        if calibration_json:
            Calibration.from_json(calibration_json)
        settings = settings or IndexSettings()
        factory_of(settings)
        if settings.engine == "local":
            require_device(settings.device)
        facts: dict[str, str | int] = {
            "embed_dim": int(embed_dim),
            "catalog_id": uuid.uuid4().hex,
            "revision": 0,
            "deletions": 0,
            "row_uris": 1,
            "calibration": calibration_json,
            "recipe": settings.to_json(),
        }
        with translated(path, "create it"):
            create_schema(path, facts, fingerprints)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False, timeout: float = 5.0) -> Self:
        """Open a catalog.

        Args:
            path: Its folder.
            read_only: Never write, not even what is derived.
            timeout: Seconds to wait for another process that is writing.

        Raises:
            CatalogNotFoundError: If there is nothing at the path.
            CatalogCorruptError: If what is there is not a catalog, or is damaged.
            CatalogLockedError: If another process holds it exclusively.
            ConfigError: If its settings name an engine that is not registered.
        """
        store = Store(Path(path), read_only=read_only, timeout=timeout)
        try:
            return cls(store)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Write what is derived anew where items were added or removed, and close the files."""
        try:
            if self._changed:
                self._changed = False
                with contextlib.suppress(CatalogError):  # derived: the next search does without it, or makes it
                    fill_values(self.store)
                    self._index.optimize(_INDEX_BYTES)
        finally:
            self.store.close()

    def __enter__(self) -> Self:
        """Return the catalog itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the catalog; after an error nothing derived is written."""
        self._changed = self._changed and error is None
        self.close()

    def call(self, path: str | Path) -> None:
        """Take another name of its folder for messages; the files stay those that are open."""
        self.path = self.store.path = Path(path)

    @property
    def embed_dim(self) -> int:
        """Length of the vectors."""
        return int(self.store.meta("embed_dim"))

    def touched(self) -> None:
        """Remember that the rows changed, so that `close` writes what is derived anew."""
        self._changed = True

    def optimize(self) -> None:
        """Build indexes and pack vectors as thoroughly as possible; searches go on meanwhile."""
        if not self.store.read_only:
            if not values_agree(self.store):
                forget_values(self.store)
            fill_values(self.store)
        self._index.optimize()

    def tune(self, target_recall: float | None = None) -> list[Tried]:
        """Measure ways of searching, and keep the fastest that finds enough of the exact ten best.

        Args:
            target_recall: How much is enough, from 0.5 to 1; as the settings have it where `None`.

        Returns:
            What was measured, for every modality exact search first.

        Raises:
            ConfigError: If the share is another number, or the catalog's engine has nothing to tune.
        """
        from embedspace.catalog.index.local import LocalIndex

        settings = self.settings
        if target_recall is not None:
            settings = dataclasses.replace(settings, target_recall=float(target_recall), nprobe=0, overfetch=0)
        self._index.optimize()
        index = self._index.current()
        if not isinstance(index, LocalIndex):
            raise ConfigError(f"tune: {settings.engine!r} searches this catalog; only the engine 'local' is tuned here")
        tried = index.tune(settings.target_recall)
        if settings != self.settings:
            with self.store.writing("keep its settings"):
                self.store.set_meta("recipe", settings.to_json())
            self.settings = settings
            self._index.restart(settings)
        return tried


def _settings_of(store: Store) -> IndexSettings:
    try:
        return IndexSettings.from_json(store.meta("recipe"))  # the name of long ago, which earlier versions know
    except ConfigError as error:
        raise CatalogCorruptError(
            f"{store.path}: the catalog is damaged ({error}); restore it from a copy, or delete it and index again"
        ) from error
