"""Measure generation: do captions name what is there, and is what is said understood; beside baselines.

    name = "generation"
    judge = "judges.recogniser:transcribe_batch"     # hears speech; never trains anything
    [sets.image]                                       # sources, as in retrieval suites
    manifests = ["emoji-twitter"]
    limit = 150
    [speech]
    captions = "text"                                  # the set whose captions are spoken
    real = "human"                                     # the set of people who speak theirs

Baselines of captions: the nearest training caption; the caption of another item (shuffled condition); a caption of no
condition. Of speech: what people say of the same kind, and another item's caption.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.config import build
from embedspace.errors import ConfigError, MissingExtraError
from embedspace.evaluate.encode import Progress, SuiteEncoder
from embedspace.evaluate.generation.captions_report import markdown
from embedspace.evaluate.generation.judged import named_function
from embedspace.evaluate.generation.measures.clusters import clustered_mean, clustered_ratio
from embedspace.evaluate.generation.measures.words import names_all, names_any, spoken_words, word_errors
from embedspace.evaluate.items import EvalItem, rows_hash, select_all
from embedspace.evaluate.report import CACHE, git_commit
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.evaluate.suite import Direction, ItemSet, Suite, read_suite
from embedspace.generate import Request, generate, heads_folder
from embedspace.generate.api import head_of
from embedspace.generate.captions.vocabulary import load_memory
from embedspace.generate.conditioning import centre
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

__all__ = ["GenerationSuite", "SpeechPart", "evaluate_generation", "load_generation_suite", "markdown"]

Judge = Callable[[list[Any]], list[str]]
_RATE = 16_000  # of the judge
_BATCH = 8


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
class GenerationSuite:
    """A generation suite; see the module's docstring.

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


def load_generation_suite(path: str | Path) -> GenerationSuite:
    """Read and check a suite.

    Raises:
        ConfigError: If the file is missing or no TOML, a key is unknown or wrong, or a name refers to no set.
    """
    path = Path(path)
    suite = build(GenerationSuite, read_suite(path), str(path), folder=path.parent)
    part = suite.speech
    named = [*suite.targets, *([part.captions, *filter(None, [part.real])] if part else [])]
    for name in named:
        if name not in suite.sets:
            raise ConfigError(f"{path}: no set {name!r}; known: {' '.join(suite.sets)}")
    if not named:
        raise ConfigError(f"{path}: nothing to measure; name sets in targets, or add [speech]")
    if part is not None and not suite.judge:
        raise ConfigError(f"{path}: speech needs a judge, such as 'my_judges.ears:transcribe_batch'")
    return suite


def evaluate_generation(
    suite_path: str | Path,
    space: EmbeddingSpace,
    out_dir: Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: Path | None = None,
    cache: Path | None = CACHE,
) -> dict[str, Any]:
    """Measure a suite; what `embedspace eval generation` calls.

    Args:
        suite_path: TOML file.
        space: The space whose heads are measured.
        out_dir: Where <suite>.json and .md go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora.
        cache: Folder that keeps vectors between runs.

    Returns:
        The report; `markdown` of it is the table.

    Raises:
        ConfigError: If the suite or a manifest cannot be read.
        WeightsError: If a head is missing.
    """
    suite = load_generation_suite(suite_path)
    folder = corpora_folder() if corpora is None else corpora
    shell = Suite(suite.name, suite.description, suite.sets, (Direction("", ""),))
    items = select_all(shell, folder)
    encoder = SuiteEncoder(space, folder, cache, callback)
    tell = callback or (lambda doing, done, total: None)
    captions = [row for name in suite.targets for row in _caption_rows(suite, name, items[name], encoder, space, tell)]
    speech = _speech_rows(suite, suite.speech, items, encoder, tell) if suite.speech else []
    entry = {
        "generation_suite": suite.name,
        "description": suite.description,
        "commit": git_commit(suite.folder),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split_hash": rows_hash(items),
        "weights": dict(space.fingerprints()),
        "heads": {m: head_of(space, m).digest for m in ("text", "speech") if (heads_folder(space) / m).is_dir()},
        "judge": suite.judge,
        "seeds": list(suite.seeds),
        "captions": captions,
        "speech": speech,
        "failures": dict(list(encoder.failures.items())[:20]),
    }
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(entry, indent=1, ensure_ascii=False) + "\n"
        (out_dir / f"{suite.name}.json").write_text(text, "utf-8")
        (out_dir / f"{suite.name}.md").write_text(markdown(entry), "utf-8")
    return entry


def _concept(item: EvalItem) -> str:
    """Return what an item shows or says; items of one concept are drawn together where intervals are estimated."""
    captions = item.row.get("captions") or [item.id]
    return str(item.row.get("concept") or captions[0])


def _caption_rows(
    suite: GenerationSuite,
    name: str,
    items: list[EvalItem],
    encoder: SuiteEncoder,
    space: EmbeddingSpace,
    tell: Progress,
) -> list[dict[str, Any]]:
    """Return a row for each system that captions a set."""
    modality = suite.sets[name].modality
    vectors = encoder.encode(items, modality)
    names = [[str(c) for c in item.row.get("captions", ())] or [str(item.row.get("concept", ""))] for item in items]
    good = [k for k in range(len(items)) if np.isfinite(vectors[k]).all()]
    made: dict[int, list[str]] = {}
    for done, k in enumerate(good, 1):
        made[k] = [_caption(space, vectors[k], modality, seed) for seed in suite.seeds]
        tell(f"caption {name}", done, len(good))
    memory = load_memory(heads_folder(space))
    centred = {k: centre(vectors[k][None], modality, space.calibration.means)[0] for k in good}
    every, nothing, concepts = range(len(items)), [""] * len(suite.seeds), [_concept(item) for item in items]
    systems: dict[str, list[list[str]]] = {
        "generated": [made.get(k, nothing) for k in every],
        "nearest training caption": [
            [memory.neighbours(centred[k], 1)[0].caption] if k in centred else [""] for k in every
        ],
        "shuffled condition": [made.get((k + 1) % len(items), nothing) for k in every],
        "no condition": [[text] for text in _unconditional(space, len(items))],
    }

    def share(named: Callable[[str, list[str]], bool], said: list[list[str]]) -> list[float]:
        hits = [float(np.mean([named(text, names[k]) for text in texts])) for k, texts in enumerate(said)]
        return clustered_mean(hits, concepts, resamples=suite.resamples)

    examples = [{"item": items[k].id, "names": names[k][:2], "caption": made[k][0]} for k in good[:12]]
    return [
        {
            "from": name,
            "modality": modality,
            "system": system,
            "items": len(items),
            "concepts": len(set(concepts)),
            "names_any": share(names_any, said),
            "names_all": share(names_all, said),
            **({"examples": examples} if system == "generated" else {}),
        }
        for system, said in systems.items()
    ]


def _caption(space: EmbeddingSpace, vector: NDArray[np.float32], modality: str, seed: int) -> str:
    made = generate(space, vector, to=Modality.TEXT, modality=modality, request=Request(seed=seed), force=True)
    return made[0][0].text


def _unconditional(space: EmbeddingSpace, count: int) -> list[str]:
    """Return captions of no condition."""
    import torch

    from embedspace.generate.conditioning import Condition
    from embedspace.generate.families.autoregressive import PAD, sample

    head: Any = head_of(space, Modality.TEXT)
    nothing = Condition(torch.zeros(count, space.embed_dim), torch.zeros(count))
    generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
    steps = head.decoder.config.max_pieces
    rows = sample(head.decoder, nothing, num_steps=steps, guidance_scale=1.0, generator=generators)
    return [head.tokenizer.decode([piece for piece in row if piece != PAD]) for row in rows.tolist()]


def _speech_rows(
    suite: GenerationSuite, part: SpeechPart, items: dict[str, list[EvalItem]], encoder: SuiteEncoder, tell: Progress
) -> list[dict[str, Any]]:
    """Return the word error rate of each voice, of people, and of the wrong caption."""
    from embedspace.evaluate.encode import read_shard
    from embedspace.generate.speech.voices import SAMPLE_RATE, available, speak
    from embedspace.media.resample import resample_waveform

    judge: Judge = named_function(suite.judge)
    captions = [str(item.row["captions"][0]) for item in items[part.captions]]
    rows: list[dict[str, Any]] = []

    def hear(system: str, waveforms: list[NDArray[np.float32]], meant: list[str]) -> None:
        heard: list[str] = []
        for start in range(0, len(waveforms), _BATCH):
            heard += judge(list(waveforms[start : start + _BATCH]))
            tell(f"hear {system}", len(heard), len(waveforms))
        rows.append(_error_row(suite, system, meant, heard))
        if system != "people":
            rows.append(_error_row(suite, f"{system}, shuffled", [*meant[1:], meant[0]], heard))

    for voice in part.voices or tuple(available()):
        try:
            said = [resample_waveform(speak(text, voice)[0], SAMPLE_RATE, _RATE) for text in captions]
        except MissingExtraError as error:
            encoder.failures[voice] = str(error)
            continue
        hear(voice, said, captions)
    if part.real:
        clips = [(read_shard(encoder.corpora, item.content), item) for item in items[part.real]]
        known = [(clip, str(item.row["captions"][0])) for clip, item in clips if clip is not None]
        hear("people", [clip for clip, _ in known], [text for _, text in known])
    return rows


def _error_row(suite: GenerationSuite, system: str, meant: list[str], heard: list[str]) -> dict[str, Any]:
    """Return the word error rate: errors over words, with the interval over different captions."""
    words = np.array([len(spoken_words(text)) for text in meant], np.float64)
    errors = np.array(
        [word_errors(spoken_words(a), spoken_words(b)) for a, b in zip(meant, heard, strict=True)], np.float64
    )
    rate = clustered_ratio(errors, words, meant, resamples=suite.resamples) or [float(errors.sum())] * 3
    wrong = [{"meant": a, "heard": b} for a, b, e in zip(meant, heard, errors, strict=True) if e][:12]
    return {
        "system": system,
        "captions": len(meant),
        "word_error_rate": rate,
        "misheard": wrong,
    }
