"""Measure what a reader of signs reads of How2Sign, or of any clips of points: BLEU and chrF by sacrebleu.

    embedspace train generator training/recipes/signs.toml --videos ~/how2sign --out build/runs/signs
    python -m eval.signs build/runs/signs/generator build/runs/signs/clips --split test --out signs.json

Beside the reader's words (letters, searched with its language model) stand the likeliest letters alone, the reader's
words given to other sentences (shuffled), and a random training sentence for each (chance). Intervals are over
sentences, 95%. No weights ship, so no figures do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.report import git_commit
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.words import word_errors
from embedspace.train.generators.lips.clips import LipClips, read_clips
from embedspace.train.generators.lips.run import greedy_texts
from embedspace.train.generators.lips.scores import TextScores, shuffled

SEED = 0
_RESAMPLES = 200
_NAMES = {"read": "words", "letters_alone": "letters alone", "shuffled": "words, shuffled", "chance": "chance"}


def measure(reader: LipReader, clips: LipClips, training: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a reader on clips of points, beside the control and chance.

    Args:
        reader: Of points.
        clips: What it is measured on.
        training: Texts of the training clips.

    Raises:
        ConfigError: If the clips are none, or are not points of as many places as the reader takes.
    """
    if len(clips) < 2:
        raise ConfigError(f"{len(clips)} sentences: a control wants two at least; name a split that has more")
    batches = [clips.batch([place]) for place in range(len(clips))]
    said, wanted = clips.texts, 2 * reader.network.config.points
    if batches[0].seen.ndim != 3 or batches[0].seen.shape[2] != wanted:
        raise ConfigError(f"clips of shape {tuple(batches[0].seen.shape[1:])}: the reader takes (frames, {wanted})")
    read = [reader.read_points(batch.seen[0].numpy()).text for batch in batches]
    rng = np.random.default_rng(SEED)
    rows = {
        "read": read,
        "letters_alone": [greedy_texts(reader.network, batch)[0] for batch in batches],
        "shuffled": shuffled(read, SEED),
        "chance": [training[int(k)] for k in rng.integers(0, len(training), len(said))],
    }
    scores = TextScores()
    found = {name: _row(scores, said, texts) for name, texts in rows.items()}
    examples = [{"said": said[k], "read": read[k]} for k in range(0, len(said), max(1, len(said) // 10))]
    return {"sentences": len(said), "signatures": scores.signatures, "scores": found, "examples": examples}


def _row(scores: TextScores, said: Sequence[str], read: Sequence[str]) -> dict[str, Any]:
    """Return the scores of texts with their intervals, and the word error rate in percent."""
    rng = np.random.default_rng(SEED)
    drawn = [rng.integers(0, len(said), len(said)) for _ in range(_RESAMPLES)]
    again = [scores.of([said[k] for k in one], [read[k] for k in one]) for one in drawn]
    wrong, words = word_errors(said, read)
    row: dict[str, Any] = {"wer": round(100 * wrong / max(words, 1), 1)}
    for name, score in scores.of(said, read).items():
        low, high = np.percentile([one[name] for one in again], [2.5, 97.5])
        row[name] = {"score": round(score, 2), "interval": [round(float(low), 2), round(float(high), 2)]}
    return row


def _page(found: dict[str, Any]) -> str:
    lines = [
        f"{found['sentences']} sentences of the {found['split']} split",
        "",
        "| | BLEU | chrF | WER |",
        "|---|---|---|---|",
    ]
    for name, title in _NAMES.items():
        row = found["scores"][name]
        cells = [
            f"{row[k]['score']:g} [{row[k]['interval'][0]:g}, {row[k]['interval'][1]:g}]" for k in ("bleu", "chrf")
        ]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {row['wer']:g} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("reader", type=Path, help="folder that the training wrote")
    parser.add_argument("clips", type=Path, help="folder of clips, which the training wrote beside it")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--out", type=Path, help="also write all of it there, as JSON")
    given = parser.parse_args(arguments)
    try:
        reader, splits = LipReader.from_pretrained(given.reader), read_clips(given.clips)
        if given.split not in splits:
            raise ConfigError(f"{given.clips}: has no clips of the {given.split} split; name another --split")
        found = measure(reader, splits[given.split], splits["train"].texts)
    except EmbedspaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = {
        "commit": git_commit(), "seed": SEED, "weights": reader.digest, "trained_on": reader.about,
        "split": given.split,
        "split_hash": hashlib.sha256("\n".join(splits[given.split].texts).encode()).hexdigest(),
    }  # fmt: skip
    found = {**about, **found}
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    sys.stdout.write(_page(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
