"""Render the General MIDI instruments of a sound font: notes and phrases of 128 programs, and 47 percussion sounds.

    python -m training.corpora.sounds.instruments        # some two minutes; build/corpora/instruments

Needs the program fluidsynth (Debian's package of that name). All of it is for training, an eighth of it for validation.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedspace.errors import MissingExtraError
from training.corpora import manifest
from training.corpora.fetch import package, unpacked
from training.corpora.manifest import Item, write_manifest
from training.corpora.sounds.clips import decode, trim_silence, write_clip

__all__ = [
    "PACKAGES",
    "RATE",
    "SOURCE",
    "VERSION",
    "Note",
    "build",
    "instruments",
    "midi_file",
    "render",
    "variants_of",
]

SOURCE = "instruments"
PACKAGES = ("fluid-soundfont-gm",)
VERSION = 1
RATE = 44_100
LIST = Path(__file__).with_name("instruments.tsv")
TICKS = 480
TEMPO = 500_000  # microseconds a beat: 120 beats a minute
DRUM_CHANNEL = 9
VALIDATION = 8
EFFECTS = "effects"


@dataclass(frozen=True, slots=True)
class Note:
    """A note: when it begins and how long it lasts (beats), which key (MIDI), how hard (0 to 127)."""

    start: float
    beats: float
    key: int
    velocity: int = 100


@dataclass(frozen=True, slots=True)
class Instrument:
    """A row of the list: MIDI number, concept, noun with article, family, lowest and highest key that it plays well."""

    kind: str
    number: int
    concept: str
    noun: str
    family: str
    low: int
    high: int


def instruments(path: Path = LIST) -> list[Instrument]:
    """Read the list of instruments; kind is "program" or "drum"."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [Instrument(r[0], int(r[1]), r[2], r[3], r[4], int(r[5]), int(r[6])) for r in rows]


def _variable(value: int) -> bytes:
    """Return a MIDI variable-length quantity."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def midi_file(notes: list[Note], program: int | None) -> bytes:
    """Return a MIDI file (format 0) of some notes.

    Args:
        notes: In any order.
        program: General MIDI program, 0 to 127; None for percussion.

    Source: Standard MIDI Files 1.0.
    """
    channel = DRUM_CHANNEL if program is None else 0
    events: list[tuple[int, int, bytes]] = []
    for note in notes:
        events.append((int(note.start * TICKS), 1, bytes((0x90 | channel, note.key, note.velocity))))
        events.append((int((note.start + note.beats) * TICKS), 0, bytes((0x80 | channel, note.key, 0))))
    track = b"\x00\xff\x51\x03" + TEMPO.to_bytes(3, "big")
    if program is not None:
        track += bytes((0, 0xC0 | channel, program))
    now = 0
    for tick, _, event in sorted(events):
        track += _variable(tick - now) + event
        now = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return header + b"MTrk" + struct.pack(">I", len(track)) + track


def variants_of(instrument: Instrument) -> Iterator[tuple[str, tuple[str, ...], list[Note]]]:
    """Yield (name, captions, notes) of what an instrument plays; concepts are the same whatever sound font plays it."""
    noun, low, high = instrument.noun, instrument.low, instrument.high
    plain = noun.removeprefix("an ").removeprefix("a ")
    middle = (low + high) // 2
    if instrument.kind == "drum":
        yield "hit", (noun, f"{noun} being hit"), [Note(0, 1, instrument.number, 110)]
        rhythm = [Note(beat / 2, 0.5, instrument.number, 80 + 20 * (beat % 2)) for beat in range(6)]
        yield "rhythm", (noun, f"a rhythm on {noun}", f"{plain} playing"), rhythm
        return
    if instrument.family == EFFECTS:
        yield "long", (noun, plain), [Note(0, 6, middle)]
        yield "short", (noun, plain), [Note(0, 2, middle + 5, 80)]
        yield "low", (noun, plain), [Note(0, 4, middle - 7)]
        return
    yield "low", (noun, f"{noun} playing a low note", f"{noun} playing"), [Note(0, 3, low + 3)]
    yield "middle", (noun, f"{noun} playing a note", f"{noun} playing"), [Note(0, 3, middle)]
    yield "high", (noun, f"{noun} playing a high note", f"{noun} playing"), [Note(0, 3, high - 3)]
    scale = (0, 2, 4, 5, 7, 9, 11, 12)
    melody = [Note(step / 2, 0.5, middle - 6 + scale[step], 90) for step in range(8)]
    yield "melody", (f"{noun} playing a melody", noun, f"{plain} music"), melody
    chord = [Note(0, 3, middle - 5 + offset, 85) for offset in (0, 4, 7)]
    yield "chord", (f"{noun} playing a chord", noun), chord


def render(notes: list[Note], program: int | None, font: Path) -> np.ndarray:
    """Return the waveform (T,) at `RATE` of some notes, silence cut off.

    Raises:
        MissingExtraError: If fluidsynth is not installed.
    """
    with tempfile.TemporaryDirectory() as name:
        score, sound = Path(name) / "score.mid", Path(name) / "sound.wav"
        score.write_bytes(midi_file(notes, program))
        # Loading only the samples that a program needs halves the time.
        options = ["-ni", "-q", "-g", "0.6", "-o", "synth.dynamic-sample-loading=1", "-r", str(RATE)]
        command = ["fluidsynth", *options, "-F", str(sound), str(font), str(score)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            raise MissingExtraError(
                "fluidsynth is not installed; it renders the instruments: apt-get install fluidsynth"
            ) from None
        waveform = trim_silence(decode(sound, RATE), RATE, keep_seconds=0.02, below_peak_db=50.0)
    return waveform / max(1.0, float(np.abs(waveform).max()) / 0.99)


def build(out: Path) -> list[Item]:
    """Render what is missing below `out/files` and return the items. `extra` has sample_rate, seconds, variant."""
    font = unpacked(PACKAGES[0]) / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    items: list[Item] = []
    for instrument in instruments():
        program = instrument.number if instrument.kind == "program" else None
        for variant, captions, notes in variants_of(instrument):
            name = f"{instrument.kind}-{instrument.number:03}-{variant}"
            path = out / "files" / f"{name}.flac"
            if not path.exists():
                write_clip(path, render(notes, program, font), RATE)
            seconds = len(decode(path, RATE)) / RATE
            items.append(
                Item(
                    id=f"{SOURCE}/{name}",
                    modality="audio",
                    path=f"{SOURCE}/files/{name}.flac",
                    captions=captions,
                    keywords=(instrument.family,),
                    concept=instrument.concept,
                    source=SOURCE,
                    licence=package(PACKAGES[0]).licence,
                    split="val" if len(items) % VALIDATION == VALIDATION - 1 else "train",
                    extra={"sample_rate": RATE, "seconds": round(seconds, 3), "variant": variant},
                )
            )
    return items


def main() -> None:
    """Build the corpus and say what is in it."""
    items = build(manifest.CORPORA / SOURCE)
    write_manifest(manifest.CORPORA / SOURCE / "manifest.jsonl", items)
    print(f"{len(items)} clips of {len({item.concept for item in items})} instruments")


if __name__ == "__main__":
    main()
