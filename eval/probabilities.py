"""How honest the probabilities of hits are, and how well they tell a match from none.

    python -m eval.probabilities        # minutes once the vectors are under build/eval-cache

Searches are drawn from test items alone: for every query and size of gallery one without a match (counted twice), one
with a match, one with several where there are several. Galleries are filled up with names of training items. Beside
the probabilities stand what a model can know that sees the best score only (`auroc_best_score`), and those of the line
over the cosine with prior odds of 1 : gallery size (`ece_line`). Intervals resample concepts.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration, to_probability
from embedspace.evaluate.encode import SuiteEncoder
from embedspace.evaluate.items import Row
from embedspace.evaluate.report import git_commit
from embedspace.space import EmbeddingSpace
from embedspace.train.calibrate import Anchored, Searches, draw
from embedspace.train.episodes import Episodes
from training.align.calibrate import (
    CACHE,
    Encoded,
    built,
    composed,
    dishes,
    fillers,
    first_by_hash,
    joined,
    keywords_of,
    long_texts,
)
from training.corpora.manifest import CORPORA

RESULTS = Path(__file__).parent / "results"
SIZES = (100, 1_000, 10_000)
PICTURES = 500
CLIPS = 120
QUERIES = 250
RESAMPLES = 300
SEED = 0
BINS = 10


def rows_of(source: str, split: str, modality: str) -> list[Row]:
    """Return the usable rows of a source's test split."""
    return [r for r in built((source,)) if r.get("split") == split and r["modality"] == modality and r.get("concept")]


def searches(encoded: Encoded, calibration: Calibration) -> dict[str, Searches]:
    """Return what is measured: a title, and test items that search test items."""
    emoji = first_by_hash(rows_of("emoji-twitter", "test_vendor", "image"), PICTURES)
    stamps = rows_of("stamps", "test", "image")
    sounds = rows_of("sounds", "test", "audio")
    spoken = rows_of("speech", "test", "speech")
    said = sorted({str(r["captions"][0]) for r in spoken}, key=lambda c: hashlib.sha256(c.encode()).hexdigest())[:100]
    spoken = first_by_hash([r for r in spoken if r["captions"][0] in said], CLIPS)
    recipes, cooked, ends = dishes("test")
    everything = [*emoji, *stamps, *sounds, *spoken]
    names = {str(r["captions"][0]): str(r["concept"]) for r in everything}
    more = encoded.words(fillers([*names.values(), *ends, *(str(r["concept"]) for r in recipes)]))
    found: dict[str, Searches] = {}
    for title, rows, modality in (
        ("emoji of an unseen vendor", emoji, "image"),
        ("held-out stamps", stamps, "image"),
        ("sound effects of Tux Paint", sounds, "audio"),
        ("voices never trained on", spoken, "speech"),
    ):
        if not rows:
            continue
        media = encoded.media(rows, modality)
        own = encoded.words({str(r["captions"][0]): str(r["concept"]) for r in rows})
        found[f"{modality} to text: {title}"] = Searches(f"{modality}>text", media, joined(own, more))
        found[f"text to {modality}: {title}"] = Searches(f"text>{modality}", own, media)
        if rows is emoji:  # the stamps' keywords are the names of folders
            asked = encoded.words(keywords_of(rows))
            mixed = composed(media, asked, modality, calibration.means)
            found[f"mixed to text: {title}, with keywords"] = Searches("mixed>text", mixed, joined(own, more))
            found[f"text to text: keywords of {title} to names"] = Searches("text>text", asked, joined(own, more))
    if recipes:
        books, questions = long_texts(encoded, recipes, ends), encoded.words(cooked)
        found["text to text: dishes to recipes"] = Searches("text>text", questions, books)
        found["text to text: dishes to recipes among names"] = Searches("text>text", questions, joined(books, more))
    return found


def auroc(values: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Return the weighted area under the ROC curve, ties counted half; NaN without both classes."""
    levels, level = np.unique(values, return_inverse=True)
    good = np.bincount(level, weights * positive, len(levels))
    bad = np.bincount(level, weights * ~positive, len(levels))
    if not good.sum() or not bad.sum():
        return float("nan")
    return float((good * (np.cumsum(bad) - bad / 2)).sum() / (good.sum() * bad.sum()))


def bins_of(
    chances: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> list[tuple[float, float, float]]:
    """Return (weight, mean probability, share right) of bins that weigh alike, by probability."""
    order = np.argsort(chances, kind="stable")
    place = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    part = np.minimum((place * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        some = order[part == number]
        if len(some):
            weight = weights[some]
            found.append(
                (weight.sum(), np.average(chances[some], weights=weight), np.average(right[some], weights=weight))
            )
    return found


def ece(chances: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Return the expected calibration error over bins that weigh alike."""
    found = bins_of(chances, right, weights)
    return float(sum(weight * abs(mean - share) for weight, mean, share in found) / weights.sum())


class First:
    """The first hits of drawn searches, with what is known of them."""

    def __init__(self, episodes: Episodes, pair: str, calibration: Calibration, concepts: Sequence[str]) -> None:
        first = episodes.rank == 0
        query, target = pair.split(">")
        one = calibration.pair(query, target)
        features = episodes.features[first]
        self.size, self.weight = episodes.size[first], episodes.weight[first]
        self.right, self.present = episodes.is_match[first], episodes.present[first]
        self.score = features[:, 0]
        self.line = to_probability(one.slope * self.score + one.intercept - np.log(self.size))
        every = self.line
        if one.model is not None:
            every = to_probability(episodes.features @ one.model.weights + one.model.intercept)
        self.chance = every[first] if one.model is not None else self.line
        # that one of the first hits is a match, were they independent
        search = np.cumsum(first) - 1 if one.model is not None else np.arange(len(every))
        self.any = -np.expm1(np.bincount(search, np.log1p(-np.clip(every, 0, 1 - 1e-9))))
        cutoffs = {size: calibration.cutoff(query, target, size) for size in np.unique(self.size).tolist()}
        self.cutoff = np.array([cutoffs[size] for size in self.size.tolist()])
        self.cluster = np.unique(np.asarray(concepts)[episodes.query[first]], return_inverse=True)[1]

    def only(self, kept: NDArray[np.bool_]) -> First:
        """Return some of them."""
        some = object.__new__(First)
        for name in ("size", "cutoff", "weight", "right", "present", "score", "line", "chance", "any", "cluster"):
            setattr(some, name, getattr(self, name)[kept])
        return some

    def metrics(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Return every figure, with searches weighted."""
        there, shown = self.present > 0, self.chance >= self.cutoff

        def share(what: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
            total = weights[among].sum()
            return float(weights[what & among].sum() / total) if total else float("nan")

        every = np.ones(len(there), bool)
        return {
            "hit_rate": share(self.right, there),
            "mean_probability": float(np.average(self.chance, weights=weights)),
            "right": share(self.right, every),
            "ece": ece(self.chance, self.right, weights),
            "ece_line": ece(self.line, self.right, weights),
            "auroc": auroc(self.chance, there, weights),
            "auroc_best_score": auroc(self.score, there, weights),
            "auroc_first_five": auroc(self.any, there, weights),
            "auroc_right": auroc(self.chance, self.right, weights),
            "auroc_right_best_score": auroc(self.score, self.right, weights),
            "right_hidden": share(~shown, self.right),
            "wrong_shown": share(shown, ~self.right),
        }

    def measured(self) -> dict[str, list[float]]:
        """Return figure -> [value, low, high], the 95% interval over concepts."""
        value = self.metrics(self.weight)
        random = np.random.default_rng(SEED)
        count = int(self.cluster.max()) + 1
        samples = []
        for _ in range(RESAMPLES):
            drawn = np.bincount(random.integers(0, count, count), minlength=count)
            samples.append(self.metrics(self.weight * drawn[self.cluster] + 1e-12))
        return {
            name: [round(one, 4), *np.nanpercentile([s[name] for s in samples], [2.5, 97.5]).round(4).tolist()]
            for name, one in value.items()
            if np.isfinite(one)
        }


SHOWN = (
    "hit_rate", "ece", "ece_line", "auroc", "auroc_best_score", "auroc_first_five", "auroc_right", "right_hidden",
    "wrong_shown",
)  # fmt: skip
"""The figures of the table, in its order."""
KINDS: Mapping[str, Callable[[First], NDArray[np.bool_]]] = {
    "mixed": lambda first: np.ones(len(first.right), bool),
    "no match": lambda first: first.present == 0,
    "one match": lambda first: first.present == 1,
    "several": lambda first: first.present > 1,
}


def measure(some: Searches, calibration: Calibration) -> list[dict[str, Any]]:
    """Return what is measured of one set of searches, by size of gallery and number of matches."""
    random = np.random.default_rng(SEED)
    kept = np.sort(random.permutation(len(some.queries.vectors))[:QUERIES])
    queries = Anchored(some.queries.vectors[kept], some.queries.concepts[kept])
    items = len(np.unique(some.gallery.numbers))
    sizes = [size for size in SIZES if size < items]
    if not sizes:
        return []
    searched = Searches(some.pair, queries, some.gallery, some.own)
    first = First(draw(searched, sizes, random, most=QUERIES), some.pair, calibration, queries.concepts.tolist())
    entries = []
    for size in sizes:
        for kind, of in KINDS.items():
            part = first.only((first.size == size) & of(first))
            if len(part.right) and (kind == "mixed" or part.weight.sum()):
                found = {"gallery_size": size, "matches": kind, "searches": len(part.right), "metrics": part.measured()}
                if kind == "mixed":
                    found["reliability"] = [
                        [round(float(x), 4) for x in row] for row in bins_of(part.chance, part.right, part.weight)
                    ]
                entries.append(found)
    return entries


def diagram(report: Mapping[str, Any], path: Path) -> None:
    """Draw the reliability of first hits, a panel for each set of searches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 4
    count = len(report["results"])
    figure = Figure(figsize=(3.2 * columns, 3.0 * -(-count // columns)), layout="constrained")
    FigureCanvasAgg(figure)
    for number, result in enumerate(report["results"]):
        axis = figure.add_subplot(-(-count // columns), columns, number + 1)
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for entry in result["measured"]:
            if entry["matches"] == "mixed":
                _, means, shares = zip(*entry["reliability"], strict=True)
                axis.plot(means, shares, marker="o", markersize=3, label=f"{entry['gallery_size']:,}")
        axis.set_title(result["title"].replace(": ", ":\n"), fontsize=7)
        axis.tick_params(labelsize=6)
        axis.legend(fontsize=6, title="gallery", title_fontsize=6)
        axis.set_xlabel("probability of the first hit", fontsize=6)
        axis.set_ylabel("share that is right", fontsize=6)
    figure.savefig(path, dpi=110)


def table(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [
        "# Probabilities", "", " ".join(report["description"].split()), "",
        f"Commit {report['commit']}, seed {report['seed']}, splits {report['split_hash'][:16]}, calibration "
        f"{report['calibration'][:16]}. In brackets the 95% interval over concepts.", "",
        "| searches (mixed: half without a match) | gallery | first hit right where a match is there | ECE | "
        "ECE of the line | "
        "AUROC: a match is there | by the best score alone | by the first five hits | AUROC: the first hit is right | "
        "right first hits hidden | wrong ones shown |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for result in report["results"]:
        for entry in result["measured"]:
            if entry["matches"] == "mixed":
                found = [entry["metrics"].get(name) for name in SHOWN]
                cells = [f"{m[0]:.3f} [{m[1]:.2f}, {m[2]:.2f}]" if m else "" for m in found]
                lines.append(f"| {result['title']} | {entry['gallery_size']:,} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "![Reliability](probabilities.png)", ""])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of a space; the shipped one by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    space = EmbeddingSpace.from_pretrained(given.weights)
    encoder = SuiteEncoder(space, CORPORA, CACHE, lambda doing, done, of: print(f"{doing}: {done}/{of}", flush=True))
    found = searches(Encoded(encoder), space.calibration)
    digest = hashlib.sha256()
    results = []
    for title, some in found.items():
        for part in (some.queries, some.gallery):
            digest.update("\n".join(part.concepts.tolist()).encode())
        measured = measure(some, space.calibration)
        if measured:
            facts = {"title": title, "pair": some.pair, "queries": min(len(some.queries.vectors), QUERIES)}
            for entry in measured:
                entry["cutoff"] = space.calibration.cutoff(*some.pair.split(">"), entry["gallery_size"])
            results.append({**facts, "measured": measured})
            for entry in measured:
                if entry["matches"] == "mixed":
                    shown = {name: entry["metrics"][name][0] for name in SHOWN if name in entry["metrics"]}
                    print(f"{title}, {entry['gallery_size']}: {shown}", flush=True)
    report = {
        "description": (__doc__ or "").split("\n\n")[2].strip(),
        "commit": git_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "seed": SEED,
        "split_hash": digest.hexdigest(),
        "weights_hash": dict(space.fingerprints()),
        "calibration": hashlib.sha256(space.calibration_json().encode()).hexdigest(),
        "results": results,
    }
    (given.out / "probabilities.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    (given.out / "probabilities.md").write_text(table(report), "utf-8")
    diagram(report, given.out / "probabilities.png")


if __name__ == "__main__":
    main()
