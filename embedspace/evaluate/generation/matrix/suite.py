"""Suites of every modality from every other, as TOML files.

    kind = "matrix"
    name = "generation_matrix"
    pictures = "judges.pictures:load"          # is the caption among the first ten of 500?
    sounds = "judges.sounds:load"              # is the concept the first of fifty?
    ears = "judges.recogniser:transcribe_batch"      # is a word of the concept heard?
    concepts = "concepts"                              # texts, a concept each
    captions = ["captions"]                            # that a picture's own is searched among
    [sources]                                          # modality -> set with the concepts' keys, or a voice
    text = "concepts"
    speech = "voice flite:rms"
    [sets.concepts]

A generated text counts if it holds a content word of one of the concept's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.suites import VOICE, check_seeds, check_sets, read_generation_suite
from embedspace.evaluate.suite import ItemSet
from embedspace.modality import Modality

__all__ = ["MatrixSuite", "load_matrix_suite"]


@dataclass(frozen=True, slots=True)
class MatrixSuite:
    """A suite of kind "matrix"; see the module's docstring.

    Attributes:
        name: Also the name of its results.
        description: For the report.
        sets: Name -> items.
        concepts: Set of texts, one prompt each.
        sources: Modality -> set with the prompts' keys, or "voice engine:name".
        pictures: "module:function" that returns the judge of pictures.
        sounds: "module:function" that returns the judge of sounds.
        ears: "module:function" that turns waveforms at 16 kHz into words.
        captions: Sets of texts.
        gallery: Captions among which a picture's own is searched.
        voice: Says generated captions.
        seeds: Seeds of pictures and sounds; texts and speech are made with the first.
        resamples: Bootstrap samples.
        folder: Where the suite lies.
    """

    name: str
    description: str
    sets: dict[str, ItemSet]
    concepts: str
    sources: Mapping[str, Any]
    pictures: str
    sounds: str
    ears: str
    captions: tuple[str, ...] = ()
    gallery: int = 500
    voice: str = "flite:slt"
    seeds: tuple[int, ...] = (0, 1, 2)
    resamples: int = 1000
    folder: Path = field(default_factory=Path)


def load_matrix_suite(path: str | Path) -> MatrixSuite:
    """Read and check a suite.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or wrong, or a name refers to no set.
    """
    path = Path(path)
    suite = read_generation_suite(MatrixSuite, path)
    for modality in suite.sources:
        if modality not in list(Modality):
            raise ConfigError(f"{path}: sources: unknown modality {modality!r}; known: {' '.join(Modality)}")
    sources = [str(source) for source in suite.sources.values() if not str(source).startswith(VOICE)]
    check_sets([suite.concepts, *suite.captions, *sources], suite.sets, path)
    check_seeds(suite.seeds, path)
    return suite
