"""The hostile files themselves, each with the command that meets it and how that has to end."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.bench.common import wav

__all__ = ["CASES", "Case"]

_SIDE = 13_300


def _nothing(_: Path) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input.

    Attributes:
        name: Shown in the figures.
        make: Writes it into a folder; returns the command's arguments, "{catalog}" for the catalog.
        codes: Exit codes that are right.
        says: Must be in what is printed.
        files: Files that it holds: each may take some seconds.
        after: Says what is wrong with the folder afterwards; empty if nothing is.
    """

    name: str
    make: Callable[[Path], list[str]]
    codes: tuple[int, ...] = (0,)
    says: str = ""
    files: int = 1
    after: Callable[[Path], str] = _nothing


def _index(*paths: Path, more: tuple[str, ...] = ()) -> list[str]:
    return ["index", *map(str, paths), "--catalog", "{catalog}", *more]


def _good(folder: Path) -> Path:
    """A folder with one good text in it: it must be indexed whatever lies beside it."""
    made = folder / "media"
    made.mkdir()
    (made / "good.txt").write_text("a barking dog", "utf-8")
    return made


def _fifo_metadata(folder: Path) -> list[str]:
    os.mkfifo(_good(folder) / "metadata.csv")
    return _index(folder / "media")


def _fifo_manifest(folder: Path) -> list[str]:
    os.mkfifo(folder / "rows.csv")
    return _index(folder / "rows.csv")


def _fifo_media(folder: Path) -> list[str]:
    os.mkfifo(_good(folder) / "pipe.wav")
    return _index(folder / "media")


def _device_manifest(folder: Path) -> list[str]:
    (folder / "rows.jsonl").symlink_to("/dev/zero")
    return _index(folder / "rows.jsonl")


def _device_media(folder: Path) -> list[str]:
    made = _good(folder)
    (made / "zero.png").symlink_to("/dev/zero")
    (made / "metadata.jsonl").symlink_to("/dev/zero")
    return _index(made)


def _links(folder: Path) -> list[str]:
    made = _good(folder)
    (made / "self").symlink_to("self")
    (made / "self.png").symlink_to("self.png")
    (made / "up").symlink_to(made, target_is_directory=True)
    (made / "a").symlink_to("b")
    (made / "b").symlink_to("a")
    return _index(made)


def _deep_folders(folder: Path) -> list[str]:
    made = _good(folder)
    home = os.getcwd()
    try:
        os.chdir(made)
        for _ in range(600):
            os.mkdir("deeper")
            os.chdir("deeper")
        Path("end.txt").write_text("the end", "utf-8")
    finally:
        os.chdir(home)
    return _index(made)


def _odd_names(folder: Path) -> list[str]:
    made = _good(folder)
    for name in (b"line\nbreak.txt", b"\xff\xfe.txt", b"-rf.txt", b"a#b%23.txt", b"\x1b[31m.txt"):
        (Path(os.fsdecode(os.fsencode(made) + b"/" + name))).write_text(f"text {name!r}", "utf-8")
    return _index(made)


def _png_of_nothing(path: Path, side: int, *, whole: bool = True) -> None:
    """Write a PNG of (side, side) black pixels without holding it in memory."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer, rows = zlib.compressobj(9), bytearray(1 + 3 * side)
    rows[1::7] = b"\x60" * len(rows[1::7])
    packed = b"".join(packer.compress(bytes(rows)) for _ in range(side if whole else 10)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b""))


def _large_pictures(folder: Path) -> list[str]:
    made = _good(folder)
    for number in range(4):
        _png_of_nothing(made / f"{number}.png", _SIDE - number)
    return _index(made, more=("--workers", "4"))


def _picture_bombs(folder: Path) -> list[str]:
    made = _good(folder)
    _png_of_nothing(made / "promises.png", 60_000, whole=False)
    _png_of_nothing(made / "cut.png", _SIDE, whole=False)
    (made / "wide.bmp").write_bytes(
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0] * 6)
    )
    (made / "gif.gif").write_bytes(b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf7\0\0" + bytes(768))
    return _index(made)


def _long_recording(folder: Path) -> list[str]:
    """Ten hours of silence with a tone at both ends, in some megabytes."""
    import soundfile

    made = _good(folder)
    tone = (0.3 * np.sin(np.arange(6 * 16_000) * 0.17)).astype(np.float32)
    with soundfile.SoundFile(made / "long.flac", "w", 16_000, 1, "PCM_16") as file:
        file.write(tone)
        for _ in range(600):
            file.write(np.zeros(60 * 16_000, np.float32))
        file.write(tone)
    return _index(made)


def _sound_headers(folder: Path) -> list[str]:
    """Recordings whose headers promise more than there is, at odd rates and widths."""
    made = _good(folder)
    whole = bytearray(wav(np.sin(np.arange(16_000) * 0.1)))
    for number, (at, value) in enumerate(((24, 2**31), (24, 1), (40, 2**32 - 1), (4, 2**32 - 1), (28, 0), (16, 2**31))):
        changed = bytearray(whole)
        changed[at : at + 4] = struct.pack("<I", value)
        (made / f"{number}.wav").write_bytes(changed)
    changed = bytearray(whole)
    changed[22:24] = struct.pack("<H", 65535)
    (made / "channels.wav").write_bytes(changed)
    return _index(made)


def _sparse(folder: Path) -> list[str]:
    """Files of eight gigabytes of nothing, which take no room on the disk."""
    made = _good(folder)
    for name in ("hole.png", "hole.txt", "hole.jpg"):
        with (made / name).open("wb") as file:
            file.truncate(8 << 30)
    return _index(made)


def _postscript(folder: Path) -> list[str]:
    """An EPS named .png; a program named gs waits on the path to be run."""
    made, programs = _good(folder), folder / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {folder}/ran\n", "utf-8")
    (programs / "gs").chmod(0o755)
    (made / "picture.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\nshowpage\n%%EOF\n", "utf-8")
    return _index(made)


def _deep_json(folder: Path) -> list[str]:
    made = folder / "media"
    made.mkdir()
    rows = ['{"text": "good"}', '{"text": "\\ud83d"}', '{"a": ' * 900 + "1" + "}" * 900, "[" * 100_000]
    (made / "rows.jsonl").write_text("\n".join([*rows, '{"text": "good, too"}', ""]), "utf-8")
    return _index(made / "rows.jsonl")


def _deep_json_list(folder: Path) -> list[str]:
    (folder / "rows.json").write_text("[" * 100_000 + "]" * 100_000, "utf-8")
    return _index(folder / "rows.json")


def _odd_tables(folder: Path) -> list[str]:
    made = _good(folder)
    (made / "pandas.csv").write_text(",path,caption\n0,good.txt,a dog\n", "utf-8")
    (made / "nul.csv").write_bytes(b"path,caption\ngood.txt,\0\0\0\n")
    (made / "wide.csv").write_text(",".join(f"c{number}" for number in range(20_000)) + "\n" + "1," * 19_999 + "1\n")
    (made / "cell.csv").write_text('text\n"' + "word " * 200_000, "utf-8")
    names = ("pandas.csv", "nul.csv", "wide.csv")
    return _index(*(made / name for name in names))


def _config(change: dict[str, object]) -> Callable[[Path], list[str]]:
    """A space whose configuration asks for more than its files hold."""

    def make(folder: Path) -> list[str]:
        from embedspace.space import DEFAULT_WEIGHTS

        space = folder / "space"
        shutil.copytree(DEFAULT_WEIGHTS, space)
        config = json.loads((space / "config.json").read_text("utf-8"))
        config["sections"]["image"] |= change
        (space / "config.json").write_text(json.dumps(config), "utf-8")
        _png_of_nothing(folder / "a.png", 64)
        return ["embed", str(folder / "a.png"), "--weights", str(space), "--out", str(folder / "a.npy")]

    return make


def _ghostscript_ran(folder: Path) -> str:
    return "Ghostscript was run" if (folder / "ran").exists() else ""


CASES = [
    Case("a pipe as metadata.csv", _fifo_metadata),
    Case("a pipe as a table", _fifo_manifest, (1, 2), "not a regular file"),
    Case("a pipe as a recording", _fifo_media, says="not a regular file"),
    Case("a device as a table", _device_manifest, (1, 2), "not a regular file"),
    Case("devices as a picture and as metadata", _device_media, says="not a regular file"),
    Case("links to themselves", _links),
    Case("folders 600 deep", _deep_folders),
    Case("odd file names", _odd_names, files=6),
    Case("four pictures of 177 megapixels", _large_pictures, files=4),
    Case("pictures that promise more than they hold", _picture_bombs, files=4),
    Case("ten hours of FLAC", _long_recording, files=6),
    Case("recordings with impossible headers", _sound_headers, files=7),
    Case("eight gigabytes of nothing", _sparse, files=9),
    Case("PostScript named .png", _postscript, after=_ghostscript_ran),
    Case("JSON lines nested deep, and a lone surrogate", _deep_json, files=2),
    Case("a JSON list nested deep", _deep_json_list, (1, 2)),
    Case("odd tables", _odd_tables, files=3),
    Case("a space of a thousand million heads", _config({"members": 1_000_000_000}), (2,)),
    Case("a space 10^12 wide", _config({"hidden_dim": 1_000_000_000_000}), (2,)),
]
