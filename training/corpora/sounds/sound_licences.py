"""The licence of single sounds, and whom it asks to name, where a package says so file by file."""

from __future__ import annotations

import functools
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass

from training.corpora.fetch import unpacked

__all__ = [
    "UNCLEAR",
    "Stanza",
    "copyright_stanzas",
    "licence_of_opensfx",
    "licence_of_sonic_pi",
    "listed_licence",
    "parse_credit",
]

UNCLEAR = "NOASSERTION"
"""SPDX's word for a licence that cannot be stated with certainty: such a sound trains, and no copy of it ships."""

_LISTED = {
    "gcompris canal_lock/door_open": (
        "CC0-1.0",
        "lolamadeus, https://www.freesound.org/people/lolamadeus/sounds/161228/",
    ),
    "gcompris canal_lock/door_close": (
        "CC0-1.0",
        "lolamadeus, https://www.freesound.org/people/lolamadeus/sounds/161230/",
    ),
    "gcompris money/money1": (
        "CC0-1.0",
        "florian_reinke, https://www.freesound.org/people/florian_reinke/sounds/63523/",
    ),
    "gcompris money/money2": ("CC0-1.0", "keweldog, https://www.freesound.org/people/keweldog/sounds/181761/"),
    "gcompris redraw/eraser": ("CC0-1.0", "esperri, https://www.freesound.org/people/esperri/sounds/119143/"),
    "gcompris redraw/brush": ("CC0-1.0", "acrober, https://freesound.org/people/acrober/sounds/86113/"),
    "gcompris core/win": (
        "CC-BY-3.0",
        "Gabriel Araujo, https://www.freesound.org/people/GabrielAraujo/sounds/242501/",
    ),
    "gcompris align4_2players/slide": (
        "CC-BY-3.0",
        "a mix of kwahmah_02, https://www.freesound.org/people/kwahmah_02/sounds/251366/ (CC-BY-3.0) and jberkuta14, "
        "https://www.freesound.org/people/jberkuta14/sounds/134894/ (CC0-1.0)",
    ),
    "gcompris canal_lock/water_fill": (
        "CC-BY-3.0",
        "inchadney, https://www.freesound.org/people/inchadney/sounds/34681/",
    ),
    "gcompris canal_lock/lock": ("CC-BY-3.0", "MAJ061785, https://www.freesound.org/people/MAJ061785/sounds/85533/"),
    "gcompris guessnumber/helicopter": (
        "CC-BY-3.0",
        "fridobeck, https://www.freesound.org/people/fridobeck/sounds/194250/",
    ),
    "gcompris memory/card_flip": ("CC-BY-3.0", "f4ngy, https://freesound.org/people/f4ngy/sounds/240776/"),
    "gcompris reversecount/icy_walk": (
        "CC-BY-3.0",
        "tim.kahn, https://www.freesound.org/people/Corsica_S/sounds/28662/",
    ),
    "gcompris scalesboard/metal_hit": (
        "CC-BY-3.0",
        "jorickhoofd, https://www.freesound.org/people/jorickhoofd/sounds/160045/",
    ),
    "gcompris target/arrow": (
        "CC-BY-3.0",
        "a mix of gezortenplotz, https://www.freesound.org/people/gezortenplotz/sounds/20131/ (CC-BY-3.0) and "
        "Consul92, https://www.freesound.org/people/Consul92/sounds/171306/ (CC0-1.0)",
    ),
    "gcompris traffic/car": ("CC-BY-3.0", "henrique85n, https://www.freesound.org/people/henrique85n/sounds/160442/"),
    "freedesktop bell": ("CC-BY-3.0", "Dr. Richard Boulanger et al"),
    "freedesktop complete": ("CC-BY-3.0", "Dr. Richard Boulanger et al"),
    "freedesktop trash-empty": ("CC-BY-3.0", "Dr. Richard Boulanger et al"),
}
"""Source and stem -> licence and author of files that the package's copyright file names one by one and whose licence
allows copies without sharing alike; other files keep what the package says of all."""

_SHORT_NAMES = {"CC0": "CC0-1.0"}
"""Debian's short name of a licence -> SPDX's, where they differ."""

_BREAKS = ("loop_amen", "loop_amen_full")
"""Cut from a commercial recording of 1969 ("Amen, Brother", The Winstons). Who uploaded them called them CC0; that word
cannot bind those who played."""


@dataclass(frozen=True, slots=True)
class Stanza:
    """What a Debian copyright file says of some files.

    Attributes:
        files: Patterns.
        licence: Short name.
        copyright: Who holds it, one a line.
        source: Where it is from; empty where the file does not say.
    """

    files: tuple[str, ...]
    licence: str
    copyright: str
    source: str


def copyright_stanzas(text: str) -> Iterator[Stanza]:
    """Yield the stanzas of a machine-readable Debian copyright file that speak of files.

    Source: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line.strip()
            elif re.match(r"[\w-]+:", line):
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        if fields.get("Files"):
            yield Stanza(
                tuple(fields["Files"].split()),
                fields.get("License", "").split("\n")[0].strip(),
                fields.get("Copyright", "").strip(),
                fields.get("Source", fields.get("Comment", "")),
            )


@functools.cache
def _sonic_pi() -> dict[str, Stanza]:
    path = unpacked("sonic-pi-samples") / "usr/share/doc/sonic-pi-samples/copyright"
    stanzas = copyright_stanzas(path.read_text("utf-8"))
    return {file: stanza for stanza in stanzas for file in stanza.files}


def licence_of_sonic_pi(stem: str) -> tuple[str, str]:
    """Return licence and credit of one of Sonic Pi's samples.

    Debian's copyright file names most samples one by one, each with its author and CC0. All others fall to its pattern
    "*", which is the program's (MIT, Samuel Aaron), while the samples' own README calls them CC0 of another author:
    unclear.
    """
    stanza = _sonic_pi().get(f"etc/samples/{stem}.flac")
    if stanza is None or stem in _BREAKS:
        return UNCLEAR, ""
    return _SHORT_NAMES.get(stanza.licence, stanza.licence), ", ".join(filter(None, (stanza.copyright, stanza.source)))


def listed_licence(source: str, stem: str) -> tuple[str, str]:
    """Return licence and credit of a file of GCompris or the freedesktop theme; empty ones for that of the package."""
    return _LISTED.get(f"{source} {stem}", ("", ""))


def parse_credit(title: str) -> tuple[str, str]:
    """Return licence and credit that a title such as '"Cow". By x. License: Creative Commons Zero 1.0.' names.

    The collection as a whole is CC BY-SA 3.0; each sound stays under what its author gave it. A title that names a
    file it was made from and not by whom cannot be credited: unclear.
    """
    before, _, after = title.partition("License:")
    credit = before.split('".', 1)[-1].strip()
    for words, licence in (
        ("Attribution-ShareAlike 3.0", "CC-BY-SA-3.0"),
        ("Attribution 3.0", "CC-BY-3.0"),
        ("Zero 1.0", "CC0-1.0"),
    ):
        if words in after:
            nameless = licence != "CC0-1.0" and re.search(r'"[^"]+\.(?:wav|ogg|aif|flac|mp3)"(?! by )', credit)
            return (UNCLEAR if nameless else licence), credit
    return "", ""


@functools.cache
def _addresses() -> dict[str, str]:
    """Return name of an original sound -> its address, from the credits in OpenSFX's README."""
    readme = unpacked("openttd-opensfx") / "usr/share/doc/openttd-opensfx/readme.txt.gz"
    listed = gzip.decompress(readme.read_bytes()).decode("utf-8").split("4.1) Sound credits")[-1]
    return dict(re.findall(r"\* \"?([^\n\"]+?)\"?\n\s+(https://\S+)", listed))


def licence_of_opensfx(title: str) -> tuple[str, str]:
    """Return licence and credit of one of OpenSFX's sounds, with the addresses of what it was made from."""
    licence, credit = parse_credit(title)
    originals = [_addresses()[name] for name in re.findall(r'"([^"]+)"', credit) if name in _addresses()]
    return licence, " ".join([credit, *originals])
