"""What the recogniser writes of full sentences and of minutes of speech: word error rates, early stops, loops.

    python -m eval.recogniser                # about 15 minutes of an idle core; recordings are kept under build/

The sentences are steps of the recipes' test half, of 8 to 14 words, each said by one voice of three engines. They go
the way of every recording: it is cut into segments, and each is heard and written. The minutes are a dozen other
sentences of the same half with short pauses between them. Whisper tiny.en, another recogniser, reads the same
sentences as a yardstick; the errors of "nothing heard" are 100%.

Needs the recipes (python -m training.corpora --only recipes), espeak-ng and flite. Writes eval/results/recogniser.json
and .md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.evaluate.generation.measures.clusters import clustered_ratio
from embedspace.evaluate.generation.measures.words import spoken_words, word_errors
from embedspace.evaluate.report import git_commit
from embedspace.files import replacing, write_text
from embedspace.space import EmbeddingSpace
from training.align.recogniser import transcribe
from training.corpora.manifest import CORPORA
from training.corpora.sounds.clips import SPEECH_RATE
from training.corpora.speech.voices import speak

RECORDINGS = Path("build/recogniser")
RESULTS = Path("eval/results")
VOICES = ("piper:joe", "kokoro:jf_alpha", "flite:slt")
ASK = 12.0
"""Percent of words."""
FEWEST, MOST = 8, 14
MINUTE = 12
"""Sentences of a minute."""
PAUSES = (0.15, 0.5)
"""Seconds between them."""
STOPPED = 0.6
"""Fewer words than this share of what was said are an early stop."""
_PLAIN = re.compile(r"[A-Za-z ,'-]+\.")
_LOOP = re.compile(r"\b(\w+(?: \w+){0,4})(?: \1){2,}\b")
"""A phrase said three times in a row."""
Samples = NDArray[np.float32]


def sentences(split: str) -> list[str]:
    """Return the different plain sentences among a split's recipes, in an order drawn by seed."""
    found: dict[str, None] = {}
    for line in (CORPORA / "recipes" / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == split:
            for sentence in re.split(r"(?<=[.!?])\s+|\n", row["extra"].get("steps", "")):
                if FEWEST <= len(sentence.split()) <= MOST and _PLAIN.fullmatch(sentence):
                    found[sentence] = None
    made = sorted(found)
    random.Random(0).shuffle(made)
    return made


def recording(text: str, voice: str) -> Samples:
    """Return a sentence as a voice says it, at `SPEECH_RATE`; made once."""
    name = hashlib.sha256(f"{voice}\n{text}".encode()).hexdigest()[:24]
    path = RECORDINGS / f"{name}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = np.asarray(speak(text, voice, 0), np.float32)
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, waveform)
    made: Samples = np.load(path)
    return made


def minute(texts: Sequence[str], voice: str, seed: int) -> Samples:
    """Return some sentences with pauses between them."""
    generator = np.random.default_rng(seed)
    parts: list[Samples] = []
    for text in texts:
        pause = np.zeros(int(SPEECH_RATE * generator.uniform(*PAUSES)), np.float32)
        parts += [recording(text, voice), pause]
    return np.concatenate(parts)


def written(space: EmbeddingSpace, waveform: Samples) -> str:
    """Return what the space writes of a recording: its segments' texts, joined."""
    (segments,) = space.encode_decoded([space.decode((waveform, SPEECH_RATE), "audio", as_modality="speech")])
    return " ".join(segment.text for segment in segments)


def scores(said: Sequence[str], heard: Sequence[str]) -> dict[str, Any]:
    """Return the word error rate in percent with its 95% interval over texts, early stops and loops."""
    spoken = [spoken_words(text) for text in said]
    found = [spoken_words(text) for text in heard]
    errors = np.array([word_errors(a, b) for a, b in zip(spoken, found, strict=True)], np.float64)
    words = np.array([len(a) for a in spoken], np.float64)
    rate = clustered_ratio(errors, words, said)
    assert rate is not None
    return {
        "recordings": len(said),
        "words": int(words.sum()),
        "word_error_rate": [round(100 * x, 1) for x in rate],
        "early_stops": sum(len(b) < STOPPED * len(a) for a, b in zip(spoken, found, strict=True)),
        "loops": sum(bool(_LOOP.search(" ".join(b))) for b in found),
    }


def measure(space: EmbeddingSpace, count: int, minutes: int) -> dict[str, Any]:
    """Return a row for each voice and kind of recording, and all texts."""
    pool = sentences("test")
    single, rest = pool[:count], pool[count:]
    rows: list[dict[str, Any]] = []
    texts: list[dict[str, str]] = []

    def note(kind: str, reader: str, voice: str, said: list[str], heard: list[str]) -> None:
        rows.append({"kind": kind, "reader": reader, "voice": voice, **scores(said, heard)})
        texts.extend(
            {"kind": kind, "reader": reader, "voice": voice, "said": a, "heard": b}
            for a, b in zip(said, heard, strict=True)
        )
        print(json.dumps(rows[-1]), flush=True)

    for number, voice in enumerate(VOICES):
        clips = [recording(text, voice) for text in single]
        note("sentences", "space", voice, single, [written(space, clip) for clip in clips])
        note("sentences", "tiny.en", voice, single, [transcribe(clip) for clip in clips])
        groups = [rest[k * MINUTE : (k + 1) * MINUTE] for k in range(number * minutes, (number + 1) * minutes)]
        joined = [" ".join(group) for group in groups]
        heard = [written(space, minute(group, voice, k)) for k, group in enumerate(groups)]
        note("minutes", "space", voice, joined, heard)
    for kind, reader in (("sentences", "space"), ("sentences", "tiny.en"), ("minutes", "space")):
        chosen = [t for t in texts if (t["kind"], t["reader"]) == (kind, reader)]
        note(kind, reader, "all", [t["said"] for t in chosen], [t["heard"] for t in chosen])
    split = hashlib.sha256("\n".join([*single, *rest[: len(VOICES) * minutes * MINUTE]]).encode()).hexdigest()[:16]
    kept = [t for t in texts if t["reader"] == "space"][: len(VOICES) * (count + minutes)]
    return {"split": split, "rows": rows, "texts": kept}


def markdown(entry: dict[str, Any]) -> str:
    """Return the table, and the worst sentences."""
    lines = [
        "# recogniser",
        "",
        "What is written of clear English: steps of the recipes' test half, said by voices of three engines, cut and "
        f"read as every recording is. Asked: at most {ASK:g}% of words wrong, nothing stopped early, no loop.",
        "",
        "| recordings | voice | reader | words | words wrong, % | stopped early | loops |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in entry["rows"]:
        rate, low, high = row["word_error_rate"]
        lines.append(
            f"| {row['recordings']} {row['kind']} | {row['voice']} | {row['reader']} | {row['words']} | "
            f"{rate:.1f} [{low:.1f}, {high:.1f}] | {row['early_stops']} | {row['loops']} |"
        )
    worst = sorted(
        (t for t in entry["texts"] if t["kind"] == "sentences"),
        key=lambda t: -word_errors(spoken_words(t["said"]), spoken_words(t["heard"])),
    )[:5]
    lines += ["", "The five sentences with the most errors:", "", "| voice | said | written |", "|---|---|---|"]
    lines += [f"| {t['voice']} | {t['said']} | {t['heard'] or '(nothing)'} |" for t in worst]
    lines += [
        "",
        f"Commit {entry['commit']}, speech encoder {entry['weights']['speech'][:8]}, sentences {entry['split']}, "
        "seed 0; [95% bootstrap interval over texts]. tiny.en: Whisper tiny.en by CTranslate2. Made by",
        "",
        "`python -m eval.recogniser`; nothing heard is 100%.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=100, help="of each voice")
    parser.add_argument("--minutes", type=int, default=3, help="of each voice")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = EmbeddingSpace.from_pretrained()
    found = measure(space, given.sentences, given.minutes)
    entry = {
        "table": "recogniser",
        "commit": git_commit(),
        "weights": {"speech": space.fingerprints()["speech"]},
        **found,
    }
    write_text(given.out / "recogniser.json", json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    write_text(given.out / "recogniser.md", markdown(entry))
    print(markdown(entry))


if __name__ == "__main__":
    main()
