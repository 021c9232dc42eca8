"""Which encoder made vectors that lie outside a catalog: written beside them by `export`, compared by `import`.

A parquet file says it in its metadata under the key `embedspace`, JSON lines do in the first of them; a folder of other
files in `embedspace.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedspace.errors import InputError

__all__ = ["FILE", "KEY", "Origin", "origin_of_folder"]

FILE = "embedspace.json"
KEY = "embedspace"


@dataclass(frozen=True, slots=True)
class Origin:
    """The encoder of some vectors.

    Attributes:
        embed_dim: Length of its vectors.
        fingerprints: Modality -> digest.
        calibration_json: Calibration of its space, empty where it has none.
    """

    embed_dim: int
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    calibration_json: str = ""

    def differing(self, fingerprints: Mapping[str, str]) -> list[str]:
        """Return the modalities that both know and whose encoder is another there."""
        return sorted(name for name, digest in self.fingerprints.items() if fingerprints.get(name, digest) != digest)

    def to_json(self) -> str:
        """Return it as JSON."""
        facts = {"embed_dim": self.embed_dim, "fingerprints": dict(self.fingerprints)}
        return json.dumps({**facts, "calibration": self.calibration_json})

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> Origin:
        """Read what `to_json` wrote.

        Raises:
            InputError: If it is something else.
        """
        try:
            facts = json.loads(text)
            prints = {str(name): str(digest) for name, digest in facts["fingerprints"].items()}
            return cls(int(facts["embed_dim"]), prints, str(facts.get("calibration", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{where}: does not say which encoder made its vectors ({type(error).__name__}: {error}); expected "
                '{"embed_dim": 256, "fingerprints": {"image": "..."}}, as `catalog export` writes it'
            ) from error


def origin_of_folder(folder: Path) -> Origin | None:
    """Return what a folder says of its vectors; `None` where it says nothing.

    Raises:
        InputError: If what it says cannot be read.
    """
    path = folder / FILE
    try:
        return Origin.from_json(path.read_bytes(), path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
