"""Build the speakers that voice conversion learns from and is measured on: build/corpora/speakers.

    python -m training.corpora --only human --only recipes
    python -m training.corpora.speech.speakers        # ten minutes on one core; what is written stays

People are those who read Tux Paint's captions and those who said the prompts of a telephone exchange (Asterisk). Beside
them voices of espeak-ng, flite, Piper and Kokoro say steps of recipes, each voice others. espeak-ng and flite tell when
each phoneme is said (`extra["phonemes"]`).

Splits go by speaker: no voice of `TEST` is heard by anything that is trained here, and those of `VAL` choose settings.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmbedspaceError
from training.corpora import manifest
from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item, read_manifest, write_manifest
from training.corpora.sounds.clips import SPEECH_RATE, ShardWriter, trim_silence
from training.corpora.speech.voices import kokoro_voices, speak, training_voices
from training.corpora.video.phonemes import speak_phonemes

__all__ = ["MANIFEST", "PROMPTS", "SOURCE", "TEST_PEOPLE", "VAL_PEOPLE", "build", "people", "sentences"]

SOURCE = "speakers"
MANIFEST = "people.jsonl"
"""Not manifest.jsonl: no item's caption is a thing's name."""
VAL_PEOPLE = ("lt", "nl")
TEST_PEOPLE = ("bg", "el", "en", "ml", "pt-BR")
"""Languages of Tux Paint's people; the others' are trained on."""
PROMPTS = {
    "allison": ("asterisk-core-sounds-en-g722", "en_US_f_Allison", "en"),
    "june": ("asterisk-core-sounds-fr-g722", "fr_CA_f_June", "fr"),
    "carlo": ("asterisk-core-sounds-it-g722", "it_IT_m_Carlo", "it"),
    "ivr": ("asterisk-core-sounds-ru-g722", "ru_RU_f_IvrvoiceRU", "ru"),
}
TEST_VOICES = ("flite:rms", "kokoro:jf_nezumi", "pico:en-GB", "espeak:en-gb-scotland+adam")
VAL_VOICES = ("espeak:en-gb-scotland+f4", "pico:en-US")
SENTENCES = {"flite": 60, "espeak": 12, "piper": 60, "kokoro": 10, "pico": 40}
"""Sentences that a training voice of an engine says."""
OTHER_SENTENCES = 16
ESPEAK_VOICES = 28
SHORTEST = 1.0
_PLAIN = re.compile(r"[A-Za-z ,'-]+\.")
_FEWEST, _MOST = 6, 16


def sentences(split: str) -> list[str]:
    """Return the different plain sentences among the recipes of a split, in an order drawn by seed."""
    found: dict[str, None] = {}
    for item in read_manifest(manifest.CORPORA / "recipes" / "manifest.jsonl"):
        if item.split == split:
            for sentence in re.split(r"(?<=[.!?])\s+|\n", item.extra.get("steps", "")):
                if _FEWEST <= len(sentence.split()) <= _MOST and _PLAIN.fullmatch(sentence):
                    found[sentence] = None
    made = sorted(found)
    random.Random(1).shuffle(made)
    return made


def people() -> Iterator[Item]:
    """Yield the recordings of Tux Paint's people, their splits by speaker."""
    for item in read_manifest(manifest.CORPORA / "human" / "manifest.jsonl"):
        split = "test" if item.language in TEST_PEOPLE else "val" if item.language in VAL_PEOPLE else "train"
        yield Item(
            id=item.id, modality="speech", path=item.path, source=SOURCE, licence=item.licence, speaker=item.speaker,
            language=item.language, split=split, extra={**item.extra, "said": item.captions[0]},
        )  # fmt: skip


def _prompts(name: str, out: Path) -> list[Item]:
    """Write the prompts that somebody said, and return their items."""
    source, folder, language = PROMPTS[name]
    root = unpacked(source) / "usr/share/asterisk/sounds" / folder
    items = []
    with ShardWriter(out / f"{name}.npy") as shard:
        for path in sorted(root.rglob("*.g722")):
            if path.parent.name == "silence":
                continue
            waveform = trim_silence(_decode(path), SPEECH_RATE)
            if len(waveform) < SHORTEST * SPEECH_RATE:
                continue  # one file is empty
            stem = path.relative_to(root).with_suffix("").as_posix()
            extra = {"sample_rate": SPEECH_RATE, "seconds": round(len(waveform) / SPEECH_RATE, 3)}
            items.append(
                Item(
                    id=f"{SOURCE}/{name}/{stem}",
                    modality="speech",
                    path=shard.append(waveform),
                    source=SOURCE,
                    licence=package(source).licence,
                    speaker=f"human:asterisk:{name}",
                    language=language,
                    split="test",
                    extra=extra,
                )
            )
    return items


def _decode(path: Path) -> NDArray[np.float32]:
    """Return a prompt's samples; a file of G.722 has no header."""
    with av.open(str(path), format="g722") as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
    return samples.astype(np.float32) / np.float32(32_768)


def _voices() -> dict[str, str]:
    """Return voice -> split."""
    # "en-gb" alone is no name of the library's
    espeak = [voice for voice in training_voices() if re.match(r"espeak:(?!en-gb\+)", voice)]
    random.Random(0).shuffle(espeak)
    train = [*(f"flite:{name}" for name in ("slt", "awb", "kal")), "piper:joe", *espeak[:ESPEAK_VOICES]]
    train += [voice for voice in kokoro_voices() if "+" not in voice]  # a blend costs as much, and is no one's voice
    return {
        voice: split
        for split, group in (("train", train), ("val", VAL_VOICES), ("test", TEST_VOICES))
        for voice in group
    }


def _said(text: str, voice: str, seed: int) -> tuple[NDArray[np.float32], list[Any]]:
    """Return what a voice says, and when each phoneme is said where the engine tells."""
    if voice.startswith(("espeak:", "flite:")):
        speed = float(np.random.default_rng(seed).uniform(0.85, 1.15))
        waveform, phonemes = speak_phonemes(text, voice, speed)
        return waveform, [[name, round(start, 3), round(end, 3)] for name, start, end in phonemes]
    return np.asarray(speak(text, voice, seed), np.float32), []


def _synthetic(voice: str, split: str, texts: list[str], out: Path) -> list[Item]:
    engine = voice.split(":")[0]
    number = int(hashlib.sha256(voice.encode()).hexdigest()[:8], 16)
    count = SENTENCES[engine] if split == "train" else OTHER_SENTENCES
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", voice)
    items = []
    with ShardWriter(out / f"{stem}.npy") as shard:
        for at in range(count):
            text = texts[(number + at) % len(texts)]
            try:
                waveform, phonemes = _said(text, voice, number % 10_000 + at)
            except EmbedspaceError as error:
                print(f"{SOURCE}: left out: {error}")
                continue
            extra: dict[str, Any] = {"sample_rate": SPEECH_RATE, "seconds": round(len(waveform) / SPEECH_RATE, 3)}
            extra |= {"said": text} | ({"phonemes": phonemes} if phonemes else {})
            items.append(
                Item(
                    id=f"{SOURCE}/{stem}/{at}",
                    modality="speech",
                    path=shard.append(waveform),
                    source=SOURCE,
                    speaker=voice,
                    split=split,
                    extra=extra,
                )
            )
    return items


def build(out: Path) -> list[Item]:
    """Write one shard and one list per speaker below `out`, and return all items; what is written stays."""
    texts = {"train": sentences("train"), "val": sentences("val") or sentences("train"), "test": sentences("test")}
    makers: dict[str, Callable[[], list[Item]]] = {name: lambda name=name: _prompts(name, out) for name in PROMPTS}
    for voice, split in _voices().items():
        makers[voice] = lambda voice=voice, split=split: _synthetic(voice, split, texts[split], out)
    items = list(people())
    for name, make in makers.items():
        listed = out / "lists" / f"{re.sub(r'[^A-Za-z0-9-]+', '_', name)}.jsonl"
        if not listed.exists():
            write_manifest(listed, make())
            print(f"{SOURCE}: {name}", flush=True)
        items += read_manifest(listed)
    return items


def main() -> None:
    """Build the corpus and say what is in it."""
    items = build(manifest.CORPORA / SOURCE)
    write_manifest(manifest.CORPORA / SOURCE / MANIFEST, items)
    seconds: dict[tuple[str, str], float] = {}
    for item in items:
        key = (item.split, item.speaker)
        seconds[key] = seconds.get(key, 0.0) + item.extra["seconds"]
    for (split, speaker), total in sorted(seconds.items()):
        print(f"{split:5} {speaker:28} {total:7.0f} s")


if __name__ == "__main__":
    main()
