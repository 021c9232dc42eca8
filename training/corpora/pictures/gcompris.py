"""GCompris: photos and drawings that its activities name, out of Qt resource files, and its word lists.

A picture's file name is its label, after the corrections in `_LABELS`. The word lists of the activity `lang` become
text items with translations. Licences differ file by file: they are looked up in Debian's copyright file.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from training.corpora.fetch import unpacked
from training.corpora.manifest import Item
from training.corpora.pictures.normalise import convert_named
from training.corpora.pictures.rcc import read_rcc
from training.corpora.pictures.stamps import LANGUAGES
from training.corpora.text.words import clean_caption, concept_of

__all__ = ["PACKAGES", "SOURCE", "VERSION", "build", "label_of", "licence_of", "resources"]

SOURCE = "gcompris"
PACKAGES = ("gcompris-qt-data",)
VERSION = 1

_FOLDERS = (
    "lang/words_sample", "explore_farm_animals/animals", "explore_world_animals/animals", "explore_monuments/",
    "instruments/", "erase/", "babymatch/images", "babyshapes/food", "categorization/images/others",
    "categorization/images/fishes", "categorization/images/monuments", "categorization/images/renewable",
    "categorization/images/tools", "colors/", "advanced_colors/", "family/", "memory/", "solar_system/",
    "railroad/loco", "railroad/wagon",
)  # fmt: skip
_LEFT_OUT = re.compile(
    r"background|transparent|question|map$|key$|error|backcard|emptycard|tux|rings|navajo|explore|rail.*bg|monument$|"
    r"(?:germany|france|india|egypt|usa)$|farm animals|check|light.?house.*bg|postpoint|windflag|sound$|louis|"
    r"(?:instruments|erase|colors|advanced colors|family|memory|solar system)$"
)
_LABELS = {
    "arcdetriomphe": "Arc de Triomphe", "ajanta cave": "Ajanta caves", "arles amphitheater": "Arles amphitheatre",
    "bayterek": "Bayterek tower", "bluebaby": "baby in blue", "bulb": "light bulb", "burj": "Burj Khalifa",
    "buffetset": "buffet set", "chamaeleon": "chameleon", "blackslate": "black slate", "christ the redeemer":
    "Christ the Redeemer statue", "dragon": "dragon", "eggpot": "egg cup", "empire state": "Empire State Building",
    "fish": "fish", "fishingboat": "fishing boat", "flowerpot": "flower pot", "flute traversiere": "transverse flute",
    "football": "football", "french croissant": "croissant", "fusee": "rocket", "greenbaby": "baby in green",
    "geothermal": "geothermal power plant", "horn": "french horn", "juche tower": "Juche tower",
    "kutub minar": "Qutub Minar", "le musee": "museum", "lifebuoy": "lifebuoy", "loco": "locomotive", "marmelade":
    "marmalade", "minivan": "minivan", "mont st michel": "Mont-Saint-Michel", "monument": "monument", "mauve": "mauve",
    "opera house": "Sydney Opera House", "orange color": "orange", "plier": "pliers", "postcard": "postcard",
    "rape": "grater", "raquette": "tennis racket", "redbird": "red bird", "sailingboat": "sailing boat",
    "screw driver": "screwdriver", "side cutter": "side cutter", "solar": "solar panels", "statueof liberty":
    "Statue of Liberty", "gatewayof india": "Gateway of India", "great wallof china": "Great Wall of China",
    "great wall": "Great Wall of China", "canyonde chelly": "Canyon de Chelly", "castillode san marcos":
    "Castillo de San Marcos", "chateaude chambord": "Château de Chambord", "chateaude chenonceau":
    "Château de Chenonceau", "citede carcassonne": "walled city of Carcassonne", "palaisdes papes":
    "Palace of the Popes",
    "pontdu gard": "Pont du Gard aqueduct", "cathedral": "cathedral", "us capitol": "United States Capitol", "wagon":
    "railroad car", "zimni palace": "Winter Palace", "windmill": "wind turbines", "dam": "dam", "tweezer": "tweezers",
    "weighing machine": "weighing scale", "old man": "old man", "old woman": "old woman", "bluebirds": "blue birds",
    "parthenon": "Parthenon temple", "petra": "Petra", "cabrillo": "Cabrillo national monument",
}  # fmt: skip


@functools.cache
def resources(activity: str) -> dict[str, bytes]:
    """Return the files of one activity: path below its `resource/` (or its own folder) -> content."""
    path = unpacked(PACKAGES[0]) / f"usr/share/gcompris-qt/rcc/{activity}.rcc"
    return {
        name.rpartition(f"/{activity}/")[2].removeprefix("resource/"): data for name, data in read_rcc(path).items()
    }


@functools.cache
def _stated_licences() -> list[tuple[list[str], str]]:
    text = (unpacked(PACKAGES[0]) / "usr/share/doc/gcompris-qt-data/copyright").read_text(encoding="utf-8")
    stated = []
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:\s*(.*?)(?=^\w[\w-]*:)", paragraph, re.MULTILINE | re.DOTALL)
        licence = re.search(r"^License:\s*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            # Pictures were converted to WebP after the file was written: suffixes are not compared.
            patterns = [re.sub(r"\.\w+$", "", pattern) for pattern in files[1].split()]
            stated.append((patterns, licence[1].strip()))
    return stated


def licence_of(activity: str, name: str) -> str:
    """Return the licence that Debian's copyright file states for a resource; the last paragraph that fits rules."""
    path = re.sub(r"\.\w+$", "", f"src/activities/{activity}/resource/{name}")
    found = "GPL-3+"
    for patterns, licence in _stated_licences():
        if any(fnmatchcase(path, pattern) for pattern in patterns):
            found = licence
    return {"GPL-3+": "GPL-3.0-or-later", "GPL-2+": "GPL-2.0-or-later", "GPL-3": "GPL-3.0-only"}.get(found, found)


def label_of(name: str) -> str:
    """Return the English label that a file name stands for; "" if the picture has none."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", Path(name).stem.replace("_", " ").replace("-", " "))
    words = re.sub(r"^\d+ ?|\s*\d+$", "", words).strip().casefold()
    if not words or (_LEFT_OUT.search(words) and words not in _LABELS):
        return ""
    return _LABELS.get(words, words)


def _pictures() -> Iterator[tuple[str, str, bytes]]:
    """Yield (activity, path, content) of the pictures whose names are labels."""
    for activity in dict.fromkeys(folder.split("/")[0] for folder in _FOLDERS):
        for name, content in sorted(resources(activity).items()):
            wanted = any(f"{activity}/{name}".startswith(folder) for folder in _FOLDERS)
            if wanted and name.endswith((".webp", ".svg", ".png", ".jpg")):
                yield activity, name, content


def _words() -> dict[str, dict[str, str]]:
    """Return key -> language -> word, of the activity `lang`."""
    found: dict[str, dict[str, str]] = {}
    for language in ("en", *LANGUAGES):
        content = resources("lang").get(f"content-{language}.json")
        for key, word in json.loads(content or "{}").items():
            if word:
                found.setdefault(Path(key).stem, {})[language] = clean_caption(word)
    return {key: words for key, words in found.items() if "en" in words}


def build(out: Path) -> list[Item]:
    """Normalise the pictures into `out/files` and return them and the words.

    `extra` has: activity, captions (language -> word), weight.
    """
    words, found, seen = _words(), [], set()
    for activity, name, content in _pictures():
        stem = f"{activity}/{Path(name).with_suffix('').as_posix()}"
        key = Path(name).stem
        label = words[key]["en"] if activity == "lang" and key in words else label_of(name)
        if label and stem not in seen:
            seen.add(stem)
            found.append((stem, activity, name, label, content))
    failed = convert_named(SOURCE, out, {stem: content for stem, *_, content in found})
    counts = Counter(concept_of(label) for *_, label, _ in found)
    pictures = [
        Item(
            id=f"{SOURCE}/{stem}",
            modality="image",
            path=f"{SOURCE}/files/{stem}.png",
            captions=(label,),
            concept=concept_of(label),
            source=SOURCE,
            licence=licence_of(activity, name),
            extra={
                "activity": activity,
                "captions": words.get(Path(name).stem, {}) if activity == "lang" else {},
                "weight": round(
                    min(1.0, 4 / counts[concept_of(label)]) * (0.1 if activity == "advanced_colors" else 1), 4
                ),
            },
        )
        for stem, activity, name, label, _ in found
        if stem not in failed
    ]
    return pictures + [_word_item(key, translations) for key, translations in words.items()]


def _word_item(key: str, translations: dict[str, str]) -> Item:
    others = {language: word for language, word in translations.items() if language != "en"}
    return Item(
        id=f"{SOURCE}/words/{key}",
        modality="text",
        text=translations["en"],
        captions=(translations["en"],),
        concept=concept_of(translations["en"]),
        source=SOURCE,
        licence="GPL-3.0-or-later",
        extra={"captions": others},
    )
