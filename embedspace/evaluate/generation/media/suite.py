"""Suites that measure pictures or sounds that are generated, as TOML files.

    kind = "media"
    name = "generation_images"
    to = "image"
    judge = "judges.pictures:load"     # returns a `Judge`
    captions = ["captions"]                    # sets of texts that fill the gallery of recall up to `gallery`
    reference = "reference"                    # real things that distributions are compared with
    held = "held"                              # real things never trained on: what counts as a near-copy
    [sets.concepts]                            # sets as in retrieval suites
    ...
    [[groups]]
    name = "held-in concepts"
    items = "concepts"                         # one prompt per item; its caption, or its key, is what is to be seen
    real = "drawn"                             # real things with the prompts' keys
    [groups.sources]                           # label -> set with the prompts' keys, or a voice
    text = "concepts"
    "a picture never trained on" = "twitter"
    speech = "voice flite:rms"
    [sweep]                                    # guidance, on a selection of its own
    items = "validation"
    scales = [1, 2, 4]

The generator's first family makes everything; the others are compared with it on the prompts' texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.suites import VOICE, check_seeds, check_sets, read_generation_suite
from embedspace.evaluate.suite import ItemSet
from embedspace.generate.targets import START
from embedspace.modality import Modality

__all__ = ["MediaSuite", "PromptGroup", "Sweep", "load_media_suite"]


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Things that are asked for in several ways.

    Attributes:
        name: For the report.
        items: A set of texts, one prompt each; keys are different.
        sources: Label -> a set whose items have the prompts' keys, or "voice engine:name".
        real: A set of real things with the prompts' keys; empty for none.
    """

    name: str
    items: str
    sources: Mapping[str, Any]
    real: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Guidance, tried on prompts that no other figure is measured on.

    Attributes:
        items: A set of texts.
        scales: Weights of the guidance.
    """

    items: str
    scales: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MediaSuite:
    """A suite for a generator of pictures or sounds; see the module's docstring.

    Attributes:
        name: Also the name of its results.
        description: For the report.
        to: "image" or "audio".
        judge: "module:function" that returns a `Judge`.
        sets: Name -> items.
        groups: What is asked for.
        reference: Set of real things.
        held: Set of real things never trained on.
        training: Set of training items beside the generator's neighbours; empty for none.
        captions: Sets of texts, in this order; none where the judge knows a list of concepts.
        gallery: Captions among which the right one is searched.
        seeds: One after the other; a sample of each prompt with each.
        candidates: Drawn for each sample, of which the generator keeps one; 0 for its own number.
        alone: Whether samples of one candidate each, from the prompts' texts, stand beside what several give, and how
            much more those give, prompt by prompt.
        start: The time that samples begin at, 0 at noise; left out for the generator's own.
        families: Families of the generator; the first makes everything, each other one the text prompts beside it.
        real_each: Real things per prompt, at most.
        copies: Share of `held` that counts as near-copies.
        sweep: Guidance, if it is to be tried.
        sheet: Prompts on a sample sheet; 0 for no sheets.
        resamples: Bootstrap samples.
        own_generator: It measures a generator that does not ship, of a space that was trained for it.
        folder: Where the suite lies.
    """

    name: str
    description: str
    to: str
    judge: str
    sets: dict[str, ItemSet]
    groups: tuple[PromptGroup, ...]
    reference: str
    held: str
    training: str = ""
    captions: tuple[str, ...] = ()
    gallery: int = 500
    seeds: tuple[int, ...] = (0, 1, 2)
    candidates: int = 0
    alone: bool = False
    start: float | None = None
    families: tuple[str, ...] = ("flow",)
    real_each: int = 3
    copies: float = 0.05
    sweep: Sweep | None = None
    sheet: int = 10
    resamples: int = 1000
    own_generator: bool = False
    folder: Path = field(default_factory=Path)


def load_media_suite(path: str | Path) -> MediaSuite:
    """Read and check a suite.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or wrong, or a name refers to no set.
    """
    path = Path(path)
    suite = read_generation_suite(MediaSuite, path)
    _check(suite, path)
    return suite


def _check(suite: MediaSuite, path: Path) -> None:
    if suite.to not in (Modality.IMAGE, Modality.AUDIO):
        raise ConfigError(f"{path}: to must be 'image' or 'audio', got {suite.to!r}")
    if not suite.groups:
        raise ConfigError(f"{path}: nothing to measure; add a [[groups]] table")
    check_seeds(suite.seeds, path)
    if suite.alone and suite.candidates < 2:
        raise ConfigError(f"{path}: alone sets one candidate beside several; give candidates = 2 or more")
    if suite.start is not None and not 0 <= suite.start <= (START.most or 0):
        raise ConfigError(f"{path}: start must be 0 to {START.most}, got {suite.start:g}")
    if not suite.families:
        raise ConfigError(f"{path}: families names no family")
    named = [suite.reference, suite.held, suite.training, *suite.captions, suite.sweep.items if suite.sweep else ""]
    for group in suite.groups:
        if not group.sources:
            raise ConfigError(f"{path}: group {group.name!r} has no sources")
        named += [group.items, group.real]
        named += [str(source) for source in group.sources.values() if not str(source).startswith(VOICE)]
    check_sets(named, suite.sets, path)
    texts = [*(group.items for group in suite.groups), *suite.captions, *([suite.sweep.items] if suite.sweep else [])]
    for name in texts:
        if suite.sets[name].modality != Modality.TEXT:
            raise ConfigError(f"{path}: set {name!r} must be of modality 'text': its captions are what is asked for")
