"""One vector space for pictures, sounds, words and speech: search anything with anything.

Importing this package loads neither torch nor FAISS nor numpy: each public name is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, whose import takes longer than all of this
if TYPE_CHECKING:
    from typing import Any

    from embedspace.calibration.model import Calibration, PairCalibration
    from embedspace.catalog import Catalog
    from embedspace.errors import (
        ArgumentError,
        CatalogCorruptError,
        CatalogError,
        CatalogExistsError,
        CatalogLockedError,
        CatalogNotFoundError,
        ChangingFileError,
        ConfigError,
        EmbedspaceError,
        EmptyMediaError,
        EngineError,
        FingerprintMismatchError,
        InputError,
        MediaError,
        MediaGoneError,
        MediaTooLargeError,
        MissingExtraError,
        OutsideError,
        QueryError,
        SpreadError,
        StorageFullError,
        UnknownItemError,
        UnknownModalityError,
        WeightsError,
    )
    from embedspace.modality import Modality, modality_of
    from embedspace.segment import Decoded, Segment, SegmentEncoder
    from embedspace.space import EmbeddingSpace

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Calibration",
    "Catalog",
    "CatalogCorruptError",
    "CatalogError",
    "CatalogExistsError",
    "CatalogLockedError",
    "CatalogNotFoundError",
    "ChangingFileError",
    "ConfigError",
    "Decoded",
    "EmbeddingSpace",
    "EmbedspaceError",
    "EmptyMediaError",
    "EngineError",
    "FingerprintMismatchError",
    "InputError",
    "MediaError",
    "MediaGoneError",
    "MediaTooLargeError",
    "MissingExtraError",
    "Modality",
    "OutsideError",
    "PairCalibration",
    "QueryError",
    "Segment",
    "SegmentEncoder",
    "SpreadError",
    "StorageFullError",
    "UnknownItemError",
    "UnknownModalityError",
    "WeightsError",
    "__version__",
    "modality_of",
]

_HOME = {
    "Calibration": "calibration",
    "Catalog": "catalog",
    "Decoded": "segment",
    "EmbeddingSpace": "space",
    "Modality": "modality",
    "PairCalibration": "calibration",
    "Segment": "segment",
    "SegmentEncoder": "segment",
    "modality_of": "modality",
}
"""Public name -> the submodule that defines it; what is missing here lives in `errors`."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: whatever the submodule defines
    """Import a public name on first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
