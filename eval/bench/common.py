"""What the benchmarks share: media to work on, a fake encoder, one JSON line."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from embedspace.evaluate.report import git_commit
from embedspace.modality import SUFFIXES
from embedspace.segment import Decoded, Segment, SegmentEncoder

CORPORA = Path(os.environ.get("EMBEDSPACE_CORPORA", "build/corpora"))


class FakeEncoder:
    """Reads and hashes files, makes a vector of the hash: what is left is the catalog's own work."""

    embed_dim = 256

    def __init__(self) -> None:
        self._table = np.random.default_rng(0).normal(size=(256, self.embed_dim)).astype(np.float32)

    def fingerprints(self) -> Mapping[str, str]:
        """Return made-up digests."""
        return dict.fromkeys(("image", "audio", "text", "speech"), "0" * 64)

    def calibration_json(self) -> str:
        """Return no calibration."""
        return ""

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Hash a file or text."""
        raw = source.read_bytes() if isinstance(source, Path) else json.dumps(source).encode()
        return Decoded(kind, [(as_modality or kind, hashlib.blake2b(raw).digest())], {"nbytes": len(raw)}, 1000)

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Make a unit vector of each hash."""
        return [[self._segment(*one) for one in item.inputs] for item in items]

    def _segment(self, modality: str, digest: bytes) -> Segment:
        vector = self._table[np.frombuffer(digest, np.uint8)].sum(axis=0)
        return Segment(modality, vector / np.linalg.norm(vector))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fake", action="store_true", help="a fake encoder instead of the real space")
    parser.add_argument("--weights", help="a space other than the shipped one")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="also write <benchmark>.json there")
    return parser


def encoder_of(given: argparse.Namespace) -> SegmentEncoder:
    """Return the space, or the fake."""
    if given.fake:
        return FakeEncoder()
    from embedspace.space import EmbeddingSpace

    space: SegmentEncoder = EmbeddingSpace.from_pretrained(given.weights)
    return space


def media_files(folder: Path | None, count: int, seed: int = 0) -> list[Path]:
    """Return media files, mixed by kind as evenly as there are: of a folder, or of the corpora that were built."""
    root = folder or CORPORA
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        kind = SUFFIXES.get(path.suffix.lower())
        if kind is not None and path.is_file():
            kinds.setdefault(kind, []).append(path)
    if not kinds:
        raise SystemExit(f"{root}: no media; build the corpora (python -m training.corpora), or give --folder")
    rng = np.random.default_rng(seed)
    shuffled = [[files[at] for at in rng.permutation(len(files))] for files in kinds.values()]
    chosen: list[Path] = []
    while len(chosen) < count and any(shuffled):
        chosen.extend(files.pop() for files in shuffled if files)
    return chosen[:count]


def mixed_media(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Return pictures, sounds, spoken clips and texts of the corpora that were built, a quarter each, in turn.

    Args:
        folder: Clips and texts are written here; pictures and sounds stay where they are.
        count: Files.
        seed: Seed of the choice.
    """
    import soundfile

    from training.corpora.manifest import read_manifest
    from training.corpora.sounds.clips import read_clip

    rng, each = np.random.default_rng(seed), -(-count // 4)
    drawn: list[list[Path]] = []
    for source in ("openclipart", "sounds", "human", "recipes"):
        manifest = CORPORA / source / "manifest.jsonl"
        if not manifest.is_file():
            raise SystemExit(f"{manifest}: not there; build the corpora (python -m training.corpora), or give --folder")
        items = list(read_manifest(manifest))
        files = []
        for number in rng.permutation(len(items))[:each]:
            item = items[number]
            path = CORPORA / item.path
            if item.modality == "speech":
                path = folder / f"{number}.flac"
                soundfile.write(path, read_clip(item, 16_000), 16_000)
            elif item.modality == "text":
                path = folder / f"{number}.txt"
                path.write_text(item.text, "utf-8")
            files.append(path)
        drawn.append(files)
    return [path for group in zip(*drawn, strict=True) for path in group][:count]


def make_media(folder: Path, count: int, *, side: int = 8, seconds: float = 0.05, per_folder: int = 500) -> None:
    """Write small distinct pictures, sounds and texts, a third each."""
    for number, (suffix, content) in enumerate(_made(count, side, seconds)):
        path = folder / f"{number // per_folder:03}" / f"{number:06}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _made(count: int, side: int, seconds: float) -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    for number in range(count):
        match number % 3:
            case 0:
                yield ".png", png(rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8))
            case 1:
                yield ".wav", wav(rng.normal(size=int(16000 * seconds)) * 0.1)
            case _:
                yield ".txt", f"text number {number}: {rng.integers(1 << 60)}".encode()


def png(pixels: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 pixels as a PNG file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def wav(waveform: np.ndarray, sample_rate: int = 16000) -> bytes:
    """Return a waveform in [-1, 1] as a 16-bit WAV file."""
    samples: bytes = (np.clip(waveform, -1, 1) * 32767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def report(given: argparse.Namespace, benchmark: str, **figures: Any) -> None:  # noqa: ANN401
    """Print the figures as one JSON line, and write them to `given.out` if that is set."""
    found = {"benchmark": benchmark, **figures, "commit": git_commit(Path(__file__).parent), "machine": machine()}
    print(json.dumps(found), flush=True)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{benchmark}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    named = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(), "processor": (named or [platform.processor()])[0],
        "threads": os.environ.get("OMP_NUM_THREADS", ""), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8").splitlines()
    except OSError:  # elsewhere than on Linux
        return []
