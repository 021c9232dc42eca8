"""Who speaks: people and synthetic voices of known gender and age, and children made of the adults among them.

What is known of a voice is what its makers say: espeak-ng's and Festival's lists of voices, the names of the readers
in the changelog of Tux Paint's stamps, the folders of the telephone exchange's prompts (`en_US_f_Allison`). Two
speakers of the test are real children by these: Festival's Czech voice krb, whose recordings are a boy's, and the
pupils who read in Portuguese. All others are adults moved in pitch and formants (`training.faces.children`).
"""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import ConfigError, InputError, MissingExtraError
from training.corpora import manifest
from training.corpora.manifest import Item, read_manifest
from training.corpora.sounds.clips import SPEECH_RATE, decode, read_clip, trim_silence
from training.corpora.speech.voices import ENGLISH_ACCENTS, VARIANTS, speak
from training.faces.children import adult_move, by_grains, by_spectrum, child_move, median_pitch

__all__ = ["Speaker", "Utterance", "espeak_genders", "speakers", "utterances"]

Waveform = NDArray[np.float32]
_SECONDS = (2.5, 6.0)
"""An utterance of a recorded speaker: recordings are joined to the first, cut at the second."""
_SENTENCES = (
    "The children walked to the river and looked for small round stones.",
    "My brother keeps two old bicycles in the garden shed.",
    "It rained all morning, but the afternoon was warm and dry.",
    "She opened the window and listened to the birds.",
    "We had bread, cheese and apples for lunch.",
    "The last train leaves at nine, so please do not be late.",
    "He painted the kitchen door a bright shade of green.",
    "A black cat slept on the warm stones of the wall.",
    "They built a boat of wood and sailed across the lake.",
    "Please put the blue cups back on the upper shelf.",
    "In the evening the whole village met near the fountain.",
    "The teacher drew a large circle on the board.",
)
_TEST_SENTENCES = (
    "Every summer our neighbours sell cherries at the side of the road.",
    "The postman left a parcel behind the yellow gate.",
    "He told us a long story about a bear and a bee.",
    "Snow covered the roofs, and the streets were quiet.",
    "You can borrow my umbrella if you bring it back tomorrow.",
    "The soup is too hot to eat, so let it stand a while.",
)
_FESTIVAL = {
    "voice_czech_dita": ("female", "adult", "cs"), "voice_czech_machac": ("male", "adult", "cs"),
    "voice_czech_ph": ("male", "adult", "cs"), "voice_czech_krb": ("male", "child", "cs"),
    "voice_lp_diphone": ("female", "adult", "it"), "voice_pc_diphone": ("male", "adult", "it"),
    "voice_suo_fi_lj_diphone": ("female", "adult", "fi"), "voice_hy_fi_mv_diphone": ("male", "adult", "fi"),
    "voice_upc_ca_ona_hts": ("female", "adult", "ca"), "voice_msu_ru_nsh_clunits": ("male", "adult", "ru"),
}  # fmt: skip
_WORDS = {
    "cs": ("iso-8859-2", (
        "Dobrý den, dnes je venku hezky a půjdeme do lesa.", "Moje sestra má dva psy a jednu starou kočku.",
        "Večer jsme seděli u ohně a zpívali.", "Na stole leží chléb, sýr a červená jablka.",
        "Vlak odjíždí v devět hodin ráno.", "Děti si hrály u řeky celé odpoledne.")),
    "it": ("iso-8859-1", (
        "Buongiorno, oggi il tempo è bello e andiamo nel bosco.", "Mia sorella ha due cani e un vecchio gatto.",
        "La sera siamo stati seduti vicino al fuoco.", "Sul tavolo ci sono pane, formaggio e mele rosse.",
        "Il treno parte alle nove del mattino.", "I bambini hanno giocato al fiume tutto il giorno.")),
    "fi": ("iso-8859-1", (
        "Hyvää päivää, tänään on kaunis ilma ja menemme metsään.", "Siskollani on kaksi koiraa ja vanha kissa.",
        "Illalla istuimme nuotion ääressä ja lauloimme.", "Pöydällä on leipää, juustoa ja punaisia omenoita.",
        "Juna lähtee aamulla kello yhdeksän.", "Lapset leikkivät joen rannalla koko iltapäivän.")),
    "ca": ("iso-8859-1", (
        "Bon dia, avui fa bon temps i anem al bosc.", "La meva germana té dos gossos i un gat vell.",
        "Al vespre vam seure a prop del foc i vam cantar.", "A la taula hi ha pa, formatge i pomes vermelles.",
        "El tren surt a les nou del matí.", "Els nens van jugar al riu tota la tarda.")),
    "ru": ("utf-8", (
        "Добрый день, сегодня хорошая погода, и мы идём в лес.", "У моей сестры две собаки и старая кошка.",
        "Вечером мы сидели у огня и пели песни.", "На столе лежат хлеб, сыр и красные яблоки.",
        "Поезд отправляется в девять часов утра.", "Дети играли у реки весь день.")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody whose gender and age are known.

    Attributes:
        name: "engine:voice", or a speaker of the corpus `speakers`.
        gender: "female" or "male"; of the pupils "", who are girls and boys.
        age: "adult" or "child".
        split: "train", "val" or "test".
        real: A person's recordings as they are.
        count: Utterances.
    """

    name: str
    gender: str
    age: str
    split: str
    real: bool
    count: int


_RECORDED = (
    Speaker("human:tux:be", "female", "adult", "train", True, 90),
    Speaker("human:tux:bg", "male", "adult", "train", True, 90),
    Speaker("human:tux:ro", "female", "adult", "val", True, 12),
    Speaker("human:tux:ru", "male", "adult", "val", True, 12),
    Speaker("human:tux:el", "female", "adult", "test", True, 12),
    Speaker("human:tux:es", "female", "adult", "test", True, 12),
    Speaker("human:tux:da", "male", "adult", "test", True, 12),
    Speaker("human:tux:fr", "male", "adult", "test", True, 12),
    Speaker("human:tux:lt", "male", "adult", "test", True, 12),
    Speaker("human:tux:pt-BR", "", "child", "test", True, 15),
    Speaker("human:asterisk:allison", "female", "adult", "test", True, 12),
    Speaker("human:asterisk:june", "female", "adult", "test", True, 12),
    Speaker("human:asterisk:ivr", "female", "adult", "test", True, 12),
    Speaker("human:asterisk:carlo", "male", "adult", "test", True, 12),
)
_SPOKEN = (
    Speaker("kokoro:jf_alpha", "female", "adult", "train", False, 8),
    Speaker("kokoro:jf_gongitsune", "female", "adult", "train", False, 8),
    Speaker("kokoro:jm_kumo", "male", "adult", "train", False, 8),
    Speaker("kokoro:jf_tebukuro", "female", "adult", "val", False, 6),
    Speaker("kokoro:jf_nezumi", "female", "adult", "test", False, 6),
    Speaker("piper:joe", "male", "adult", "test", False, 6),
    Speaker("flite:slt", "female", "adult", "train", False, 24),
    Speaker("flite:kal", "male", "adult", "train", False, 24),
    Speaker("flite:awb", "male", "adult", "val", False, 12),
    Speaker("flite:rms", "male", "adult", "test", False, 12),
    Speaker("pico:en-GB", "female", "adult", "test", False, 12),
    Speaker("pico:en-US", "female", "adult", "test", False, 12),
    Speaker("espeak:en-gb-scotland+f4", "female", "adult", "test", False, 12),
    Speaker("espeak:en-gb-scotland+adam", "male", "adult", "test", False, 12),
)
_VAL_VARIANTS = ("f5", "steph", "linda", "m8", "robert", "quincy")
_PUPILS = "human:tux:pt-BR"
"""Several children: their recordings are not joined."""
_ODD = ("grandma", "grandpa", "aunty", "shelby")
"""Variants left out: voices of the old, and two that are not what their list says."""


@functools.cache
def espeak_genders() -> dict[str, str]:
    """Return variant -> "female" or "male", as espeak-ng's own list says.

    Raises:
        MissingExtraError: If espeak-ng is not installed.
    """
    try:
        done = subprocess.run(["espeak-ng", "--voices=variant"], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise MissingExtraError("espeak-ng is not installed: apt-get install espeak-ng") from None
    found = {}
    for line in done.stdout.splitlines()[1:]:
        if match := re.search(r"/([MF])\s.*!v/(\S+)", line):
            found[match[2]] = "female" if match[1] == "F" else "male"
    return found


def _espeak_speakers() -> list[Speaker]:
    """Return a speaker per variant, each in one accent or two."""
    genders, made = espeak_genders(), []
    for number, variant in enumerate(VARIANTS):
        if variant in _ODD or variant not in genders:
            continue
        val = variant in _VAL_VARIANTS
        for accent in ENGLISH_ACCENTS[number % 4 :: 4][: 1 if val else 2]:
            name, split = f"espeak:{accent}+{variant}", "val" if val else "train"
            made.append(Speaker(name, genders[variant], "adult", split, False, 4))
    return made


def speakers() -> list[Speaker]:
    """Return all speakers."""
    festival = [Speaker(name, g, age, "test", False, 6) for name, (g, age, _) in _FESTIVAL.items()]
    return [*_RECORDED, *_SPOKEN, *_espeak_speakers(), *festival]


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Some seconds of speech.

    Attributes:
        waveform: (T,) at `SPEECH_RATE`.
        speaker: Whose.
        gender: As the speaker's; of a child made of an adult the adult's.
        age: "adult" or "child".
        how: "real", "synthetic", "moved adult" or "made child".
    """

    waveform: Waveform
    speaker: Speaker
    gender: str
    age: str
    how: str


def utterances(speaker: Speaker) -> Iterator[Utterance]:
    """Yield a speaker's utterances: as they are, and of an adult as many of a child and half as many moved ones.

    Raises:
        ConfigError: If recordings are missing.
        MissingExtraError: If the speaker's program is not installed.
    """
    move = by_grains if speaker.split == "test" else by_spectrum
    for number, waveform in enumerate(_spoken(speaker)):
        generator = np.random.default_rng(zlib.crc32(f"{speaker.name} {number}".encode()))
        plain = "real" if speaker.real else "synthetic"
        pitch = median_pitch(waveform)
        yield Utterance(waveform, speaker, speaker.gender, speaker.age, plain)
        if speaker.age != "adult" or pitch == 0.0:
            continue
        moved = move(waveform, child_move(pitch, speaker.gender, generator))
        yield Utterance(moved, speaker, speaker.gender, "child", "made child")
        if number % 2:
            yield Utterance(move(waveform, adult_move(generator)), speaker, speaker.gender, "adult", "moved adult")


def _spoken(speaker: Speaker) -> Iterator[Waveform]:
    if speaker.name in {one.name for one in _RECORDED}:
        yield from _joined(speaker)
        return
    if speaker.name in _FESTIVAL:
        yield from (_festival(speaker.name, number) for number in range(speaker.count))
        return
    texts = _TEST_SENTENCES if speaker.split == "test" else _SENTENCES
    first = zlib.crc32(speaker.name.encode())
    for number in range(speaker.count):
        yield speak(texts[(first + number) % len(texts)], speaker.name, number)


def _joined(speaker: Speaker) -> Iterator[Waveform]:
    """Yield utterances of recordings one after the other, each of at least some seconds."""
    own = _recordings().get(speaker.name, [])
    if not own:
        raise ConfigError(f"no recordings of {speaker.name}; build them: python -m training.corpora.speech.speakers")
    order = np.random.default_rng(0).permutation(len(own)).tolist()
    parts: list[Waveform] = []
    made = 0
    for place in order:
        parts.append(read_clip(own[place], SPEECH_RATE))
        whole = np.concatenate(parts)
        if len(whole) >= _SECONDS[0] * SPEECH_RATE or speaker.name == _PUPILS:
            yield whole[: int(_SECONDS[1] * SPEECH_RATE)]
            parts, made = [], made + 1
            if made == speaker.count:
                return


@functools.cache
def _recordings() -> dict[str, list[Item]]:
    path = manifest.CORPORA / "speakers" / "people.jsonl"
    if not path.exists():
        raise ConfigError(f"{path}: build it first: python -m training.corpora.speech.speakers")
    found: dict[str, list[Item]] = {}
    for item in read_manifest(path):
        found.setdefault(item.speaker, []).append(item)
    return found


def _festival(voice: str, number: int) -> Waveform:
    encoding, texts = _WORDS[_FESTIVAL[voice][2]]
    text = texts[number % len(texts)]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "text", Path(folder) / "out.wav"
        source.write_bytes(text.encode(encoding))
        try:
            subprocess.run(
                ["text2wave", "-eval", f"({voice})", "-o", str(out), str(source)],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
        except FileNotFoundError:
            raise MissingExtraError("festival is not installed: apt-get install festival and the voice") from None
        except subprocess.CalledProcessError as error:
            raise InputError(f"{voice} could not say {text!r}: {error.stderr.decode(errors='replace')}") from None
        return trim_silence(decode(out, SPEECH_RATE, max_seconds=30.0), SPEECH_RATE)
