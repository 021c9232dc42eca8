"""Every error that embedspace raises on purpose.

    EmbedspaceError
    ├── InputError                 the caller gave something unusable
    │   ├── ArgumentError          an argument is out of range, or its target does not take it
    │   ├── MediaError             one file cannot be decoded
    │   │   ├── MediaTooLargeError     it exceeds a stated limit
    │   │   ├── EmptyMediaError        it decodes to nothing (silent, no samples, no words)
    │   │   ├── ChangingFileError      it is written to while it is read
    │   │   └── MediaGoneError         it is gone, or not as it was indexed
    │   ├── UnknownItemError       no item of a catalog has this id
    │   ├── UnknownModalityError   what something is, or is to be taken as, is not known
    │   ├── QueryError             a composed query that cannot be read
    │   └── OutsideError           a vector far from everything that a generator knows
    ├── ConfigError                a recipe, suite or config with an unknown or wrong key
    ├── WeightsError               weights that are missing, of another shape, or corrupt
    ├── MissingExtraError          an optional dependency is not installed
    ├── SpreadError                encoders beyond this process cannot start, ran out of memory, or lost work
    └── CatalogError
        ├── CatalogNotFoundError   no catalog at the path
        ├── CatalogExistsError     something is at the path of a new catalog already
        ├── CatalogLockedError     another process is writing
        ├── CatalogCorruptError    the file is not a catalog, or is damaged
        ├── FingerprintMismatchError   vectors of another encoder
        ├── EngineError            an engine beyond the process is down, slow, or holds something else
        └── StorageFullError       the disk is full

A message says what happened, the value received, the values allowed, and what to do next.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "CatalogCorruptError",
    "CatalogError",
    "CatalogExistsError",
    "CatalogLockedError",
    "CatalogNotFoundError",
    "ChangingFileError",
    "ConfigError",
    "EmbedspaceError",
    "EmptyMediaError",
    "EngineError",
    "FingerprintMismatchError",
    "InputError",
    "MediaError",
    "MediaGoneError",
    "MediaTooLargeError",
    "MissingExtraError",
    "OutsideError",
    "QueryError",
    "SpreadError",
    "StorageFullError",
    "UnknownItemError",
    "UnknownModalityError",
    "WeightsError",
]


class EmbedspaceError(Exception):
    """Base of every error that embedspace raises on purpose."""


class InputError(EmbedspaceError):
    """The caller gave something unusable."""


class ArgumentError(InputError):
    """An argument is out of range, or its target does not take it.

    Attributes:
        argument: Its name in Python; the command line puts the flag in its place.
        problem: The value, what is wrong with it, and what is allowed.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument, self.problem = argument, problem

    def __reduce__(self) -> tuple[type[ArgumentError], tuple[str, str]]:
        """Let it pass between processes."""
        return type(self), (self.argument, self.problem)


class MediaError(InputError):
    """One file or item cannot be decoded."""


class MediaTooLargeError(MediaError):
    """A file exceeds a stated limit (pixels, samples, characters)."""


class EmptyMediaError(MediaError):
    """A file decodes to nothing that can be encoded (silence, no samples, no words)."""


class ChangingFileError(MediaError):
    """A file is written to while it is read, so that nothing can be said about its content."""


class MediaGoneError(MediaError):
    """The file of an item is gone, or not as it was indexed."""


class UnknownItemError(InputError):
    """No item of a catalog has this id."""


class UnknownModalityError(InputError):
    """Neither the suffix nor the caller says which modality an item has, or it has not the one that is asked for."""


class QueryError(InputError):
    """A composed query cannot be read."""


class OutsideError(InputError):
    """A vector is far from everything that a generator knows; it can be forced to generate all the same."""


class ConfigError(EmbedspaceError):
    """A recipe, suite or configuration has an unknown key or a wrong value."""


class WeightsError(EmbedspaceError):
    """Weights are missing, of another shape than the configuration says, or corrupt."""


class MissingExtraError(EmbedspaceError):
    """An optional dependency is not installed; the message names the extra."""


class SpreadError(EmbedspaceError):
    """Encoders beyond this process cannot start, ran out of memory, or lost work; what they wrote is kept."""


class CatalogError(EmbedspaceError):
    """Base of what can go wrong with a catalog."""


class CatalogNotFoundError(CatalogError):
    """There is no catalog at the path."""


class CatalogExistsError(CatalogError):
    """Something is at the path of a new catalog already."""


class CatalogLockedError(CatalogError):
    """Another process is writing to the catalog."""


class CatalogCorruptError(CatalogError):
    """The file is not a catalog, or is damaged."""


class FingerprintMismatchError(CatalogError):
    """The vectors come from another encoder than the catalog's."""


class EngineError(CatalogError):
    """An engine beyond the process is down, slow, or holds something else than the catalog."""


class StorageFullError(CatalogError):
    """The disk is full; what was committed before is intact."""
