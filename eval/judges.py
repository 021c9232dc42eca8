"""Ask both judges of pictures about the same pictures: real ones, nearest training items, and what ships draws.

    python -m eval.judges                           # eval/results/judges.*; what a suite kept is not drawn again

The second judge has no pretrained network (`training.judges.pixels`). Of each prompt a judge is asked whether it finds
the name among those of the group, and the caption among 500. Differences to the nearest item are paired, prompt by
prompt. phi is the correlation of the two judges' shares of a prompt's pictures whose caption is among the first ten.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.evaluate.generation.judges import Judge, load_judge
from embedspace.evaluate.generation.media.medium import Content, as_kept
from embedspace.evaluate.generation.media.opening import bare_scorer
from embedspace.evaluate.generation.media.scorer import Prompts, SampleScores, Scorer
from embedspace.evaluate.generation.media.suite import PromptGroup, load_media_suite
from embedspace.evaluate.generation.session import open_session
from embedspace.evaluate.report import CACHE, splits_digest
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.files import replacing
from embedspace.space import EmbeddingSpace
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
SECOND = "training.judges.pixels:load"
ASKED = {
    "generation_images": ("held-in concepts", "held-out concepts"),
    "generation_images_chosen": ("held-in concepts",),
}
"""Suite -> its groups; what is made of the words of their prompts."""
KEPT = CACHE / "judged"
FIGURES = ("top_1", "recall_at_10")


def pictures_of(scorer: Scorer, group: PromptGroup) -> Iterator[tuple[str, list[int], list[list[Content]]]]:
    """Yield what is shown, the prompts that have some, and their pictures: real, nearest, and made of the words."""
    prompts = scorer.prompts_of(group.items)
    own: dict[str, list[Any]] = {}
    for item in scorer.session.items[group.real]:
        own.setdefault(item.key, []).append(item)
    real = [scorer.read(own.get(item.key, [])[: scorer.suite.real_each]) for item in prompts.items]
    have = [number for number, contents in enumerate(real) if contents]
    found = scorer.vectors_of(prompts, group.items)
    rows = centre(found.vectors, found.modality, scorer.session.space.calibration.means)
    nearest = [scorer.generator.neighbour_media(row, 1) for row in rows]
    yield "nearest training item", found.have, [[as_kept(scorer.medium, c) for _, c in one] for one in nearest]
    yield "real", have, [real[number] for number in have]
    family, each = scorer.suite.families[0], scorer.suite.candidates or 1
    made = scorer.samples.of(found.vectors, found.modality, group.name, family=family)
    yield f"made, the best of {each}" if each > 1 else "made", found.have, made


def seen_by(scorer: Scorer, part: Prompts, contents: Sequence[Sequence[Content]], shift: int = 0) -> dict[str, Any]:
    """Return for each prompt the share of its pictures that a judge knows, by figure."""
    flat = [content for own in contents for content in own]
    zeros = np.zeros(len(flat), np.float32)
    scores = SampleScores(
        [list(own) for own in contents], features_of(scorer.judge, flat), zeros.astype(np.int64), zeros
    )
    return scorer.hits(part, scores, shift)


def features_of(judge: Judge, pictures: Sequence[Content]) -> NDArray[np.float32]:
    """Return a judge's features of pictures; kept between runs by what they are."""
    total = hashlib.sha256(judge.digest.encode())
    for picture in pictures:
        total.update(f"{picture.shape}".encode() + np.ascontiguousarray(picture).tobytes())
    path = KEPT / f"{total.hexdigest()[:32]}.npy"
    if not path.is_file():
        rows = judge.features(pictures)
        KEPT.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, rows)
    found: NDArray[np.float32] = np.load(path)
    return found


def measured(scorers: Sequence[Scorer], group: PromptGroup) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind of picture of a group, what is made also against other words."""
    nearest: list[dict[str, NDArray[np.float64]]] = []
    for what, have, contents in pictures_of(scorers[0], group):
        part = scorers[0].prompts_of(group.items, have)
        for shift in (0, 1) if what.startswith("made") else (0,):
            hits = [seen_by(scorer, part, contents, shift) for scorer in scorers]
            nearest = nearest or hits
            row: dict[str, Any] = {"group": group.name, "what": what + (", against other words" if shift else "")}
            row |= {"prompts": len(have), "pictures": sum(len(own) for own in contents), "judges": []}
            for scorer, own, near in zip(scorers, hits, nearest, strict=True):
                told = {name: scorer.estimate(own[name], part.concepts) for name in FIGURES}
                if len(have) == len(near["top_1"]):
                    told |= {
                        f"{name}_less_nearest": scorer.difference(own[name], near[name], part.concepts)
                        for name in FIGURES
                    }
                row["judges"].append(told)
            row["phi"] = correlation(*(own["recall_at_10"] for own in hits))
            print(row, flush=True)
            yield row


def correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the correlation of two judges' shares (P,); 0 where one of them does not vary."""
    spread = float(one.std() * two.std())
    return round(float(((one - one.mean()) * (two - two.mean())).mean()) / spread, 3) if spread else 0.0


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seeds 0 to 2, splits "
        f"{entry['corpora_splits'][:12]}, generator {entry['generator'][:12]}, judges {entry['digests'][0][:12]} and "
        f"{entry['digests'][1][:12]}. 95% intervals over concepts; caption among the first ten of 500 (chance 2); what "
        "is made is made of the prompts' words. phi: whether both judges know the same prompts.\n"
    )
    yield (
        "| group | pictures | first: top-1, % | R@10, % | less the nearest, points | second: top-1, % | R@10, % | "
        "less the nearest, points | phi |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in entry["rows"]:
        cells = [f"{row['group']} ({row['prompts']})", row["what"]]
        for told in row["judges"]:
            cells += [_percent(told[name]) for name in FIGURES]
            less = [told.get(f"{name}_less_nearest") for name in FIGURES]
            cells.append(" / ".join(_percent(one) for one in less if one) or "–")
        yield f"| {' | '.join([*cells, format(row['phi'], '.2f')])} |"


def _percent(value: Sequence[float]) -> str:
    return "{:.1f} [{:.0f}, {:.0f}]".format(*(100 * number for number in value))


def main() -> int:
    """Measure, and write eval/results/judges.json and .md."""
    parser = argparse.ArgumentParser(description="Ask both judges about the same pictures.")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    space, corpora, rows = EmbeddingSpace.from_pretrained(), corpora_folder(), []
    judges: list[Judge] = []
    for name, groups in ASKED.items():
        suite = load_media_suite(HERE / "suites" / f"{name}.toml")
        judges = judges or [load_judge(suite.judge), load_judge(SECOND)]
        session = open_session(suite, space, corpora, CACHE, lambda doing, done, total: print(doing, done, total))
        scorers = [bare_scorer(session, judge) for judge in judges]
        for group in suite.groups:
            if group.name in groups:
                rows += list(measured(scorers, group))
    entry = {
        **made_by("judges"),
        "corpora_splits": splits_digest(corpora),
        "generator": space.generators["image"].digest,
        "digests": [judge.digest for judge in judges],
        "second": dict(judges[1].about),
        "rows": rows,
    }
    publish(given.out, entry, lines(entry))
    return 0


if __name__ == "__main__":
    run(main)
