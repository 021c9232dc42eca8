"""Which reports were not measured with the weights that ship.

A report names the fingerprint of each encoder, and a report of what is generated the digest of each head. A suite that
needs encoders of its own says so (`own_weights`); its other modalities must be those that ship. So does one
that compares generators which do not ship (`own_generator`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedspace.evaluate.generation.suites import VOICE
from embedspace.evaluate.suite import load_suite, modalities_of, read_suite
from embedspace.generate.registry import digest_of
from embedspace.space import EmbeddingSpace

__all__ = ["Shipped", "shipped", "stale_reports", "stale_tables"]

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shipped:
    """What ships.

    Attributes:
        encoders: Modality -> fingerprint.
        heads: Modality -> digest of the generator's files.
    """

    encoders: Mapping[str, str]
    heads: Mapping[str, str]


def shipped(weights: Path | None = None) -> Shipped:
    """Return what a space has; the one in the package by default. Nothing is loaded but files' bytes."""
    space = EmbeddingSpace.from_pretrained(weights)
    folders = [folder for folder in sorted(space.generators.folder.iterdir()) if folder.is_dir()]
    return Shipped(dict(space.fingerprints()), {folder.name: digest_of(folder) for folder in folders})


def stale_reports(retrieval: Mapping[str, Report], made: Mapping[str, Report], now: Shipped, suites: Path) -> list[str]:
    """Return a line for each modality of each report that was measured with other weights.

    Args:
        retrieval: Suite -> report.
        made: Suite -> report of what is generated.
        now: What ships.
        suites: Folder of the suites.
    """
    lines = []
    for name, report in sorted(retrieval.items()):
        suite = load_suite(suites / f"{name}.toml")
        used = modalities_of(suite)
        lines += _differing(name, report["weights"], now.encoders, used - set(suite.own_weights), "encoder")
        for modality in sorted(used & set(suite.own_weights)):
            if report["weights"].get(modality) == now.encoders.get(modality):
                lines.append(f"{name}.json: measured with the {modality} encoder that ships; the suite needs its own")
    for name, report in sorted(made.items()):
        asked = read_suite(suites / f"{name}.toml")
        lines += _differing(name, report.get("weights", {}), now.encoders, _sources_of(asked), "encoder")
        if not asked.get("own_generator"):
            lines += _differing(name, report["heads"], now.heads, set(report["heads"]), "head")
    return lines


def stale_tables(tables: Mapping[str, Report], now: Shipped) -> list[str]:
    """Return a line for each encoder that a table was measured with and that no longer ships."""
    return [
        line
        for name, report in sorted(tables.items())
        for line in _differing(name, report["weights"], now.encoders, set(report["weights"]), "encoder")
    ]


def _differing(name: str, had: Mapping[str, str], now: Mapping[str, str], used: set[str], kind: str) -> list[str]:
    return [
        f"{name}.json: {modality} {kind} {had.get(modality, 'unnamed')[:8]} measured, "
        f"{now.get(modality, 'none')[:8]} ships: measure again"
        for modality in sorted(used)
        if had.get(modality) != now.get(modality)
    ]


def _sources_of(suite: Mapping[str, Any]) -> set[str]:
    """Return the modalities that a generation suite encodes: those of its sets, and speech where a voice speaks."""
    used = {str(entry.get("modality", "image")) for entry in suite.get("sets", {}).values()}
    asked = [suite.get("sources", {}), *(group.get("sources", {}) for group in suite.get("groups", ()))]
    spoken = any(str(source).startswith(VOICE) for sources in asked for source in sources.values())
    return used | ({"speech"} if spoken else set())
