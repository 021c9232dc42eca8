"""Make embedspace/weights/imagenet_classes.json: what the image backbones' classes are called and are kinds of.

    python -m training.convert.imagenet_classes

The classes' WordNet 3.0 numbers, in order, come from timm; plain English names from open_clip; other names and kinds
from WordNet. Only data files of these packages are read: nothing is installed or imported.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from embedspace.encoders.towers.backbone import WEIGHTS
from training.corpora.fetch import read_member, unpacked

__all__ = ["Synset", "hypernyms", "read_nouns"]

TARGET = WEIGHTS.parent / "imagenet_classes.json"
MAX_HYPERNYMS = 5

# Words that name no kind of thing a person would search for.
_TOO_GENERAL_LIST = """
    entity, physical entity, object, whole, matter, substance, artifact, instrumentality, container, device,
    implement, equipment, unit, conveyance, organism, living thing, chordate, vertebrate, placental, commodity,
    consumer goods, covering, abstraction, attribute, relation, measure, psychological feature, communication,
    part, piece, thing, solid, natural object, causal agent, person, creation, product, way, passage, area,
    establishment, place of business, mercantile establishment, instrument, system, mechanism, mechanical
    device, machine, restraint, support, supporting structure, framework, barrier, obstruction, protective
    covering, protective garment, shelter, room, facility, complex, enclosure, surface, plaything, stick, rod,
    bar, strip, sheet, plane figure, shape, natural elevation, geological formation, line, article, ware,
    foodstuff, nutriment, consumables, produce, reproductive structure, plant organ, plant part, natural
    phenomenon, vascular plant, seed plant, fruit, arthropod, invertebrate, carnivore, canine, feline, ungulate,
    even-toed ungulate, odd-toed ungulate, bovid, diapsid, anapsid, eutherian, musteline mammal, plantigrade
    mammal, proboscidean, edentate, procyonid, ruminant, bovine, equine, swine, cetacean, lagomorph, leporid,
    aquatic mammal, aquatic vertebrate, teleost fish, soft-finned fish, spiny-finned fish, bony fish,
    cartilaginous fish, elasmobranch, selachian, ganoid, percoid fish, malacopterygian, acanthopterygian,
    cypriniform fish, cyprinid, saurian, ophidian, colubrid snake, viverrine, pinniped mammal, oscine,
    passerine, coraciiform bird, piciform bird, gallinaceous bird, anseriform bird, apodiform bird, phasianid,
    limicoline bird, charadriiform bird, cuculiform bird, decapod crustacean, gastropod, coelenterate,
    anthozoan, echinoderm, hymenopterous insect, orthopterous insect, dictyopterous insect, homopterous insect,
    dipterous insect, lepidopterous insect, odonate, neuropteron, phasmid, nymphalid, danaid, pierid, primate,
    anthropoid ape, lemuroid, basidiomycete, ascomycete, ratite, chelonian, crocodilian reptile, diapsid
    reptile, arachnid, hydrozoan, higher cognitive process, cognition, event, act, activity, medium, structure,
    construction, instrumentation, assemblage, group, signal, indicator, visual signal, ornamentation,
    appliance, home appliance, durables, electronic device, electrical device, source of illumination, optical
    device, measuring instrument, timer, apparatus, mound, body, force, external body part, body part, organ,
    sensory receptor, worker, operator, craft, vehicle part, wheeled vehicle, self-propelled vehicle, power
    tool, hand tool, edge tool, cutting implement, cutter, lifting device, press, means, impediment, hindrance,
    fastener, attachment, connection, control, regulator, mortal, soul, individual, someone, somebody, young
    mammal, domestic animal, game, eater, adult, contestant, combatant, male, participant, percher, insectivore,
    herbivore, omnivore, female, wildlife, young, offspring, extremity, projection, process, property, stuff,
    starches, cavity, space, region, location, point, end, boundary, edge, sphere, round shape, solid figure,
    amorphous shape, disk, circle, ellipse, metatherian, prototherian, spermatophyte, angiosperm, ambystomid,
    iguanid, agamid, elapid, acarine, archosaur, ornithischian, ceratopsian, malacostracan crustacean,
    sphenisciform seabird, pelecaniform seabird, teiid lizard, anguid lizard, lacertid lizard, scarabaeid
    beetle, lamellicorn beetle, structural member, horizontal surface, movable barrier, data input device, white
    goods, institution, fluid, liquid, course, gear, reproducer, concoction, attire, accessory, opening,
    memorial, transducer, siphonophore, beating-reed instrument, free-reed instrument, lighter-than-air craft,
    heavier-than-air craft, flavorer, ingredient, corvine bird, durable goods, high-angle gun
"""
_TOO_GENERAL = frozenset(" ".join(word.split()) for word in _TOO_GENERAL_LIST.split(","))


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning.

    Attributes:
        offset: Its place in WordNet 3.0, which is its ImageNet number.
        words: Its names, best first.
        parents: Offsets of what it is a kind of.
    """

    offset: int
    words: tuple[str, ...]
    parents: tuple[int, ...]


def read_nouns(path: Path) -> dict[int, Synset]:
    """Read WordNet's data.noun: offset -> synset.

    Source:
        wndb(5WN): `offset file type count word id ... pointers symbol offset pos source ... | gloss`.
    """
    nouns = {}
    with path.open(encoding="ascii") as file:
        for line in file:
            if line.startswith(" "):  # the licence
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
            rest = fields[4 + 2 * count :]
            pointers = [rest[1 + 4 * index : 5 + 4 * index] for index in range(int(rest[0]))]
            nouns[int(fields[0])] = Synset(
                int(fields[0]), words, tuple(int(target) for kind, target, *_ in pointers if kind == "@")
            )
    return nouns


def hypernyms(synset: Synset, nouns: dict[int, Synset]) -> list[str]:
    """Return what a synset is a kind of, the most special first; the too general only if there is nothing else."""

    @cache
    def depth(offset: int) -> int:
        return 1 + max(map(depth, nouns[offset].parents), default=0)

    above = dict.fromkeys(_ancestors(synset, nouns))
    words = [nouns[offset].words[0] for offset in sorted(above, key=depth, reverse=True)]
    own = {word.lower() for word in synset.words}
    good = [word for word in dict.fromkeys(words) if word not in _TOO_GENERAL and word.lower() not in own]
    return good[: MAX_HYPERNYMS + 1] or words[:1]


def _ancestors(synset: Synset, nouns: dict[int, Synset]) -> Iterator[int]:
    for parent in synset.parents:
        yield parent
        yield from _ancestors(nouns[parent], nouns)


def _english(words: tuple[str, ...], known: frozenset[str]) -> list[str]:
    """Drop Latin names: two words, the first a capitalised genus, the second none of WordNet's own."""
    return [w for w in words if not (len(w.split()) == 2 and w[0].isupper() and w.split()[1] not in known)]


def main() -> int:
    """Run the command line."""
    nouns = read_nouns(unpacked("wordnet-base") / "usr/share/wordnet/data.noun")
    known = frozenset(word for synset in nouns.values() for word in synset.words)
    numbers = read_member("timm", "/imagenet_synsets.txt").decode().split()
    module = ast.parse(read_member("open-clip-torch", "/zero_shot_metadata.py"))
    assigned = {
        node.targets[0].id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    names = ast.literal_eval(assigned["IMAGENET_CLASSNAMES"])
    rows = []
    for name, number in zip(names, numbers, strict=True):
        synset = nouns[int(number[1:])]
        synonyms = [word for word in _english(synset.words, known) if word.lower() != name.lower()]
        kinds = [word for word in hypernyms(synset, nouns) if word.lower() != name.lower()]
        rows.append({"name": name, "synonyms": synonyms, "hypernyms": kinds[:MAX_HYPERNYMS], "wnid": number})
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    TARGET.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    sys.stdout.write(f"{TARGET} {len(rows)} classes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
