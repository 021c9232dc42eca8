"""Measure a generator of pictures or sounds: its rows, the guidance, near copies, and the sheets to look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedspace.evaluate.generation.measures.distributions import near_copies
from embedspace.evaluate.generation.media.groups import measure_group, measure_sweep
from embedspace.evaluate.generation.media.opening import open_scorer
from embedspace.evaluate.generation.media.report import draw_sweep, markdown
from embedspace.evaluate.generation.media.scorer import Scorer
from embedspace.evaluate.generation.media.sheets import write_sheets
from embedspace.evaluate.generation.media.suite import MediaSuite, load_media_suite
from embedspace.evaluate.generation.session import Kind, Outcome, Session
from embedspace.files import read_config
from embedspace.generate.registry import FORMAT

__all__ = ["KIND", "measure"]


def measure(session: Session[MediaSuite]) -> Outcome:
    """Measure every group and the sweep.

    Raises:
        ConfigError: If the judge cannot be loaded, or knows none of a group's concepts.
        WeightsError: If the generator is missing.
    """
    suite, scorer = session.suite, open_scorer(session)
    results = [measure_group(scorer, group) for group in suite.groups]
    sweep = measure_sweep(scorer)

    def draw(entry: Mapping[str, Any], folder: Path) -> None:
        if entry["sweep"]:
            draw_sweep(entry, folder / f"{suite.name}.guidance.png")
        if suite.sheet:
            write_sheets(scorer, results, folder)

    seconds, count = scorer.samples.seconds, scorer.samples.count
    figures = {
        "to": suite.to,
        "gallery_size": len(scorer.generator.neighbours),
        "training_items": len(scorer.index),
        "reference_items": len(scorer.reference),
        "captions_searched": max(len(result.prompts.gallery) for result in results),
        "judge": suite.judge,
        "judge_digest": scorer.judge.digest,
        "judge_about": dict(scorer.judge.about),
        "held": _held_figures(scorer),
        "seconds_each": round(seconds / count, 3) if count else None,
        "families": _family_figures(scorer),
        "rows": [row for result in results for row in result.rows],
        "sweep": sweep,
    }
    return Outcome((suite.to,), figures, draw)


def _family_figures(scorer: Scorer) -> dict[str, dict[str, Any]]:
    """Return what each family of the suite cost: its parameters, its training where that is known, a sample."""
    generator = scorer.generator
    shape, width = generator.neighbours.latents.shape[1:], generator.neighbours.keys.shape[1]
    own = scorer.session.space.generators.folder / scorer.suite.to / "config.json"
    trained = read_config(own, FORMAT, "configuration of a generator").get("trained", {})
    found: dict[str, dict[str, Any]] = {}
    for name in scorer.suite.families:
        network = generator.networks.get(name)
        if network is None:
            continue
        whole = network.family.build(network.config, (shape[0], shape[1], shape[2]), width)
        seconds, count = scorer.samples.of_family.get(name, (0.0, 0))
        found[name] = {
            "family": network.family.about,
            "parameters": sum(one.numel() for one in network.module.parameters()),
            "parameters_trained": sum(one.numel() for one in whole.parameters()),
            **trained.get(name, {}),
            "seconds_each": round(seconds / count, 4) if count else None,
        }
    return found


def _held_figures(scorer: Scorer) -> dict[str, Any]:
    """Return what real things that were never trained on say of near copies."""
    likeness = scorer.held.likeness
    near = near_copies(likeness, scorer.threshold)
    return {
        "items": len(near),
        "threshold": round(scorer.threshold, 4),
        "near_copies": round(float(near.mean()), 4),
        "likeness": round(float(likeness.mean()), 4),
        "measures": _copy_measures(scorer),
    }


def _copy_measures(scorer: Scorer) -> dict[str, dict[str, float]]:
    """Return for each measure of near copies its threshold, and the share of disguised copies that it finds."""
    limits = {"latents": scorer.threshold, **scorer.copy_limits}
    found = scorer.planted_copies()
    return {
        name: {"threshold": round(limit, 4), "found": found[name]} for name, limit in limits.items() if name in found
    }


KIND = Kind(load_media_suite, measure, markdown)
