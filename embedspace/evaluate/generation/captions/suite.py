"""Suites of captions and speech, as TOML files.

    name = "generation"
    judge = "judges.recogniser:transcribe_batch"     # hears speech; never trains anything
    [sets.image]                                       # sources, as in retrieval suites
    manifests = ["emoji-twitter"]
    limit = 150
    [speech]
    captions = "text"                                  # the set whose captions are spoken
    real = "human"                                     # the set of people who speak theirs

Either part may be left out: `targets` names the sets that are captioned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from embedspace.errors import ConfigError
from embedspace.evaluate.generation.suites import check_sets, read_generation_suite
from embedspace.evaluate.suite import ItemSet

__all__ = ["CaptionSuite", "SpeechPart", "load_caption_suite"]


@dataclass(frozen=True, slots=True)
class SpeechPart:
    """What is spoken and heard.

    Attributes:
        captions: Name of the set whose first captions are spoken.
        real: Name of a set of recordings of people, heard for comparison; empty for none.
        voices: Voices; those that are installed if empty.
    """

    captions: str
    real: str = ""
    voices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionSuite:
    """A suite of captions and speech; see the module's docstring.

    Attributes:
        name: Also the name of its results.
        description: For the report.
        sets: Name -> items.
        targets: Sets that captions are made from.
        judge: "module:function" that turns waveforms at 16 kHz into words.
        speech: The speech part, if any.
        seeds: Captions are drawn with each.
        resamples: Bootstrap samples.
        folder: Where the suite lies.
    """

    name: str
    description: str
    sets: dict[str, ItemSet]
    targets: tuple[str, ...] = ()
    judge: str = ""
    speech: SpeechPart | None = None
    seeds: tuple[int, ...] = (0,)
    resamples: int = 1000
    folder: Path = field(default_factory=Path)


def load_caption_suite(path: str | Path) -> CaptionSuite:
    """Read and check a suite.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or wrong, or a name refers to no set.
    """
    path = Path(path)
    suite = read_generation_suite(CaptionSuite, path)
    part = suite.speech
    named = [*suite.targets, *([part.captions, part.real] if part else [])]
    check_sets(named, suite.sets, path)
    if not named:
        raise ConfigError(f"{path}: nothing to measure; name sets in targets, or add [speech]")
    if part is not None and not suite.judge:
        raise ConfigError(f"{path}: speech needs a judge, such as 'my_judges.ears:transcribe_batch'")
    return suite
