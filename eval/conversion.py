"""Measure voice conversion: is it the reference's voice, and are the words still understood?

    python -m training.corpora.speech.speakers     # the speakers; those of the test were heard by nothing trained here
    python -m eval.conversion                      # eval/results/conversion.json, .md, .png; half an hour of one core
    python -m eval.conversion --split val          # validation speakers, on whom settings are chosen

Sentences of the recipes' test half are said by Piper's voice, as words given to `embedspace generate` are, and by a
voice that nothing here was trained on, as a recording is. Each is converted to each speaker of the test, of whom half a
minute is the reference. Words are written by the recogniser of the space, and stand beside those of the source. Voices
are compared by Resemblyzer's encoder, which takes no part in converting or training: the cosine of what was made with
the mean of the speaker's other recordings, beside that of the speaker's own speech (what is possible), of the source
(what was there before), and of what was made for another speaker (shuffled).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from embedspace.evaluate.generation.measures.clusters import clustered_mean, clustered_ratio
from embedspace.evaluate.generation.measures.words import spoken_words, word_errors
from embedspace.generate.conversion import Reference, VoiceConverter
from embedspace.generate.spectrogram import SpectrogramConfig, to_spectrogram, to_waveform
from embedspace.space import EmbeddingSpace
from eval.recogniser import recording, sentences, written
from eval.writing import made_by, publish, run
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest
from training.corpora.sounds.clips import SPEECH_RATE, read_clip
from training.corpora.speech.speakers import MANIFEST, SOURCE

RESULTS = Path("eval/results")
ASK = {"cosine": 0.75, "stretch_cosine": 0.8, "ratio": 1.5, "stretch_ratio": 1.2}
SOURCES = ("piper:joe", "pico:en-GB")
"""What says the sentences: as words are said, and a voice that was never trained on."""
LENGTHS = (3.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds of a reference that are tried."""
SEED = 0
_PIECE = 4.0
"""Seconds of a speaker's own speech that count as one utterance."""
_OTHERS = 40.0
"""Seconds of a speaker, no part of the reference, whose mean is the speaker's voice."""
Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Speaker:
    """A speaker: a long reference, and utterances that are none of it."""

    name: str
    reference: Samples
    pieces: list[Samples]


@dataclass(slots=True)
class _Made:
    """Everything made of one kind: who it is for, what was said, what was written, and the cosines."""

    targets: list[str] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, target: str, said: str, heard: str, row: NDArray[np.float32]) -> None:
        """Note one utterance."""
        a, b = spoken_words(said), spoken_words(heard)
        self.targets.append(target)
        self.errors.append(word_errors(a, b))
        self.words.append(len(a))
        self.texts.append({"voice": target, "said": said, "heard": heard})
        self.rows.append(row)

    def wer(self) -> list[float]:
        """Return the word error rate in percent and its interval over voices."""
        found = clustered_ratio([float(x) for x in self.errors], [float(x) for x in self.words], self.targets)
        assert found is not None
        return [round(100 * x, 1) for x in found]

    def cosine(self, voices: Mapping[str, NDArray[np.float32]], shift: int = 0) -> list[float]:
        """Return the mean cosine with each one's voice, or with that of somebody `shift` names further."""
        names = list(voices)
        wanted = [voices[names[(names.index(name) + shift) % len(names)]] for name in self.targets]
        values = [float(row @ other) for row, other in zip(self.rows, wanted, strict=True)]
        return [round(x, 3) for x in clustered_mean(values, self.targets)]


def speakers(split: str, seconds: float) -> list[_Speaker]:
    """Return the speakers of a split who say enough, in order of their names."""
    own: dict[str, list[Item]] = {}
    for item in read_manifest(manifest.CORPORA / SOURCE / MANIFEST):
        if item.split == split and item.speaker not in SOURCES:
            own.setdefault(item.speaker, []).append(item)
    found = []
    for name, items in sorted(own.items()):
        order = np.random.default_rng(SEED).permutation(len(items))
        clips = [read_clip(items[k], SPEECH_RATE) for k in order]
        reference, rest = _taken(clips, seconds)
        pieces = []
        while rest and sum(map(len, pieces)) < _OTHERS * SPEECH_RATE:
            piece, rest = _taken(rest, _PIECE)
            pieces.append(piece)
        if len(pieces) >= 3:
            found.append(_Speaker(name, reference, pieces))
    return found


def _taken(clips: Sequence[Samples], seconds: float) -> tuple[Samples, list[Samples]]:
    """Return clips one after the other until they are so long, half of all at most, and the others."""
    total, kept = sum(map(len, clips)), []
    left = list(clips)
    while left and sum(map(len, kept)) < min(seconds * SPEECH_RATE, max(total / 2, _PIECE * SPEECH_RATE)):
        kept.append(left.pop(0))
    return np.concatenate(kept), left


def voice_rows(space: EmbeddingSpace, clips: Sequence[Samples]) -> NDArray[np.float32]:
    """Return (N, embed_dim) unit rows of who speaks."""
    return space.encode_voice(list(clips), SPEECH_RATE)


def _mean(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = rows.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def frames_alone(converter: VoiceConverter, clip: Samples, voice: Reference) -> Samples:
    """Return the conversion without the decoder: each frame is the mean of the nearest ones."""
    from embedspace.generate.conversion.frames import frames_of, nearest_frames

    frames = frames_of(clip, converter.content, converter.decoder.spectrogram)
    near, _ = nearest_frames(frames.content, voice.frames, converter.decoder.config.neighbours)
    return converter.heard(near.T)


def copied(converter: VoiceConverter, clip: Samples) -> Samples:
    """Return a clip through the vocoder alone."""
    from embedspace.generate.conversion.frames import levelled

    size = converter.decoder.spectrogram
    return converter.heard(to_spectrogram(torch.from_numpy(levelled(clip))[None], size)[0])


def griffin_lim(clip: Samples) -> Samples:
    """Return a clip through its frames and Griffin-Lim's algorithm."""
    from embedspace.generate.conversion.frames import levelled

    size = SpectrogramConfig()
    frames = to_spectrogram(torch.from_numpy(levelled(clip))[None], size)
    return to_waveform(frames, size, torch.Generator().manual_seed(0))[0].numpy()


def measure(
    space: EmbeddingSpace, converter: VoiceConverter, people: Sequence[_Speaker], count: int
) -> tuple[dict[str, Any], dict[str, _Made], dict[str, Any]]:
    """Return the figures, what was made, and some of it to be drawn."""
    pool = sentences("test")
    own = {one.name: voice_rows(space, one.pieces) for one in people}
    voices = {name: _mean(rows) for name, rows in own.items()}
    made = {name: _Made() for name in ("converted", "source", "frames alone", "vocoder alone", "Griffin-Lim")}
    shown: dict[str, Any] = {}
    references = {one.name: converter.reference(one.reference) for one in people}

    def note(kind: str, target: str, said: str, clip: Samples) -> None:
        row = voice_rows(space, [clip])[0]
        made[kind].add(target, said, written(space, clip), row)

    for number, one in enumerate(people):
        for k in range(count):
            for place, voice in enumerate(SOURCES):
                said = pool[(2 * (number * count + k) + place) % len(pool)]
                clip = recording(said, voice)
                result = converter.convert(clip, references[one.name])
                note("converted", one.name, said, result)
                note("source", one.name, said, clip)
                if k == 0:
                    note("frames alone", one.name, said, frames_alone(converter, clip, references[one.name]))
                    note("vocoder alone", one.name, said, copied(converter, clip))
                    note("Griffin-Lim", one.name, said, griffin_lim(clip))
                    shown.setdefault(one.name, (said, clip, one.reference, result))
        print(f"{one.name}: {made['converted'].wer()} {made['converted'].cosine(voices)}", flush=True)
    return _figures(made, own, voices), made, shown


def _figures(
    made: Mapping[str, _Made], own: Mapping[str, NDArray[np.float32]], voices: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    real = []
    names = []
    for name, rows in own.items():
        for k in range(len(rows)):
            others = np.delete(rows, k, axis=0)
            real.append(float(rows[k] @ _mean(others)))
            names.append(name)
    wer, before = made["converted"].wer(), made["source"].wer()
    return {
        "utterances": len(made["converted"].targets),
        "words": sum(made["converted"].words),
        "cosine": {
            "converted": made["converted"].cosine(voices),
            "the speaker's own speech": [round(x, 3) for x in clustered_mean(real, names)],
            "source": made["source"].cosine(voices),
            "made for another (shuffled)": made["converted"].cosine(voices, shift=1),
            "frames alone": made["frames alone"].cosine(voices),
        },
        "wer": {name: one.wer() for name, one in made.items()},
        "ratio": round(wer[0] / max(before[0], 0.1), 2),
        "by_voice": {name: _one(made["converted"], made["source"], name, voices[name]) for name in voices},
    }


def _one(made: _Made, source: _Made, name: str, voice: NDArray[np.float32]) -> dict[str, float]:
    at = [k for k, target in enumerate(made.targets) if target == name]

    def rate(one: _Made) -> float:
        return round(100 * sum(one.errors[k] for k in at) / max(1, sum(one.words[k] for k in at)), 1)

    cosine = float(np.mean([made.rows[k] @ voice for k in at]))
    return {"cosine": round(cosine, 3), "wer": rate(made), "source_wer": rate(source)}


def lengths(space: EmbeddingSpace, converter: VoiceConverter, people: Sequence[_Speaker]) -> dict[str, list[float]]:
    """Return the cosine by seconds of reference, for one sentence to each speaker."""
    pool = sentences("test")[-len(people) :]
    out = {}
    for seconds in LENGTHS:
        values, names = [], []
        for text, one in zip(pool, people, strict=True):
            if len(one.reference) < seconds * SPEECH_RATE:
                continue
            voice = converter.reference(one.reference[: int(seconds * SPEECH_RATE)], checked=False)
            row = voice_rows(space, [converter.convert(recording(text, SOURCES[0]), voice)])[0]
            values.append(float(row @ _mean(voice_rows(space, one.pieces))))
            names.append(one.name)
        if values:
            out[f"{seconds:g}"] = [round(x, 3) for x in clustered_mean(values, names)]
    return out


def sheet(shown: Mapping[str, Any], rows: int = 6) -> Image.Image:
    """Return spectrograms of source, reference and what was made, side by side."""
    size, wide, high = SpectrogramConfig(), 300, 128
    chosen = list(shown.items())[:rows]
    picture = Image.new("RGB", (3 * (wide + 6), len(chosen) * (high + 20)), "white")
    pen = ImageDraw.Draw(picture)
    for number, (name, (said, *clips)) in enumerate(chosen):
        top = number * (high + 20)
        for k, (what, clip) in enumerate(zip(("source", f"reference {name}", "converted"), clips, strict=True)):
            part = torch.from_numpy(np.ascontiguousarray(clip[: 4 * SPEECH_RATE]))
            frames = to_spectrogram(part[None] * (0.5 / max(float(part.abs().max()), 1e-3)), size)[0]
            grey = ((frames.flip(0) + 1) * 127.5).byte().numpy()
            drawn = Image.fromarray(grey).resize((wide, high))
            picture.paste(drawn, (k * (wide + 6), top + 16))
            pen.text((k * (wide + 6) + 2, top + 2), what if k else f"source: {said}"[:52], fill="black")
    return picture


def _lines(entry: Mapping[str, Any]) -> list[str]:
    found = entry["figures"]

    def cell(values: Sequence[float]) -> str:
        return f"{values[0]:g} [{values[1]:g}, {values[2]:g}]"

    wer = found["wer"]
    return [
        "# Voice conversion",
        "",
        f"`{entry['command']}`, commit {entry['commit']}, weights {entry['weights'][:12]}, sentences "
        f"{entry['split_sha256'][:12]}, seed {SEED}. Reference: {entry['reference_seconds']:g} s or half of what there "
        f"is. {found['utterances']} utterances, {found['words']} words, {len(found['by_voice'])} voices of the "
        f"{entry['split']} split. Intervals draw voices whole.",
        "",
        "Whose voice: cosine of Resemblyzer's rows with the mean of the speaker's other recordings. That encoder takes "
        "no part in converting or training; settings were chosen in sight of it, on validation speakers.",
        "",
        "| | cosine |",
        "|---|---|",
        *(f"| {name} | {cell(values)} |" for name, values in found["cosine"].items()),
        "",
        f"Asked: {ASK['cosine']:g}, {ASK['stretch_cosine']:g} at best.",
        "",
        "Which words: error rate in percent of the space's recogniser.",
        "",
        "| | words wrong |",
        "|---|---|",
        *(f"| {name} | {cell(values)} |" for name, values in wer.items()),
        "",
        f"Converted against source: {found['ratio']:g} times. Asked: {ASK['ratio']:g} times at most, "
        f"{ASK['stretch_ratio']:g} at best. Frames alone, vocoder alone and Griffin-Lim: a part of the sentences.",
        "",
        "| voice | cosine | words wrong | of the source |",
        "|---|---|---|---|",
        *(
            f"| {name} | {one['cosine']:g} | {one['wer']:g} | {one['source_wer']:g} |"
            for name, one in found["by_voice"].items()
        ),
        "",
        "By seconds of reference: "
        + ", ".join(f"{seconds} s {cell(values)}" for seconds, values in entry["lengths"].items())
        + ".",
    ]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--weights", type=Path, help="folder of a converter; the one that ships by default")
    parser.add_argument("--split", choices=("test", "val"), default="test")
    parser.add_argument("--count", type=int, default=4, help="sentences of each source voice for each speaker")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the reference")
    parser.add_argument("--balance", type=float, help="share of the way to the reference's mean and deviation")
    parser.add_argument("--nearness", type=float, help="share of the way to the reference's nearest frames")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    space = EmbeddingSpace.from_pretrained().with_voices()
    converter = VoiceConverter.from_pretrained(given.weights)
    converter.balance = converter.balance if given.balance is None else given.balance
    converter.nearness = converter.nearness if given.nearness is None else given.nearness
    people = speakers(given.split, given.seconds)
    found, made, shown = measure(space, converter, people, given.count)
    said = "\n".join(text["said"] for text in made["converted"].texts)
    entry = {
        **made_by("conversion"), "seed": SEED, "weights": converter.digest, "split": given.split,
        "split_sha256": hashlib.sha256(said.encode()).hexdigest(), "reference_seconds": given.seconds,
        "figures": found, "lengths": lengths(space, converter, speakers(given.split, 60.0)),
        "texts": made["converted"].texts,
    }  # fmt: skip
    publish(given.out, entry, _lines(entry), sheet(shown))
    return 0


if __name__ == "__main__":
    run(main)
