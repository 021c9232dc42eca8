"""Every modality from every other: the 4 x 4 matrix, each cell scored by who can tell.

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

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.config import build
from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.encode import Progress, SuiteEncoder
from embedspace.evaluate.generation.judged import Judge, known_among, load_judge, named_function
from embedspace.evaluate.generation.made import Maker
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.measures.words import names_any
from embedspace.evaluate.generation.media import medium_of
from embedspace.evaluate.generation.sources import VOICE, SourceVectors, source_vectors, spoken_vectors
from embedspace.evaluate.items import EvalItem, rows_hash, select_all
from embedspace.evaluate.report import CACHE, git_commit, heat_map, splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.evaluate.suite import Direction, ItemSet, Suite, read_suite
from embedspace.generate import Request, generate
from embedspace.generate.api import head_of
from embedspace.media.resample import resample_waveform
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

__all__ = ["MatrixSuite", "evaluate_matrix", "load_matrix_suite", "markdown"]

RECALL_AT = 10
_EARS = 16_000  # Hz, what the recogniser hears at
_METRIC = "hit"


@dataclass(frozen=True, slots=True)
class MatrixSuite:
    """A suite of kind "matrix"; see the module's docstring.

    Attributes:
        kind: "matrix".
        name: Also the name of its results.
        description: For the report.
        sets: Name -> items.
        concepts: Set of texts, a prompt each.
        sources: Modality -> set with the prompts' keys, or "voice engine:name".
        pictures: "module:function" that returns the judge of pictures.
        sounds: "module:function" that returns the judge of sounds.
        ears: "module:function" that turns waveforms at 16 kHz into words.
        captions: Sets of texts.
        gallery: Captions among which a picture's own is searched.
        voice: That generated captions are said by.
        seeds: Of pictures and sounds; texts and speech are made with the first.
        resamples: Bootstrap samples.
        folder: Where the suite lies.
    """

    kind: str
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
    suite = build(MatrixSuite, read_suite(path), str(path), folder=path.parent)
    named = [suite.concepts, *suite.captions]
    for modality, source in suite.sources.items():
        if modality not in list(Modality):
            raise ConfigError(f"{path}: sources: unknown modality {modality!r}; known: {' '.join(Modality)}")
        named += [] if str(source).startswith(VOICE) else [str(source)]
    for name in named:
        if name not in suite.sets:
            raise ConfigError(f"{path}: no set {name!r}; known: {' '.join(suite.sets)}")
    if not suite.seeds or list(suite.seeds) != list(range(suite.seeds[0], suite.seeds[0] + len(suite.seeds))):
        raise ConfigError(f"{path}: seeds must follow one another, such as [0, 1, 2], got {list(suite.seeds)}")
    return suite


@dataclass
class _Run:
    suite: MatrixSuite
    space: EmbeddingSpace
    prompts: list[EvalItem]
    captions: list[str]
    cache: Path | None
    failures: dict[str, str]
    tell: Progress

    def names(self, number: int) -> list[str]:
        """Return what a prompt's concept is called."""
        row = self.prompts[number].row
        return [self.prompts[number].key, self.prompts[number].content, *map(str, row.get("captions", ()))]

    def score(self, to: str, found: SourceVectors) -> NDArray[np.float64]:
        """Return (len(found.have),) share of each prompt's samples that are known for what they should be."""
        scorers = {
            Modality.IMAGE.value: self._pictures,
            Modality.AUDIO.value: self._sounds,
            Modality.TEXT.value: self._texts,
            Modality.SPEECH.value: self._speech,
        }
        return scorers[to](found)

    def _media(self, to: str, judge: Judge, found: SourceVectors) -> tuple[NDArray[np.float32], int]:
        _, medium = medium_of(head_of(self.space, to))
        maker = Maker(self.space, to, medium, self.suite.seeds, self.cache, self.tell)
        made = maker.make(found.vectors, found.modality, f"{found.modality} -> {to}")
        flat = [content for own in made for content in own]
        return judge.features(flat, medium.sample_rate), len(self.suite.seeds)

    def _known(
        self, to: str, judge: Judge, found: SourceVectors, names: list[str], own: Sequence[str], depth: int
    ) -> NDArray[np.float64]:
        features, each = self._media(to, judge, found)
        wanted = [own[number] for number in found.have for _ in range(each)]
        hits = known_among(judge, features, wanted, names, depth).reshape(-1, each)
        means: NDArray[np.float64] = hits.mean(axis=1)
        return means

    def _pictures(self, found: SourceVectors) -> NDArray[np.float64]:
        own = [item.content for item in self.prompts]
        judge = load_judge(self.suite.pictures)
        return self._known(Modality.IMAGE.value, judge, found, self.captions, own, RECALL_AT)

    def _sounds(self, found: SourceVectors) -> NDArray[np.float64]:
        own = [item.key for item in self.prompts]
        judge = load_judge(self.suite.sounds)
        return self._known(Modality.AUDIO.value, judge, found, list(judge.concepts), own, 1)

    def _texts(self, found: SourceVectors) -> NDArray[np.float64]:
        hits = []
        for number, vector in zip(found.have, found.vectors, strict=True):
            made = self._made(Modality.TEXT, vector, found.modality)
            hits.append(float(names_any(made.text, self.names(number))))
            self.tell(f"{found.modality} -> text", len(hits), len(found.have))
        return np.array(hits)

    def _speech(self, found: SourceVectors) -> NDArray[np.float64]:
        hear = named_function(self.suite.ears)
        hits = []
        for number, vector in zip(found.have, found.vectors, strict=True):
            made = self._made(Modality.SPEECH, vector, found.modality)
            clip = resample_waveform(np.asarray(made.content, np.float32), made.sample_rate, _EARS)
            hits.append(float(names_any(hear([clip])[0], self.names(number))))
            self.tell(f"{found.modality} -> speech", len(hits), len(found.have))
        return np.array(hits)

    def _made(self, to: Modality, vector: NDArray[np.float32], modality: str) -> Any:  # noqa: ANN401 - a Sample
        voice = self.suite.voice if to == Modality.SPEECH else None
        request = Request(seed=self.suite.seeds[0], voice=voice)
        return generate(self.space, vector, to=to, modality=modality, request=request, force=True)[0][0]


def evaluate_matrix(
    suite_path: str | Path,
    space: EmbeddingSpace,
    out_dir: Path | None = None,
    callback: Progress | None = None,
    *,
    corpora: Path | None = None,
    cache: Path | None = CACHE,
) -> dict[str, Any]:
    """Measure a suite of kind "matrix"; what `embedspace eval generation` calls.

    Args:
        suite_path: TOML file.
        space: The space whose heads are measured.
        out_dir: Where <suite>.json, .md and the heat map go; None to write nothing.
        callback: Called with (what, done, total).
        corpora: Folder of the corpora.
        cache: Folder that keeps vectors and samples between runs.

    Returns:
        The report; `markdown` of it is the table. A cell whose head or voice is missing is left out, with the reason.

    Raises:
        ConfigError: If the suite or a manifest cannot be read, or the judges know none of the concepts.
    """
    suite = load_matrix_suite(suite_path)
    folder = corpora_folder() if corpora is None else corpora
    items = select_all(Suite(suite.name, suite.description, suite.sets, (Direction("", ""),)), folder)
    encoder = SuiteEncoder(space, folder, cache, callback)
    tell = callback or (lambda doing, done, total: None)
    judges = {"pictures": load_judge(suite.pictures), "sounds": load_judge(suite.sounds)}
    prompts = [item for item in items[suite.concepts] if item.key in judges["sounds"].concepts]
    if not prompts:
        raise ConfigError(f"{suite_path}: the judge of sounds knows no concept of set {suite.concepts!r}")
    own = dict.fromkeys(item.content for item in prompts)
    more = (item.content for name in suite.captions for item in items[name])
    captions = list(dict.fromkeys([*own, *more]))[: suite.gallery]
    run = _Run(suite, space, prompts, captions, cache, encoder.failures, tell)
    results = []
    for modality, source in suite.sources.items():
        if str(source).startswith(VOICE):
            voice = str(source).removeprefix(VOICE)
            found = spoken_vectors(prompts, voice, space, encoder.failures, tell)
        else:
            found = source_vectors(prompts, str(source), suite.sets, items, encoder)
        for to in Modality:
            if not found.have:
                continue
            try:
                hits = run.score(to.value, found)
            except ConfigError:
                raise
            except EmbedspaceError as error:
                encoder.failures[f"{modality} -> {to}"] = str(error)
                continue
            value = clustered_mean(hits, [prompts[n].key for n in found.have], resamples=suite.resamples)
            results.append(
                {
                    "query": modality,
                    "gallery": to.value,
                    "label": "",
                    "concepts": len(hits),
                    "metrics": {_METRIC: value},
                }
            )
    entry = {
        "generation_suite": suite.name,
        "kind": suite.kind,
        "description": suite.description,
        "commit": git_commit(suite.folder),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split_hash": rows_hash(items),
        "corpora_splits": splits_digest(folder),
        "weights": dict(space.fingerprints()),
        "heads": _digests(space),
        "judges": {
            name: {"digest": judge.digest, "accuracy": judge.about.get("accuracy", {})}
            for name, judge in judges.items()
        },
        "captions_searched": len(captions),
        "concepts": [item.key for item in prompts],
        "seeds": list(suite.seeds),
        "results": results,
        "failures": dict(list(encoder.failures.items())[:20]),
    }
    if out_dir is not None:
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / f"{suite.name}.json").write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (out_dir / f"{suite.name}.md").write_text(markdown(entry), "utf-8")
        heat_map({**entry, "suite": suite.name}, out_dir / f"{suite.name}.png", _METRIC, ("to", "from"))
    return entry


def _digests(space: EmbeddingSpace) -> dict[str, str]:
    found = {}
    for modality in Modality:
        try:
            found[modality.value] = head_of(space, modality).digest
        except EmbedspaceError:
            continue  # named among the failures of its cells
    return found


def markdown(entry: Mapping[str, Any]) -> str:
    """Return a report as Markdown."""
    names = [modality.value for modality in Modality]
    cells = {(r["query"], r["gallery"]): r for r in entry["results"]}
    lines = [f"# {entry['generation_suite']}", "", entry["description"], ""]
    lines += ["| from, % | concepts | " + " | ".join(f"to {name}" for name in names) + " |", "|---|" + "---|" * 5]
    for source in dict.fromkeys(r["query"] for r in entry["results"]):
        shown = []
        for to in names:
            cell = cells.get((source, to))
            values = [100 * v for v in cell["metrics"][_METRIC]] if cell else []
            shown.append("{:.0f} [{:.0f}, {:.0f}]".format(*values) if cell else "–")
        count = max(r["concepts"] for r in entry["results"] if r["query"] == source)
        lines.append(f"| {source} | {count} | " + " | ".join(shown) + " |")
    seeds = ", ".join(map(str, entry["seeds"]))
    lines += [
        "",
        f"Pictures: the judge finds the caption among the first {RECALL_AT} of {entry['captions_searched']}. "
        "Sounds: the judge names the concept first of all that it knows. Texts: a content word of the concept's "
        "names is in the caption; speech: it is heard by an independent recogniser. [95% bootstrap interval]",
        "",
        f"Concepts: {', '.join(entry['concepts'])}.",
        "",
        f"Commit `{entry['commit'][:12] or 'unknown'}`, {entry['date']}, seeds {seeds}, rows "
        f"`{entry['split_hash'][:12]}`.",
        "",
    ]
    return "\n".join(lines)
