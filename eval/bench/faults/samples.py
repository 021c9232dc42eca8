"""One small file of every format that is read, made by the libraries that everybody uses; and what damages a file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image

from embedspace.modality import SUFFIXES

__all__ = ["mutated", "write_samples"]

_RATE = 16_000
_CAST = (".mp4", ".mkv", ".webm", ".mov", ".avi")
_CODED = {".mp3": ("mp3", "libmp3lame"), ".m4a": ("ipod", "aac"), ".aac": ("adts", "aac"), ".opus": ("opus", "libopus")}
_CONTAINERS = {".aif": "AIFF", ".ogg": "OGG"}
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


def write_samples(folder: Path) -> list[Path]:
    """Write the files into a folder that is made new; returns them, tables last."""
    folder.mkdir()
    files = [folder / f"sample{number}{suffix}" for number, suffix in enumerate((*_pictures(), *_sounds(), *_CAST))]
    draws = np.random.default_rng(1)
    picture = _picture(draws)
    sound = (0.3 * np.sin(2 * np.pi * 440 * np.arange(_RATE) / _RATE) + 0.05 * draws.normal(size=_RATE)).astype("f4")
    for file in files:
        if file.suffix in _pictures():
            _write_picture(file, picture, file.suffix)
        elif file.suffix in _CAST:
            _write_video(file, picture, sound)
        elif file.suffix in _CODED:
            _write_coded(file, sound, *_CODED[file.suffix])
        else:
            soundfile.write(file, sound, _RATE, format=_CONTAINERS.get(file.suffix))
    for encoding in _ENCODINGS:
        files.append(folder / f"{encoding}.txt")
        files[-1].write_bytes("A barking dog, and a cat that sleeps. Ein Hund, 犬.\n".encode(encoding) * 8)
    return files


def tables(folder: Path, name: str) -> Iterator[Path]:
    """Write a table of each kind that names one file; yields them."""
    rows = [{"path": name, "caption": "a, b", "year": 1999}, {"path": name, "caption": "c", "year": 2000}]
    (folder / "t.csv").write_text("path,caption,year\n" + f'{name},"a, b",1999\n{name},c,2000\n', "utf-8")
    (folder / "t.tsv").write_text("path\tcaption\tyear\n" + f"{name}\ta\t1999\n", "utf-8")
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "t.json").write_text(json.dumps(rows), "utf-8")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    yield from (folder / f"t.{suffix}" for suffix in ("csv", "tsv", "jsonl", "json", "parquet"))


def _pictures() -> list[str]:
    return [suffix for suffix in SUFFIXES if SUFFIXES[suffix] == "image"]


def _sounds() -> list[str]:
    return [suffix for suffix in SUFFIXES if SUFFIXES[suffix] == "audio" and suffix != ".oga"]


def _picture(draws: np.random.Generator) -> Image.Image:
    """A picture with edges, gradients and noise, 96 x 64."""
    y, x = np.mgrid[0:64, 0:96]
    pixels = np.stack([x * 2, y * 3, (x - 48) ** 2 + (y - 32) ** 2 < 400], axis=-1) * (1, 1, 200)
    return Image.fromarray(np.clip(pixels + draws.normal(size=pixels.shape) * 8, 0, 255).astype(np.uint8))


def _write_picture(file: Path, picture: Image.Image, suffix: str) -> None:
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF", ".dib": "BMP"}
    name = formats.get(suffix, suffix.removeprefix(".").upper())
    stream = io.BytesIO()
    options = {"compression": "tiff_lzw"} if name == "TIFF" else {}
    if suffix == ".gif":
        picture.save(stream, name, save_all=True, append_images=[picture.rotate(90)], duration=50)
    else:
        picture.save(stream, name, **options)
    file.write_bytes(stream.getvalue())


def _write_coded(file: Path, sound: np.ndarray, container: str, codec: str) -> None:
    with av.open(str(file), "w", format=container) as out:
        stream = out.add_stream(codec, rate=48_000 if codec == "libopus" else _RATE, layout="mono")
        _mux_sound(out, stream, sound)


def _mux_sound(out: av.container.OutputContainer, stream: av.audio.stream.AudioStream, sound: np.ndarray) -> None:
    rate = stream.rate
    samples = np.interp(np.arange(0, len(sound), _RATE / rate), np.arange(len(sound)), sound).astype("f4")
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate)
    size = 1024
    fifo = av.AudioFifo()
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    for ready in resampler.resample(frame):
        fifo.write(ready)
    while block := fifo.read(size, partial=True):
        out.mux(stream.encode(block))
    out.mux(stream.encode(None))


def _write_video(file: Path, picture: Image.Image, sound: np.ndarray) -> None:
    video, audio = ("libvpx", "libopus") if file.suffix == ".webm" else ("mpeg4", "aac")
    if file.suffix == ".avi":
        audio = "mp3"
    with av.open(str(file), "w") as out:
        pictures = out.add_stream(video, rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 96, 64, "yuv420p"
        pictures.time_base = Fraction(1, 10)
        sounds = out.add_stream(audio, rate=48_000 if audio == "libopus" else _RATE, layout="mono")
        for number in range(10):
            frame = av.VideoFrame.from_image(picture.rotate(4 * number))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode(None))
        _mux_sound(out, sounds, sound)


def mutated(raw: bytes, others: list[bytes], draws: np.random.Generator) -> tuple[bytes, str]:
    """Damage the bytes of a file.

    Args:
        raw: The file.
        others: Files to splice in.
        draws: Decides what is done, and where.

    Returns:
        The damaged file, and what was done.
    """
    found = bytearray(raw)
    at = int(draws.integers(len(raw)))
    kind = ("flips", "header", "cut", "splice", "zeros", "sizes", "twice", "head of another")[int(draws.integers(8))]
    match kind:
        case "flips":
            for where in draws.integers(len(raw), size=int(2 ** draws.integers(8))):
                found[where] ^= 1 << int(draws.integers(8))
        case "header":
            for where in draws.integers(min(len(raw), 96), size=int(draws.integers(1, 6))):
                found[where] = int(draws.integers(256))
        case "cut":
            del found[at:]
        case "splice":
            other = others[int(draws.integers(len(others)))]
            start = int(draws.integers(len(other)))
            found[at : at + int(draws.integers(2048))] = other[start : start + int(draws.integers(1, 2048))]
        case "zeros":
            length = int(draws.integers(1, max(len(raw) // 4, 2)))
            found[at : at + length] = bytes(len(found[at : at + length]))
        case "sizes":
            value = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0")[int(draws.integers(4))]
            at = at if draws.integers(2) else at % 96
            found[at : at + 4] = value[: len(found[at : at + 4])]
        case "twice":
            found[at:at] = found[max(at - int(draws.integers(1, 4096)), 0) : at]
        case _:
            other = others[int(draws.integers(len(others)))]
            length = int(draws.integers(4, 512))
            found[:length] = other[:length]
    return bytes(found), f"{kind} at {at}"
