"""Emoji people of ten vendors with their skin tones: women, men, girls and boys, head and shoulders.

The corpora of emoji leave skin tones out, since a name is one thing there. Here they are what makes one vendor's man
six people. Whether a picture is of a woman, a man, a girl or a boy is what Unicode says of its code points; of a child
or a person without a gender only the age is known. Couples, families and people with their whole body are left out, and
so are bald heads and women with a beard, in which nothing drawn tells the gender.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.shipped.image_features import crop_to_content
from embedspace.encoders.towers.efficientnet_lite import resize_padded
from embedspace.media.image import load_image
from embedspace.media.write import write_image
from training.corpora.fetch import package
from training.corpora.pictures import emoji
from training.corpora.pictures.normalise import rasterise

__all__ = ["VENDORS", "Person", "Portrait", "build", "person_of", "pictures_of"]

VENDORS = (
    emoji.OPENMOJI, emoji.GOOGLE, emoji.TWITTER, emoji.FLUENT, emoji.FLUENT_FLAT, emoji.EMOJIONE, emoji.EMOJIONE_1,
    emoji.BLOB, emoji.STREAMLINE, emoji.FIREFOX,
)  # fmt: skip

SIDE = 96
_TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}
_PLAIN = {
    "1F466": ("male", "child"), "1F467": ("female", "child"), "1F9D2": ("", "child"), "1F468": ("male", "adult"),
    "1F469": ("female", "adult"), "1F9D1": ("", "adult"), "1F474": ("male", "adult"), "1F475": ("female", "adult"),
    "1F9D3": ("", "adult"),
}  # fmt: skip
_SIGNED = (
    "1F9D4", "1F471", "1F64D", "1F64E", "1F645", "1F646", "1F481", "1F64B", "1F926", "1F937", "1F46E", "1F575", "1F482",
    "1F477", "1F473", "1F935",
)  # fmt: skip
"""People whose gender a sign behind them says: beards, fair hair, gestures, helmets."""
_HAIR = ("1F9B0", "1F9B1", "1F9B3")
_WORK = (
    "2695", "1F393", "1F3EB", "2696", "1F33E", "1F373", "1F527", "1F3ED", "1F4BC", "1F52C", "1F4BB", "1F3A4", "1F3A8",
    "2708", "1F680", "1F692",
)  # fmt: skip
_FACES = ("1F9D4-2642", "1F471-2642", "1F471-2640")
_OTHERS = ("", "medium")
"""Tones of people at work, with gestures and helmets: more of them would outnumber plain heads."""
_SIGNS = {"2642": "male", "2640": "female"}


@dataclass(frozen=True, slots=True)
class Person:
    """What a picture of a person shows.

    Attributes:
        gender: "female", "male", or "" where it is neither.
        age: "adult" or "child".
        tone: Of the skin; "" for the yellow of emoji.
        plain: Nothing but a head, as hair and beards leave it: no work, no gesture.
    """

    gender: str
    age: str
    tone: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Portrait:
    """One picture.

    Attributes:
        path: A PNG.
        vendor: Who drew it.
        licence: SPDX expression.
        person: Whom it shows.
    """

    path: Path
    vendor: str
    licence: str
    person: Person


def person_of(hexcode: str) -> Person | None:
    """Return whom an emoji's code points show; None where it is no single head."""
    parts = hexcode.split("-")
    tones = [part for part in parts if part in _TONES]
    rest = [part for part in parts if part not in _TONES and part != "200D"]
    if len(tones) > 1 or not rest:
        return None
    tone = _TONES[tones[0]] if tones else ""
    if rest[0] in _PLAIN:
        gender, age = _PLAIN[rest[0]]
        if len(rest) == 1 or (len(rest) == 2 and rest[1] in (*_HAIR, *_WORK)):
            return Person(gender, age, tone, plain=len(rest) == 1 or rest[1] in _HAIR)
    elif rest[0] in _SIGNED and len(rest) == 2 and rest[1] in _SIGNS:
        return Person(_SIGNS[rest[1]], "adult", tone, plain="-".join(rest) in _FACES)
    return None


def pictures_of(vendor: emoji.Vendor) -> dict[str, Path | bytes]:
    """Return hexcode -> picture of a vendor's people: plain heads in all skin tones, others in two."""
    found = _toned_icons(vendor) if isinstance(vendor, emoji.IconSet) else vendor.pictures()
    return {code: picture for code, picture in found.items() if (person := person_of(code)) and _wanted(person)}


def _wanted(person: Person) -> bool:
    return person.plain or person.tone in _OTHERS


def build(out: Path) -> list[Portrait]:
    """Write the plain pictures into `out`, `SIDE` pixels wide on white; those that lie there are left as they are."""
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for vendor in VENDORS:
        for code, picture in sorted(pictures_of(vendor).items()):
            path = out / f"{vendor.source}-{code}.png"
            if not path.exists():
                write_image(path, _on_white(picture))
            person = person_of(code)
            assert person is not None, code
            found.append(Portrait(path, vendor.source, vendor.licence or package(vendor.package).licence, person))
    return found


def _on_white(source: Path | bytes) -> NDArray[np.uint8]:
    """Return (SIDE, SIDE, 3) of what a picture shows."""
    drawn = isinstance(source, bytes) or source.suffix == ".svg"
    image = rasterise(source, 2 * SIDE) if drawn else load_image(source)
    return resize_padded(crop_to_content(image), SIDE)


def _toned_icons(vendor: emoji.IconSet) -> dict[str, Path | bytes]:
    """Return hexcode -> SVG of an icon set whose names end in a skin tone; numbered drawings of one emoji all count."""
    tones = {name: code for code, name in _TONES.items()}
    ending = re.compile(rf"-({'|'.join(sorted(tones, key=len, reverse=True))})(?:-skin-tone)?$")
    found: dict[str, Path | bytes] = dict(vendor.pictures())
    for name, svg in vendor.drawings().items():
        match = ending.search(name)
        code = emoji.hexcode_named(name[: match.start()] if match else name)
        if match and code:
            first, *rest = code.split("-")
            found.setdefault("-".join([first, tones[match[1]], *rest]), svg)
    return found
