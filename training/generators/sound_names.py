"""Make the names that films' soundtracks choose among: python -m training.generators.sound_names (some minutes).

    python -m training.generators.sound_names              # into embedspace/weights/soundtrack

Names are those of the sound generator's training items. What bears such a name among the pictures of training and
validation is drawn as it looks in a film (small, turned, before soft colours, coded), and its vectors' mean is put
beside the vector of the name's text. The mean of all such vectors says what a picture cut out of a film has in any
case; half of it is taken out, and half of the mean of whole pictures. Of several sounds of a name that pictures bear
the one comes first that the space hears as most like it. No picture and no sound of a test split takes part.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from embedspace.calibration.centring import centre
from embedspace.errors import MediaError
from embedspace.generate.base import Request
from embedspace.generate.soundtrack.naming import SHIPPED, SoundNames
from embedspace.media.image import open_image
from embedspace.space import EmbeddingSpace
from training.corpora.manifest import CORPORA, Item, read_manifest
from training.corpora.video.scenes import SIZE, thing_picture

__all__ = ["film_picture", "items_by_name", "name_of", "pictured_items"]

SOURCES = ("stamps", "emoji-google", "openmoji", "emoji-fluent", "emoji-blob", "openclipart", "art4apps")
SEED = 0
_OF_A_SOURCE, _OF_A_NAME = 3, 7
"""Pictures of a name that are taken at most."""
_PICTURES = 0.5
"""Weight of a name's pictures beside its text: 0, 0.5 and 1 were tried, see training/LOG.md."""
_CUT = 0.5
"""Share of the mean of cut-out pictures in what is taken out; the rest is that of whole ones."""
_HEARD = 6
"""Sounds of a name that are listened to at most; the others come after them."""

Rows = NDArray[np.float32]


def name_of(caption: str) -> str:
    """Return the name in a caption of a sound: an instrument's, whatever it plays."""
    return re.sub(r" playing a (melody|chord)$", "", caption)


def items_by_name(captions: Sequence[str], items: Sequence[str]) -> dict[str, list[str]]:
    """Return name -> its training items, those first that are called by it alone."""
    found: dict[str, list[str]] = {}
    for plain in (True, False):
        for caption, item in zip(captions, items, strict=True):
            if (name_of(caption) == caption) == plain:
                found.setdefault(name_of(caption), []).append(item)
    return dict(sorted(found.items()))


def _plain(name: str) -> str:
    return re.sub(r"^(a|an|the|some) ", "", name.casefold().strip())


def pictured_items(names: Sequence[str], rng: np.random.Generator) -> dict[str, list[Item]]:
    """Return name -> pictures of training and validation that bear it, drawn from several sources."""
    wanted = {_plain(name): name for name in names}
    found: dict[str, list[Item]] = {}
    for source in SOURCES:
        for item in read_manifest(CORPORA / source / "manifest.jsonl"):
            if item.split in ("train", "val") and not item.extra.get("symbol"):
                own = {_plain(item.concept), *(_plain(caption) for caption in item.captions[:1])}
                for name in sorted(own & set(wanted)):
                    found.setdefault(wanted[name], []).append(item)
    return {name: list(_some(items, rng)) for name, items in found.items()}


def _some(items: Sequence[Item], rng: np.random.Generator) -> Iterator[Item]:
    taken: dict[str, int] = {}
    for k in rng.permutation(len(items)):
        source = items[k].source
        if taken.get(source, 0) < _OF_A_SOURCE and sum(taken.values()) < _OF_A_NAME:
            taken[source] = taken.get(source, 0) + 1
            yield items[k]


def film_picture(path: Path, rng: np.random.Generator) -> Image.Image:
    """Return a thing as it is cut out of a film: with what is around it, coded."""
    thing = thing_picture(path).rotate(rng.uniform(-12, 12), expand=True)
    colours = rng.integers(70, 230, 3) + rng.normal(0, 30, (4, 5, 3))
    frame = Image.fromarray(colours.clip(0, 255).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    left, top = int(rng.integers(20, SIZE[0] - 60)), int(rng.integers(10, SIZE[1] - 50))
    frame.paste(thing, (left, top), thing)
    coded = io.BytesIO()
    frame.save(coded, "JPEG", quality=45)
    frame = open_image(coded).convert("RGB")
    half = max(thing.size) * rng.uniform(1.2, 1.6) / 2
    x, y = left + thing.width / 2 + rng.normal(0, 2), top + thing.height / 2 + rng.normal(0, 2)
    box = (max(0.0, x - half), max(0.0, y - half), min(SIZE[0], x + half), min(SIZE[1], y + half))
    return frame.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))


def looks_of(
    space: EmbeddingSpace, pictures: Mapping[str, Sequence[Item]], rng: np.random.Generator
) -> dict[str, Rows]:
    """Return name -> (V, embed_dim) vectors of its pictures as films show them."""
    rows = {}
    for name, items in pictures.items():
        drawn = []
        for item in items:
            try:
                drawn.append(film_picture(CORPORA / item.path, rng))
            except (MediaError, ValueError) as error:
                print(f"{item.id}: left out: {error}")
        if drawn:
            rows[name] = space.encode_image(drawn)
    return rows


def ordered(space: EmbeddingSpace, name: str, items: Sequence[str]) -> list[str]:
    """Return the training items of a name, the one first that the space hears as most like it."""
    if len(items) < 2:
        return list(items)
    generator: Any = space.generators["audio"]
    known = generator.neighbours
    heard = list(items[:_HEARD])
    latents = known.latents[torch.tensor([known.items.index(item) for item in heard])]
    with torch.inference_mode():
        media = generator.to_media(generator.autoencoder.decode(latents), Request())
    means = space.calibration.means
    rows = centre(space.encode_audio([wave for wave, _ in media], media[0][1]), "audio", means)
    cosines = rows @ centre(space.encode_text([name]), "text", means)[0]
    order = np.argsort(-cosines, kind="stable")
    return [heard[k] for k in order] + list(items[_HEARD:])


def made_names(space: EmbeddingSpace) -> tuple[SoundNames, list[str]]:
    """Return the names, and the pictures that they were made with."""
    generator: Any = space.generators["audio"]
    rng, known = np.random.default_rng(SEED), generator.neighbours
    own = items_by_name(known.captions, known.items)
    names, means = list(own), space.calibration.means
    pictures = pictured_items(names, rng)
    looks = looks_of(space, pictures, rng)
    cut = np.concatenate(list(looks.values())).mean(axis=0)
    middle = _CUT * cut + (1 - _CUT) * np.asarray(means["image"], np.float32)
    vectors = centre(space.encode_text(names), "text", means)
    for name, rows in looks.items():
        place = names.index(name)
        seen = _unit(_unit(rows - middle).mean(axis=0))
        vectors[place] = _unit(vectors[place] + _PICTURES * seen)
    items = [ordered(space, name, own[name]) if name in looks else own[name] for name in names]
    taken = sorted(item.id for some in pictures.values() for item in some)
    encoder = space.fingerprints()["image"]
    made = SoundNames(tuple(names), tuple(map(tuple, items)), vectors, middle.astype(np.float32), encoder)
    return made, taken


def _unit(rows: Rows) -> Rows:
    unit: Rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit


def main() -> None:
    """Make them, and write them."""
    parser = argparse.ArgumentParser(description="Make the names that films' soundtracks choose among.")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    out = parser.parse_args().out
    made, pictures = made_names(EmbeddingSpace.from_pretrained())
    made.save(out, {"seed": SEED, "pictures": pictures})
    print(f"{out}: {len(made.names)} names, {len(pictures)} pictures")


if __name__ == "__main__":
    main()
