"""Measure lip reading on drawn faces: words of unseen people, sentences and accents; captions among 281.

    python -m training.corpora.video.talking        # renders the films
    python -m eval.lips                             # eval/results/lips.json, .md, .png; minutes of one core
    python -m eval.lips --tune                      # the weights of the language model, on the validation clips

Every film goes the way of a user's: decoded, the mouth found and followed, letters, words. Word errors stand beside
those of the film of another sentence (shuffled) and of a random sentence of the grammar (chance). The films are drawn:
no figure says how real lips are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.errors import ConfigError, EmbedspaceError
from embedspace.evaluate.generation.measures.clusters import clustered_mean, clustered_ratio
from embedspace.evaluate.report import git_commit
from embedspace.generate.lips import LipReader
from embedspace.generate.lips.decoding import BeamSettings, fits_of, read_words
from embedspace.generate.lips.mouths import iter_mouths
from embedspace.generate.lips.words import word_errors
from embedspace.media.film import Film
from embedspace.media.write import write_image
from embedspace.train.generators.lips.clips import read_clips
from training.corpora import manifest
from training.corpora.video.talking import SOURCE, grid_sentence, test_captions

RESULTS = Path("eval/results")
ASK = {"wer": 15.0, "recall_at_10": 40.0}
SEED = 0
_SHOWN = 8
_TUNED = 60
"""Validation clips that settings are chosen on."""


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """A film, its letters and words."""

    row: dict[str, Any]
    crops: NDArray[np.uint8]
    letters: NDArray[np.float32]
    text: str
    greedy: str

    @property
    def said(self) -> str:
        """What is said."""
        return str(self.row["extra"]["said"])

    @property
    def kind(self) -> str:
        """grid, caption or person."""
        return str(self.row["extra"]["kind"])


def read_films(reader: LipReader, limit: int | None = None) -> tuple[list[_Read], list[str], float]:
    """Return the films of the test with their words, those that could not be read, and seconds of film per second."""
    path = manifest.CORPORA / SOURCE / "manifest.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: render it first: python -m training.corpora.video.talking")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if limit is not None:
        rows = rows[:: max(1, len(rows) // limit)]
    found, failed, started, seconds = [], [], time.perf_counter(), 0.0
    for row in rows:
        seconds += row["extra"]["seconds"]
        try:
            crops = np.concatenate(list(iter_mouths(manifest.CORPORA / row["path"], Film())))
        except EmbedspaceError as error:
            failed.append(str(error))
            crops = np.zeros((25, 32, 32), np.uint8)  # counts as nothing read
        letters = reader.letters(crops)
        text = read_words(letters, reader.words, reader.settings)[0] if crops.any() else ""
        found.append(_Read(row, crops, letters, text, read_words(letters, None)[0] if crops.any() else ""))
    return found, failed, seconds / (time.perf_counter() - started)


def wer(said: Sequence[str], read: Sequence[str], clusters: Sequence[str]) -> dict[str, Any]:
    """Return the word error rate in percent with its interval over clusters."""
    pairs = [word_errors([a], [b]) for a, b in zip(said, read, strict=True)]
    rate = clustered_ratio([float(wrong) for wrong, _ in pairs], [float(n) for _, n in pairs], clusters)
    assert rate is not None
    return {"wer": round(100 * rate[0], 1), "interval": [round(100 * edge, 1) for edge in rate[1:]]}


def sentences(films: Sequence[_Read]) -> dict[str, Any]:
    """Return the word errors on the sentences of the grammar, by accent and by place, beside shuffled and chance."""
    grid = [film for film in films if film.kind == "grid"]
    said = [film.said for film in grid]
    read = [film.text for film in grid]
    rng = np.random.default_rng(SEED)
    chance = [grid_sentence(rng, "train") for _ in grid]
    names = ("command", "colour", "preposition", "letter", "digit", "adverb")
    split = [(a.split(), b.split()) for a, b in zip(said, read, strict=True) if len(b.split()) == len(names)]
    right = (
        {name: round(100 * np.mean([a[k] == b[k] for a, b in split]), 1) for k, name in enumerate(names)}
        if split
        else {}
    )
    return {
        "films": len(grid),
        "all": wer(said, read, said),
        "letters_alone": wer(said, [film.greedy for film in grid], said),
        "shuffled": wer(said, [*read[1:], read[0]], said),
        "chance": wer(said, chance, said),
        "by_accent": {
            voice: wer(*zip(*[(f.said, f.text, f.said) for f in grid if f.row["speaker"] == voice], strict=True))
            for voice in sorted({film.row["speaker"] for film in grid})
        },
        "right_by_place": {name: round(share, 1) for name, share in right.items()},
        "of_six_words": len(split),
    }


def captions(films: Sequence[_Read], kind: str) -> dict[str, Any]:
    """Return how often the caption that is said is among the ten that fit best, of the whole gallery."""
    gallery = test_captions()
    queries = [film for film in films if film.kind == kind]
    ranks, shuffled = [], []
    for number, film in enumerate(queries):
        fits = fits_of(film.letters, gallery)
        other = queries[(number + 1) % len(queries)].said
        for said, ranked in ((film.said, ranks), (other, shuffled)):
            ranked.append(int((fits >= fits[gallery.index(said)]).sum()))  # ties count against it
    hits = np.array(ranks) <= 10
    middle, low, high = clustered_mean(hits.astype(float), [film.said for film in queries])
    return {
        "films": len(queries),
        "gallery": len(gallery),
        "recall_at_10": round(100 * middle, 1),
        "interval": [round(100 * low, 1), round(100 * high, 1)],
        "recall_at_1": round(100 * float((np.array(ranks) == 1).mean()), 1),
        "median_rank": float(np.median(ranks)),
        "shuffled": round(100 * float((np.array(shuffled) <= 10).mean()), 1),
        "chance": round(1000 / len(gallery), 1),
    }


def tune(reader: LipReader) -> dict[str, float]:
    """Return the word error rate of validation clips at weights of the language model; the test takes no part."""
    clips = read_clips(manifest.CORPORA / SOURCE / "clips")["val"]
    places = range(0, len(clips), max(1, len(clips) // _TUNED))
    crops = [clips.batch([k]) for k in places]
    letters = [reader.letters((one.seen[0].numpy() * 255).astype(np.uint8)) for one in crops]
    out = {}
    for language in (0.4, 0.8, 1.2):
        for word in (0.0, 1.5):
            settings = BeamSettings(language=language, word=word)
            read = [read_words(one, reader.words, settings)[0] for one in letters]
            wrong, words = word_errors([clips.texts[k] for k in places], read)
            out[f"language {language:g} word {word:g}"] = round(100 * wrong / words, 1)
            print(f"language {language:g} word {word:g}: {out[f'language {language:g} word {word:g}']}", flush=True)
    return out


def sheet(films: Sequence[_Read]) -> Image.Image:
    """Return a strip of mouths for some films of each kind, with what is said and what was read."""
    shown = [film for kind in ("grid", "caption", "person") for film in [f for f in films if f.kind == kind][:_SHOWN]]
    cell, line = 48, 14
    picture = Image.new("RGB", (16 * cell, len(shown) * (cell + line + 4)), "white")
    pen = ImageDraw.Draw(picture)
    for number, film in enumerate(shown):
        top = number * (cell + line + 4)
        pen.text((2, top), f"{film.kind}, {film.row['speaker']}: said {film.said!r}, read {film.text!r}", fill="black")
        for k, at in enumerate(np.linspace(0, len(film.crops) - 1, 16).astype(int)):
            picture.paste(Image.fromarray(film.crops[at]).resize((cell, cell)), (k * cell, top + line))
    return picture


def _page(found: dict[str, Any]) -> str:
    grid, by_kind = found["sentences"], found["captions"]

    def cell(one: dict[str, Any]) -> str:
        return f"{one['wer']:g} [{one['interval'][0]:g}, {one['interval'][1]:g}]"

    lines = [
        "# Lips", "",
        f"`python -m eval.lips`, commit {found['commit']}, weights {found['weights'][:12]}, "
        f"films {found['films'][:12]}, seed {found['seed']}. Trained on: {found['trained_on']}", "",
        "Drawn faces only: nothing here says how real lips are read. People, sentences and accents of the test were "
        "neither seen nor heard in training or in choosing settings.",
        "",
        f"Sentences of GRID's grammar, {grid['films']} films, word error rate in percent (asked: {ASK['wer']:g}):",
        "",
        "| all | without language model | film of another sentence | random sentence |",
        "|---|---|---|---|",
        "| " + " | ".join(cell(grid[name]) for name in ("all", "letters_alone", "shuffled", "chance")) + " |", "",
        "By accent: " + ", ".join(f"{name} {cell(one)}" for name, one in grid["by_accent"].items()) + ".", "",
        f"Right words by place, of {grid['of_six_words']} films read as six words: "
        + ", ".join(f"{name} {share:g}" for name, share in grid["right_by_place"].items()) + ".", "",
        f"Captions: which of {next(iter(by_kind.values()))['gallery']} is said, R@10 in percent (asked: "
        f"{ASK['recall_at_10']:g}):", "",
        "| timed by | films | R@10 | R@1 | median rank | another film's caption | chance |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {one['films']} | {one['recall_at_10']:g} [{one['interval'][0]:g}, {one['interval'][1]:g}] "
            f"| {one['recall_at_1']:g} | {one['median_rank']:g} | {one['shuffled']:g} | {one['chance']:g} |"
            for name, one in by_kind.items()
        ), "",
        f"Speed: {found['times_real_time']:g} times real time on one core, from file to words. "
        f"{len(found['failed'])} films could not be read.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="folder of a reader; the one that ships by default")
    parser.add_argument("--tune", action="store_true", help="try weights of the language model on validation clips")
    parser.add_argument("--limit", type=int, help="so many films only")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    reader = LipReader.from_pretrained(given.weights)
    if given.tune:
        tune(reader)
        return 0
    films, failed, speed = read_films(reader, given.limit)
    found = {
        "commit": git_commit(), "seed": SEED, "weights": reader.digest, "trained_on": reader.about,
        "films": hashlib.sha256("\n".join(f"{one.row['id']} {one.said}" for one in films).encode()).hexdigest(),
        "sentences": sentences(films),
        "captions": {
            name: captions(films, kind)
            for name, kind in (("held-out voices", "caption"), ("a person's recordings", "person"))
            if any(film.kind == kind for film in films)
        },
        "times_real_time": round(speed, 1), "failed": failed,
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "lips.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (given.out / "lips.md").write_text(_page(found), "utf-8")
    write_image(given.out / "lips.png", sheet(films))
    sys.stdout.write(_page(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
