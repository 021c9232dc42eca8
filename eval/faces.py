"""Measure faces made from voices: gender, and adult or child, of voices never trained on, as a judge sees them.

    python -m training.faces && python -m training.judges.faces       # voices, pictures, the judge
    python -m eval.faces                                 # eval/results/faces.{json,md,png}; minutes of a core
    python -m eval.faces --weights build/runs/generators/faces/generator --split val --out build/faces-val

Each utterance has a face. The judge learnt from pictures of vendors that the generator never saw; what it gets right of
real faces of the generator's vendors stands beside. "Probe" is a linear reading of the voice alone, trained on the
voices that the generator was: what a face can tell at best. Where the figures say child, the voice mostly is an adult's
that was moved (`training.faces.children`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.errors import ConfigError
from embedspace.generate.faces import FaceMaker
from embedspace.train.generators.faces.voices import FileVoices
from eval.writing import made_by, publish, run
from training.judges.faces import AXES, DATA, FaceJudge, load

SEED = 0
ASK = {"gender": (85, 95), "age": (80, 90)}
_RESAMPLES = 1000
_SHOWN = 12
_LISTING = "voices.jsonl"
_FACES = 32
"""Drawn together."""

Verdicts = dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class _Asked:
    """The utterances of a split.

    Attributes:
        rows: Their facts.
        voices: (N, 256) unit rows.
    """

    rows: list[dict[str, Any]]
    voices: NDArray[np.float32]

    def fact(self, name: str) -> NDArray[np.str_]:
        """Return one fact of all."""
        return np.array([row[name] for row in self.rows])


def _read(split: str, voices: FileVoices, limit: int | None = None) -> _Asked:
    path = DATA / _LISTING
    if not path.exists():
        raise ConfigError(f"{path}: build it first: python -m training.faces")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["split"] == split]
    rows = rows[:: max(1, len(rows) // limit)] if limit else rows
    return _Asked(rows, np.stack([voices.of(DATA / row["speech"]) for row in rows]))


def draw(maker: FaceMaker, voices: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Return a face for each voice, the nth with the nth seed."""
    conditions = torch.stack([maker.condition(voice) for voice in voices])
    faces: list[NDArray[np.uint8]] = []
    for first in range(0, len(voices), _FACES):
        part = conditions[first : first + _FACES]
        noise = [torch.Generator().manual_seed(SEED + first + k) for k in range(len(part))]
        faces += maker.pictures(maker.latents(part, noise))
    return faces


def probe(taught: _Asked, asked: _Asked, axis: str) -> NDArray[np.bool_]:
    """Return (N,) whether a linear reading of the voice says the second value of an axis; ridge, both values alike."""
    known = taught.fact(axis) != ""
    rows, high = taught.voices[known], taught.fact(axis)[known] == AXES[axis][1]
    weight = np.where(high, 0.5 / high.sum(), 0.5 / (~high).sum())
    middle = (weight[:, None] * rows).sum(axis=0)
    spread = rows - middle
    covariance = (weight[:, None] * spread).T @ spread + 1e-4 * np.eye(rows.shape[1])
    direction = np.linalg.solve(covariance, (weight * np.where(high, 1.0, -1.0)) @ spread)
    told: NDArray[np.bool_] = (asked.voices - middle) @ direction > 0
    return told


def accuracy(said: NDArray[np.bool_], high: NDArray[np.bool_], speakers: NDArray[np.str_]) -> dict[str, Any]:
    """Return the mean of the accuracies of both values in percent, its interval over speakers, and each of them."""
    right = said == high
    names = np.unique(speakers)
    sums = np.array(
        [[[right[own].sum(), own.sum()] for own in ((speakers == name) & (high == value) for value in (False, True))]
         for name in names],
        float,
    )  # fmt: skip

    def balanced(drawn: NDArray[np.float64]) -> float:
        total = drawn.sum(axis=0)
        return float(np.mean([hits / count for hits, count in total if count]))

    generator = np.random.default_rng(SEED)
    resampled = [balanced(sums[generator.integers(len(names), size=len(names))]) for _ in range(_RESAMPLES)]
    edges = np.quantile(resampled, (0.025, 0.975))
    return {
        "utterances": len(right),
        "speakers": len(names),
        "accuracy": round(100 * balanced(sums), 1),
        "interval": [round(100 * float(edge), 1) for edge in edges],
        "each": [round(100 * float(right[high == value].mean()), 1) if (high == value).any() else None
                 for value in (False, True)],
    }  # fmt: skip


def groups(asked: _Asked) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """Return name -> axis, and which utterances it is measured on; the first of an axis is the one that was asked."""
    how, age, gender = asked.fact("how"), asked.fact("age"), asked.fact("gender")
    own = np.isin(how, ("real", "synthetic"))
    adults, known = age == "adult", gender != ""
    return {
        "gender, adults": ("gender", adults & own & known),
        "gender, people alone": ("gender", adults & (how == "real") & known),
        "gender, synthetic voices alone": ("gender", adults & (how == "synthetic") & known),
        "gender, adults moved to other adults": ("gender", (how == "moved adult") & known),
        "gender, children made of adults": ("gender", (how == "made child") & known),
        "adult or child": ("age", np.ones(len(age), bool)),
        "adult or child, people and the children made of them": ("age", _of_people(asked)),
        "adult or child, moved voices alone": ("age", ~own),
        "child, real children": ("age", own & (age == "child")),
    }


def _of_people(asked: _Asked) -> NDArray[np.bool_]:
    return np.array([row["voice"].startswith("human:") for row in asked.rows])


def measure(
    maker: FaceMaker, judge: FaceJudge, taught: _Asked, asked: _Asked
) -> tuple[dict[str, Any], list[NDArray[np.uint8]], Verdicts]:
    """Return the figures, the faces, and what the judge says of them."""
    faces = draw(maker, asked.voices)
    verdicts = {axis: scores > 0 for axis, scores in judge.scores(faces).items()}
    speakers = asked.fact("voice")
    found: dict[str, Any] = {}
    other = np.random.default_rng(SEED).permutation(len(asked.rows))
    for name, (axis, mask) in groups(asked).items():
        if not mask.any():
            continue
        high = asked.fact(axis)[mask] == AXES[axis][1]
        told = probe(taught, asked, axis)[mask]
        found[name] = {
            "axis": axis,
            "faces": accuracy(verdicts[axis][mask], high, speakers[mask]),
            "shuffled": accuracy(verdicts[axis][other][mask], high, speakers[mask])["accuracy"],
            "probe": accuracy(told, high, speakers[mask]),
        }
    return found, faces, verdicts


def sheet(asked: _Asked, faces: Sequence[NDArray[np.uint8]], verdicts: Verdicts) -> Image.Image:
    """Return faces of each kind of voice, one a speaker where there are as many, with what the judge says."""
    how = asked.fact("how")
    kinds = [
        (f"{gender} {age}, {name}", (asked.fact("gender") == gender) & (asked.fact("age") == age) & (how == name))
        for name in ("real", "synthetic", "moved adult", "made child")
        for age, gender in (
            ("adult", "female"),
            ("adult", "male"),
            ("child", "female"),
            ("child", "male"),
            ("child", ""),
        )
    ]
    kinds = [(name, mask) for name, mask in kinds if mask.any()]
    cell, line = 96, 13
    picture = Image.new("RGB", (_SHOWN * cell, len(kinds) * (cell + 3 * line)), "white")
    pen = ImageDraw.Draw(picture)
    for number, (name, mask) in enumerate(kinds):
        top = number * (cell + 3 * line)
        pen.text((2, top), f"voices: {name}; below each face the voice and what the judge sees", fill="black")
        for place, row in enumerate(_spread(np.flatnonzero(mask), asked.fact("voice"))[:_SHOWN]):
            picture.paste(Image.fromarray(faces[row]), (place * cell, top + line))
            said = " ".join(AXES[axis][int(verdicts[axis][row])] for axis in AXES)
            pen.text(
                (place * cell + 2, top + line + cell), asked.rows[row]["voice"].split(":", 1)[-1][-15:], fill="gray"
            )
            pen.text((place * cell + 2, top + 2 * line + cell), said, fill="black")
    return picture


def _spread(rows: NDArray[np.int64], speakers: NDArray[np.str_]) -> list[int]:
    """Return rows so that each speaker comes once before any comes twice."""
    turns: dict[str, int] = {}
    keyed = []
    for row in rows.tolist():
        turns[speakers[row]] = turns.get(speakers[row], 0) + 1
        keyed.append((turns[speakers[row]], row))
    return [row for _, row in sorted(keyed)]


def _page(found: Mapping[str, Any]) -> list[str]:
    about = found["judge"]
    lines = [
        "# Faces from voices", "",
        f"`{found['command']}`, commit {found['commit']}, weights {found['weights'][:12]}, "
        f"judge {about['digest'][:12]}, voices {found['voices'][:12]}, seed {found['seed']}. "
        f"Trained on: {found['trained_on']}", "",
        f"Voices of the split {found['split']}. A face a voice, seen by a judge that knows other vendors' emoji alone. "
        "Accuracy is the mean of those of both values, in percent, so that chance is 50; intervals are over speakers. "
        "Shuffled: another voice's face. Probe: a linear reading of the voice itself.", "",
        "| what | voices | utterances | faces | each | shuffled | chance | probe | asked / stretch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    first: set[str] = set()
    for name, one in found["figures"].items():
        wanted = " / ".join(map(str, ASK[one["axis"]])) if one["axis"] not in first else ""
        first.add(one["axis"])
        faces, told = one["faces"], one["probe"]
        each = ", ".join(
            f"{value} {share:g}" for value, share in zip(AXES[one["axis"]], faces["each"], strict=True)
            if share is not None
        )  # fmt: skip
        lines.append(
            f"| {name} | {faces['speakers']} | {faces['utterances']} | {_cell(faces)} | {each} "
            f"| {one['shuffled']:g} | 50 | {_cell(told)} | {wanted} |"
        )
    lines += [
        "",
        f"The judge itself, on {about['accuracy']['pictures']} real faces of the generator's vendors, which it never "
        f"saw: {_judged(about['accuracy'])}. The same faces as the decoder draws them: "
        f"{_judged(about['accuracy_decoded'])}. "
        "What it gets wrong there it may get wrong of made faces, too.", "",
        "Children are adults' voices moved in pitch and formants, in another way than in training; adults moved by "
        "factors near 1 go the same way. Real children are two speakers: Festival's voice krb, and pupils who read in "
        "Portuguese. Girls and boys are made of women and men, and what the voice keeps of them is all that can be "
        "told.",
    ]  # fmt: skip
    return lines


def _judged(found: Mapping[str, Any]) -> str:
    """Return the judge's accuracy on both axes, and by vendor."""
    by = {axis: [f"{name} {share:g}" for name, share in found[axis].items() if name != "all"] for axis in AXES}
    return "; ".join(f"{axis} {found[axis]['all']:g} ({', '.join(by[axis])})" for axis in AXES)


def _cell(one: Mapping[str, Any]) -> str:
    return f"{one['accuracy']:g} [{one['interval'][0]:g}, {one['interval'][1]:g}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="folder of what makes faces; what ships by default")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--limit", type=int, help="so many utterances only")
    parser.add_argument("--out", type=Path, default=Path("eval/results"))
    given = parser.parse_args(arguments)
    maker, judge = FaceMaker.from_pretrained(given.weights), load()
    voices = FileVoices(DATA / "voices.npz")
    taught, asked = _read("train", voices), _read(given.split, voices, given.limit)
    voices.save()
    figures, faces, verdicts = measure(maker, judge, taught, asked)
    listed = "\n".join(f"{row['speech']} {row['gender']} {row['age']}" for row in asked.rows)
    entry = {
        **made_by("faces"), "seed": SEED, "split": given.split, "weights": maker.digest, "trained_on": maker.about,
        "voices": hashlib.sha256(listed.encode()).hexdigest(),
        "judge": {
            "digest": judge.digest,
            **{name: judge.about[name] for name in ("accuracy", "accuracy_decoded", "vendors")},
        },
        "figures": figures,
    }  # fmt: skip
    publish(given.out, entry, _page(entry), sheet(asked, faces, verdicts))
    return 0


if __name__ == "__main__":
    run(main)
