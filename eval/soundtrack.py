"""Measure soundtracks: do sounds fall where something strikes, and are they of what strikes?

    python -m eval.soundtrack                       # when, on the test clips: minutes of a core; results/soundtrack.*
    python -m eval.soundtrack --known               # and what, on those of things that the judge of sounds knows
    python -m eval.soundtrack --split val --clips 40 --out build/soundtrack       # where settings are tried

The clips are rendered (`python -m training.corpora --only rendered`): a stamp moves, and its impacts are known. Test
clips have stamps, sounds and kinds of motion that no setting was chosen on. A sound counts as right within 0.1 s of an
impact, each impact once. Beside that stand the impacts of other clips (shuffled) and as many times drawn evenly
(chance). What is heard is judged by `training.judges.sounds`, among the fifty concepts that it knows, on clips of
things that are among them; and by what the sound that was chosen is called. What the clips' own sounds are by that
judge stands beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.encoders.film.moving import SIDE
from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.generation.judges import Judge, load_judge
from embedspace.evaluate.intervals import bootstrap, cluster_codes, interval_of
from embedspace.evaluate.items import read_rows
from embedspace.evaluate.retrieval.run import corpora_folder
from embedspace.generate.soundtrack import SoundBank, watch
from embedspace.generate.soundtrack.impacts import iter_impacts
from embedspace.generate.soundtrack.movement import iter_movement
from embedspace.generate.soundtrack.sounds import GallerySounds, sound_of_views
from embedspace.generate.soundtrack.watching import FRAMES_PER_SECOND
from embedspace.media.film import Film, iter_moments
from embedspace.space import EmbeddingSpace
from eval.soundtrack_named import NEAR, Clip, named
from eval.writing import made_by, publish, run

HERE = Path(__file__).parent
_SHIFTS = 20
"""Other clips that each clip is compared with, and draws of chance."""
_JUDGE = "training.judges.sounds:load"
_BOUNDS = {
    "right_name": "What the judge can say at most: of the sound that ships for the right name (none is wrong)",
    "own_whole": "of the clips' own recordings, whole",
    "own_as_heard": "of the half second of them that is heard in the clips",
}
_SHOWN = 6
_FIRST = 96
"""Test clips that were measured before the settings were changed."""
_WIDE, _FRAME, _CURVE = 960, 72, 70


def matched(found: Sequence[float], truth: Sequence[float]) -> int:
    """Return how many times of two ascending lists belong together, each once, within `NEAR`."""
    a = b = count = 0
    while a < len(found) and b < len(truth):
        if abs(found[a] - truth[b]) <= NEAR:
            a, b, count = a + 1, b + 1, count + 1
        elif found[a] < truth[b]:
            a += 1
        else:
            b += 1
    return count


def f1(counts: NDArray[np.float64], clusters: Sequence[str]) -> list[float]:
    """Return F1 of (N, 3) counts (right, found, true), and its 95% interval over clusters."""
    codes = cluster_codes(clusters)
    drawn = bootstrap(np.stack([2 * counts[:, 0], counts[:, 1] + counts[:, 2]], axis=1), clusters=codes)
    total = counts.sum(axis=0)
    low, high = interval_of(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-9))
    return [round(float(v), 4) for v in (2 * total[0] / max(total[1] + total[2], 1e-9), low, high)]


def onsets(clips: Sequence[Clip]) -> dict[str, Any]:
    """Return F1, precision and recall, those of shuffled clips and of chance."""
    names = [str(clip.row["concept"]) for clip in clips]
    own = np.array([[matched(c.times, c.truth), len(c.times), len(c.truth)] for c in clips], np.float64)
    right, found, true = own.sum(axis=0)
    rng = np.random.default_rng(0)
    shuffled, drawn = np.zeros_like(own), np.zeros_like(own)
    for shift in range(1, _SHIFTS + 1):
        for k, clip in enumerate(clips):
            other = clips[(k + shift) % len(clips)].truth
            shuffled[k] += [matched(clip.times, other), len(clip.times), len(other)]
            times = sorted(rng.uniform(0, clip.row["extra"]["seconds"], len(clip.times)).tolist())
            drawn[k] += [matched(times, clip.truth), len(times), len(clip.truth)]
    return {
        "clips": len(clips),
        "impacts": int(true),
        "f1": f1(own, names),
        "precision": round(float(right / max(found, 1)), 4),
        "recall": round(float(right / max(true, 1)), 4),
        "shuffled": f1(shuffled, names),
        "chance": f1(drawn, names),
    }


def strip(clip: Clip, corpora: Path) -> Image.Image:
    """Draw a clip: frames, strength of impacts over time, peaks that were chosen (blue) and true impacts (red)."""
    picture = Image.new("RGB", (_WIDE, _FRAME + _CURVE + 18), (255, 255, 255))
    pen, seconds = ImageDraw.Draw(picture), float(clip.row["extra"]["seconds"])
    pen.text((2, 2), f"{clip.row['id']}: {clip.row['concept']}, {clip.row['extra']['motion']}", fill=(0, 0, 0))
    frames = [m.image for m in iter_moments(corpora / clip.row["path"], Film(), per_second=10 / seconds) if m.image]
    for k, frame in enumerate(frames[:10]):
        picture.paste(frame.resize((_WIDE // 10 - 2, _FRAME)), (k * _WIDE // 10, 16))
    base = _FRAME + _CURVE + 16
    for values, colour in ((clip.curve[:, 1], (190, 190, 190)), (clip.curve[:, 2], (60, 60, 60))):
        high = max(float(values.max(initial=0)), 1e-9)
        points = zip(clip.curve[:, 0] / seconds * _WIDE, base - values / high * (_CURVE - 8), strict=True)
        pen.line([(float(x), float(y)) for x, y in points], fill=colour, width=2)
    for k, at in enumerate(clip.times):
        x = at / seconds * _WIDE
        pen.line([(x, base - _CURVE), (x, base)], fill=(40, 90, 220), width=2)
        if clip.sounds:
            pen.text((x + 3, base - _CURVE), clip.sounds[k].name[:18], fill=(40, 90, 220))
    for at in clip.truth:
        pen.line([(at / seconds * _WIDE, base - 14), (at / seconds * _WIDE, base)], fill=(220, 40, 40), width=4)
    return picture


def measured(rows: Sequence[dict[str, Any]], look: Callable[[dict[str, Any]], Clip]) -> tuple[list[Clip], float]:
    """Return the clips, and the processor seconds that a second of film took."""
    clips, began = [], time.process_time()
    for number, row in enumerate(rows):
        try:
            clips.append(look(row))
        except EmbedspaceError as error:
            print(f"{row['id']}: {error}", flush=True)
            clips.append(Clip(row, [], np.zeros((0, 3)), []))
        if number % 16 == 15:
            print(f"{number + 1} of {len(rows)} clips", flush=True)
    spent = time.process_time() - began
    return clips, spent / sum(float(row["extra"]["seconds"]) for row in rows)


def timed(row: dict[str, Any], corpora: Path) -> Clip:
    """Return a clip with when something strikes in it."""
    moments = iter_moments(corpora / row["path"], Film(), per_second=FRAMES_PER_SECOND, side=SIDE)
    found = list(iter_impacts(iter_movement(moments)))
    curve = np.array([(m.time, m.energy, m.strength) for m, _ in found], np.float64).reshape(-1, 3)
    return Clip(row, [impact.time for _, impact in found if impact], curve, [])


def heard(row: dict[str, Any], corpora: Path, space: EmbeddingSpace, bank: SoundBank) -> Clip:
    """Return a clip with what is heard in it, and when."""
    seen = watch(corpora / row["path"], space)
    sounds = [sound_of_views(bank, views, 0) for views in seen.looks]
    curve = np.stack([seen.times, seen.energies, seen.strengths], axis=1)
    return Clip(row, [one.time for one in seen.strikes], curve, [sounds[one.look] for one in seen.strikes])


def lines(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield f"# {entry['name']}\n\n{entry['description']}\n"
    yield (
        f"`{entry['command']}`; commit {entry['commit'][:12]}, {entry['date']}, seed 0, split hash "
        f"{entry['split_hash'][:12]}, encoder of pictures {entry['encoder'][:12]}, generator "
        f"{entry['generator'][:12]}, judge {entry['judge'][:12] or 'none'}. 95% intervals over concepts.\n"
    )
    yield f"| clips | number | impacts | F1 within {NEAR} s | precision | recall | shuffled | chance |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in entry["onsets"].items():
        yield (
            f"| {name} | {row['clips']} | {row['impacts']} | {_range(row['f1'])} | {row['precision']:.2f} | "
            f"{row['recall']:.2f} | {row['shuffled'][0]:.2f} | {row['chance'][0]:.2f} |"
        )
    if "first" in entry:
        yield (
            f"\nA second look: the first {entry['first']} of the test clips were measured before, and so were "
            f"{entry['known']} of the others, which show what the judge knows. Settings were changed since, in sight "
            "of what those showed (steps were missed), and chosen on other clips: see training/LOG.md. What is new to "
            "all of it stands by itself."
        )
    yield from _told(entry)
    included = ", sounds included" if entry["named"] else ""
    yield (
        f"\nA second of film took {entry['cost']:.2f} s of one core's time{included}, on frames of 160 x 120.\n"
        "\nLight: movement; dark: strength of impacts; blue: sounds and their names; red: true impacts.\n\n"
        f"![strips]({entry['name']}.png)"
    )


def _told(entry: dict[str, Any]) -> Iterator[str]:
    told = entry["named"]
    if not told:
        return
    yield (
        f"\nOf the clips, {told['clips']} show one of the fifty things that the judge knows ({told['concepts']} of "
        f"them); {told['events']} of their sounds fall where they should."
    )
    for key, what in (("by_name", "bear its name"), ("by_judge", "are it by the judge, among fifty")):
        if key in told:
            shuffled = f"{100 * told['shuffled_' + key][0]:.0f}%"
            yield f"Of these {_range(told[key], 100)}% {what}; of another clip's thing {shuffled}."
    for key, what in _BOUNDS.items():
        if key in told:
            yield f"{what}: {_range(told[key], 100)}%."
    for concept, names in told["heard"].items():
        yield f"\n{concept}: " + ", ".join(f"{name} {count}" for name, count in names.items())
    if not entry["judge"]:
        yield "The judge was not trained where this was measured."


def _range(values: Sequence[float], by: float = 1.0) -> str:
    digits = 0 if by > 1 else 2
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*(by * value for value in values), d=digits)


def main() -> int:
    """Measure, and write soundtrack.json, .md and .png."""
    parser = argparse.ArgumentParser(description="Measure soundtracks of rendered clips.")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--clips", type=int, help="so many of them; all by default")
    parser.add_argument("--known", action="store_true", help="those alone that show what the judge knows")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    corpora, space = corpora_folder(), EmbeddingSpace.from_pretrained()
    rows = [dict(row) for row in read_rows(corpora, "rendered") if row["split"] == arguments.split][: arguments.clips]
    from training.judges.sounds import CONCEPTS

    fresh = {row["id"] for row in rows[_FIRST:]}
    new = {row["id"] for row in rows[_FIRST:] if row["concept"] not in CONCEPTS}
    judge: Judge | None = None
    if arguments.known:
        rows = [row for row in rows if row["concept"] in CONCEPTS]
        judge, bank = _judge(), GallerySounds(space)
        clips, cost = measured(rows, lambda row: heard(row, corpora, space, bank))
    else:
        clips, cost = measured(rows, lambda row: timed(row, corpora))
    groups = {"all": clips}
    groups |= {kind: [c for c in clips if c.row["extra"]["motion"] == kind] for kind in _kinds(clips)}
    for what, moves in (("moves", True), ("still", False)):
        groups[f"camera {what}"] = [clip for clip in clips if clip.row["extra"]["camera"] == moves]
    if arguments.split == "test" and not arguments.known:
        groups[f"first {_FIRST}"] = clips[:_FIRST]
        groups["the others"] = [clip for clip in clips if clip.row["id"] in fresh]
        groups["of these, new to all"] = [clip for clip in clips if clip.row["id"] in new]
    entry = {
        **made_by("soundtrack"),
        "name": "soundtrack_known" if arguments.known else "soundtrack",
        "description": f"{'Sounds made for' if arguments.known else 'When something strikes in'} the {len(rows)} "
        f"rendered clips of the split {arguments.split}, silent: stamps that move by the rules of "
        "training/corpora/video/motions.py. Rendered clips are not film.",
        **({"first": _FIRST, "known": len(fresh - new)} if arguments.split == "test" and not arguments.known else {}),
        "split_hash": hashlib.sha256(json.dumps([[r["id"], r["extra"]["events"]] for r in rows]).encode()).hexdigest(),
        "encoder": space.fingerprints()["image"],
        "generator": space.generators["audio"].digest,
        "judge": judge.digest if judge is not None else "",
        "onsets": {name: onsets(own) for name, own in groups.items() if own},
        "named": named(clips, judge, CONCEPTS, space.generators["audio"]) if arguments.known else {},
        "cost": round(cost, 3),
    }
    publish(arguments.out, entry, lines(entry), _sheet(clips, corpora))
    return 0


def _judge() -> Judge | None:
    try:
        return load_judge(_JUDGE)
    except ConfigError as error:
        print(f"without the judge: {error}")
        return None


def _kinds(clips: Sequence[Clip]) -> list[str]:
    return sorted({str(clip.row["extra"]["motion"]) for clip in clips})


def _sheet(clips: Sequence[Clip], corpora: Path) -> Image.Image:
    """Return some clips, evenly drawn, below each other."""
    strips = [strip(clip, corpora) for clip in clips[:: max(1, len(clips) // _SHOWN)][:_SHOWN]]
    sheet = Image.new("RGB", (_WIDE, sum(one.height + 6 for one in strips)), (255, 255, 255))
    top = 0
    for one in strips:
        sheet.paste(one, (0, top))
        top += one.height + 6
    return sheet


if __name__ == "__main__":
    run(main)
