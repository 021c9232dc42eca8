"""Measure who speaks: search by speaker, and how well a recording is divided among its speakers.

    python -m training.corpora --only human
    python -m eval.voices                          # eval/results/voices.json and voices.md; minutes on one core
    python -m eval.voices --clips 4 --out build/voices   # a look, in seconds

People read the captions of Tux Paint's stamps, one language each; of some languages more than one person may have read,
which counts against the figures, and each language differs in words and microphones as well, which counts for them. So
voices of flite and espeak-ng that say the same English names are among the speakers. No one of them trained the
network, which was published as it is; the likeness from which two stretches are one speaker is chosen on validation
speakers (`VALIDATION`), and nothing is chosen on the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.voices.turns import join_turns
from embedspace.segment import Segment
from embedspace.space import EmbeddingSpace
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest
from training.corpora.sounds.clips import SPEECH_RATE, read_clip
from training.corpora.speech.voices import speak

__all__ = ["VALIDATION", "main"]

VALIDATION = ("be", "ca", "da", "es", "lt", "nl")
SYNTHETIC = ("flite:slt", "flite:rms", "flite:awb", "flite:kal", "espeak:en-gb-scotland+f4", "espeak:en-us+m3")
"""Speakers of the test beside the other languages' people."""
LIKENESSES = tuple(round(0.45 + 0.05 * step, 2) for step in range(8))
SHORTEST = 1.2
TURN_SECONDS, TURNS = 5.0, 4
SEED = 0
Clips = Mapping[str, list[NDArray[np.float32]]]


def _clips(count: int) -> tuple[dict[str, list[NDArray[np.float32]]], dict[str, list[NDArray[np.float32]]]]:
    """Return at most `count` recordings of each validation speaker, and of each other."""
    items: dict[str, list[Item]] = {}
    for item in read_manifest(manifest.CORPORA / "human/manifest.jsonl"):
        items.setdefault(item.language, []).append(item)
    generator = np.random.default_rng(SEED)
    people = {
        name: [read_clip(own[at], SPEECH_RATE) for at in generator.permutation(len(own))[:count]]
        for name, own in sorted(items.items())
    }
    names = [item.captions[0] for item in items["en"]]
    voices = {
        voice: [speak(names[(5 * number + at) % len(names)], voice, at) for at in range(count)]
        for number, voice in enumerate(SYNTHETIC)
    }
    validation = {name: people[name] for name in VALIDATION}
    return validation, {name: own for name, own in people.items() if name not in validation} | voices


def search(space: EmbeddingSpace, clips: Clips) -> dict[str, Any]:
    """Return how often the nearest other recording is of the same speaker, beside chance and shuffled names."""
    names = np.array([name for name, own in clips.items() for _ in own])
    rows = space.encode_voice([clip for own in clips.values() for clip in own], SPEECH_RATE)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    nearest = cosines.argmax(axis=1)
    right = names[nearest] == names
    generator = np.random.default_rng(SEED)
    mixed = generator.permutation(names)
    same = names[:, None] == names[None]
    by_speaker = {name: round(100 * float(right[names == name].mean()), 1) for name in clips}
    drawn = [
        np.mean(np.concatenate([right[names == name] for name in generator.choice(list(clips), len(clips))]))
        for _ in range(2000)
    ]
    return {
        "speakers": len(clips),
        "recordings": len(names),
        "recall_at_1": round(100 * float(right.mean()), 1),
        "interval": [round(100 * float(edge), 1) for edge in np.quantile(drawn, (0.025, 0.975))],
        "chance": round(100 * float(((same.sum(axis=1) - 1) / (len(names) - 1)).mean()), 1),
        "shuffled": round(100 * float((mixed[nearest] == mixed).mean()), 1),
        "by_speaker": by_speaker,
    }


def _conversations(
    space: EmbeddingSpace, clips: Clips, pairs: Iterable[tuple[str, str]]
) -> list[tuple[list[Segment], list[tuple[float, str]]]]:
    """Return for pairs of speakers who talk in turns the stretches with vectors, and the (end, speaker) of turns."""
    encoder = space.encoder("voice")
    made = []
    for first, second in pairs:
        waveforms, truth, at = [], [], 0.0
        taken = dict.fromkeys((first, second), 0)
        for name in itertools.islice(itertools.cycle((first, second)), TURNS):
            own: list[NDArray[np.float32]] = []
            while sum(map(len, own)) < TURN_SECONDS * SPEECH_RATE:
                own.append(clips[name][taken[name] % len(clips[name])])
                taken[name] += 1
            waveforms += own
            at += sum(map(len, own)) / SPEECH_RATE
            truth.append((at, name))
        sound = np.concatenate(waveforms)
        size = int(encoder.window_seconds * SPEECH_RATE)
        parts = [sound[start : start + size] for start in range(0, len(sound), size)]
        starts = [start / SPEECH_RATE for start in range(0, len(sound), size)]
        turns = encoder.encode_turns([encoder.prepare(part) for part in parts])
        found = [
            Segment("voice", turn.row, start + turn.start, start + turn.end)
            for start, own_turns in zip(starts, turns, strict=True)
            for turn in own_turns
        ]
        made.append((found, truth))
    return made


def _divided(segments: Sequence[Segment], truth: Sequence[tuple[float, str]]) -> tuple[float, int]:
    """Return the share of the time that the best naming of the found speakers gets wrong, and how many were found."""
    ticks = np.arange(0.0, truth[-1][0], 0.1)
    said = np.array([next(name for end, name in truth if tick < end) for tick in ticks])
    keys = list(dict.fromkeys(one.vector.tobytes() for one in segments))
    heard = np.full(len(ticks), -1)
    for one in segments:
        heard[(ticks >= (one.start or 0.0)) & (ticks < (one.end or 0.0))] = keys.index(one.vector.tobytes())
    names = sorted(set(said.tolist()))
    best = 0
    for naming in itertools.permutations([*range(len(keys)), *([-2] * len(names))][: max(len(keys), 2)], len(names)):
        best = max(
            best, int(sum(((heard == key) & (said == name)).sum() for key, name in zip(naming, names, strict=True)))
        )
    return 1.0 - best / len(ticks), len(keys)


def divide(talks: Sequence[Any], likeness: float) -> dict[str, float]:
    """Return how conversations of two are divided at a likeness."""
    found = [_divided(join_turns(segments, likeness, SHORTEST), truth) for segments, truth in talks]
    return {
        "wrong_time": round(100 * float(np.mean([wrong for wrong, _ in found])), 1),
        "speakers_found": round(float(np.mean([count for _, count in found])), 2),
        "two_found": round(100 * float(np.mean([count == 2 for _, count in found])), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=12, help="recordings of a speaker, at most")
    parser.add_argument("--out", type=Path, default=Path("eval/results"))
    given = parser.parse_args(arguments)
    space = EmbeddingSpace.from_pretrained().with_voices()
    validation, others = _clips(given.clips)
    talks = _conversations(space, validation, itertools.combinations(validation, 2))
    tests = _conversations(space, others, itertools.pairwise([*others, next(iter(others))]))
    curve = {f"{likeness:g}": divide(talks, likeness) for likeness in LIKENESSES}
    chosen = min(curve, key=lambda key: (curve[key]["wrong_time"], key))
    one = [([*segments], truth) for segments, truth in tests]
    found = {
        "commit": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "seed": SEED,
        "weights": space.fingerprints()["voice"],
        "validation": {"search": search(space, validation), "likeness": curve, "chosen": float(chosen)},
        "test": {
            "search": search(space, others),
            "turns": divide(one, float(chosen)),
            "one_speaker_for_all": divide(one, 0.0),
            "conversations": len(one),
        },
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "voices.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (given.out / "voices.md").write_text(_page(found), "utf-8")
    sys.stdout.write(_page(found))
    return 0


def _page(found: Mapping[str, Any]) -> str:
    """Return the figures as a page."""
    test, tried = found["test"], found["validation"]
    by = ", ".join(f"{name} {share:g}" for name, share in test["search"]["by_speaker"].items())
    rows = [f"| {name} | {_search_row(one['search'])} |" for name, one in (("test", test), ("validation", tried))]
    turns = [
        f"| {name} | {one['wrong_time']:g}% | {one['speakers_found']:g} | {one['two_found']:g}% |"
        for name, one in (("test", test["turns"]), ("one speaker for all", test["one_speaker_for_all"]))
    ]
    lines = [
        "# Voices",
        "",
        f"`python -m eval.voices`, commit {found['commit'][:12]}, seed {found['seed']}, voice encoder "
        f"{found['weights'][:12]}.",
        "",
        "Search by speaker: the nearest other recording is the same speaker's. Nothing was chosen on the speakers of "
        "the test. Intervals draw speakers whole. A recording is one name of a thing, mostly of one to two seconds. "
        "People differ in language, room and microphone as well; voices of flite and espeak-ng say English names.",
        "",
        "| | speakers | recordings | R@1 | chance | shuffled |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Each: {by}.",
        "",
        f"Turns: {test['conversations']} conversations of two of these speakers, {TURNS} turns of {TURN_SECONDS:g} s "
        f"or a little more. Likeness {tried['chosen']:g} was chosen on the validation speakers.",
        "",
        "| | time given to the wrong speaker | speakers found | exactly two |",
        "|---|---|---|---|",
        *turns,
    ]
    return "\n".join(lines) + "\n"


def _search_row(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    shown = f"{one['recall_at_1']:g} [{low:g}, {high:g}]"
    return f"{one['speakers']} | {one['recordings']} | {shown} | {one['chance']:g} | {one['shuffled']:g}"


if __name__ == "__main__":
    raise SystemExit(main())
