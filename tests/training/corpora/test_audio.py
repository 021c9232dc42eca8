"""Sound and speech corpora: labels, clips, copies, texts, voices, augmentation, splits."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedspace.errors import InputError, MediaError, MissingExtraError
from training.corpora import manifest
from training.corpora.manifest import Item, write_manifest
from training.corpora.sounds import effects as sounds
from training.corpora.sounds import instruments, sound_origins
from training.corpora.sounds.clips import (
    SPEECH_RATE,
    ShardWriter,
    decode,
    read_clip,
    resample,
    trim_silence,
    write_clip,
)
from training.corpora.speech import human, voices
from training.corpora.speech import synthetic as speech
from training.corpora.speech.augment import augment, with_noise
from training.corpora.speech.neural_voices import kokoro_phonemes, piper_ids
from training.corpora.speech.recordings import same_recording
from training.corpora.text import captions, dictionaries, translations
from training.corpora.text.captions import Text, sayable
from training.corpora.text.dictionaries import parse_dictd
from training.corpora.text.translations import parse_cldr

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
"""Digits of dictd's numbers."""


def tone(frequency: float, seconds: float, rate: int = SPEECH_RATE) -> np.ndarray:
    return np.asarray(0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate), np.float32)


@pytest.fixture
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(manifest, "CORPORA", tmp_path)
    return tmp_path


# clips


def test_read_clip_returns_shard_and_file_alike(corpora: Path) -> None:
    first, second = tone(440, 0.5), tone(220, 0.25)
    with ShardWriter(corpora / "speech/a.npy") as shard:
        paths = [shard.append(first), shard.append(second)]
    write_clip(corpora / "sounds/b.flac", second, SPEECH_RATE)
    extra = {"sample_rate": SPEECH_RATE}
    assert paths[1] == "speech/a.npy#8000:12000"
    for path, expected in ((paths[0], first), (paths[1], second), ("sounds/b.flac", second)):
        waveform = read_clip(Item("x", "audio", path=path, extra=extra))
        np.testing.assert_allclose(waveform, expected, atol=1e-4)
    assert len(read_clip(Item("x", "audio", path=paths[0], extra=extra), sample_rate=8_000)) == 4_000


def test_read_clip_without_shard_is_a_media_error(corpora: Path) -> None:
    with pytest.raises(MediaError, match="build the corpus again"):
        read_clip(Item("x", "speech", path="speech/gone.npy#0:1", extra={"sample_rate": SPEECH_RATE}))


def test_shard_writer_leaves_no_file_after_an_error(corpora: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(corpora / "a.npy") as shard:
        shard.append(tone(440, 0.1))
        raise RuntimeError
    assert not (corpora / "a.npy").exists()


def test_decode_refuses_what_is_no_sound() -> None:
    with pytest.raises(MediaError, match="not a sound file"):
        decode(b"no sound at all", SPEECH_RATE)


def test_trim_silence_keeps_a_tenth_of_a_second() -> None:
    silence = np.zeros(SPEECH_RATE, np.float32)
    trimmed = trim_silence(np.concatenate([silence, tone(440, 0.5), silence]), SPEECH_RATE)
    assert len(trimmed) == pytest.approx(0.7 * SPEECH_RATE, abs=0.02 * SPEECH_RATE)
    assert len(trim_silence(silence, SPEECH_RATE)) == len(silence)


# same recordings


def test_same_recording_finds_a_quieter_resampled_padded_copy() -> None:
    generator = np.random.default_rng(0)
    rate = 44_100
    envelope = np.exp(-np.arange(rate) / 8_000)
    sound, other = (np.asarray(0.3 * envelope * generator.standard_normal(rate), np.float32) for _ in range(2))
    copy = resample(resample(sound, rate, 22_050), 22_050, rate) * 0.2
    padded = np.concatenate([np.zeros(3_000, np.float32), copy, np.zeros(9_000, np.float32)])
    assert same_recording([sound, other, padded], rate) == [(0, 2)]


# labels of sounds


def test_read_labels_gives_english_captions_for_every_pattern() -> None:
    labels = sounds.read_labels()
    assert {label.source for label in labels} == set(sound_origins.ORIGINS)
    assert all(label.captions[0] for label in labels if label.concept)
    assert all(label.concept == label.concept.lower().strip() for label in labels)


@pytest.mark.parametrize(
    ("source", "name", "concept", "caption"),
    [
        ("sonicpi", "bd_haus", "bass drum", "a bass drum"),
        ("wesnoth", "dagger-swish", "dagger", "a dagger"),
        ("widelands", "wolf_01", "wolf", "a wolf"),
        ("gcompris", "memory-sound/LRBark_1_LA_cut", "dog", "a dog"),
    ],
)
def test_label_of_turns_file_names_into_phrases(source: str, name: str, concept: str, caption: str) -> None:
    label = sounds.label_of(sounds.read_labels(), source, name)
    assert label is not None
    assert (label.concept, label.captions[0], label.abstract) == (concept, caption, False)


def test_label_of_leaves_spoken_prompts_out_and_marks_loops() -> None:
    labels = sounds.read_labels()
    assert sounds.label_of(labels, "freedesktop", "audio-channel-side-left") is None
    loop = sounds.label_of(labels, "sonicpi", "loop_garzul")
    assert loop is not None and loop.abstract


def test_parse_cat_reads_title_and_wav() -> None:
    wav = b"RIFF" + (4).to_bytes(4, "little") + b"WAVE"
    title = b'"Cow". By nobody.\0'
    entry = bytes([len(title)]) + title + wav + b"\0"
    # The first offset has the highest bit set, as the old format does; its value is also the size of the index.
    index = (8 | 1 << 31).to_bytes(4, "little") + len(wav).to_bytes(4, "little")
    assert list(sound_origins.parse_cat(index + entry)) == [('"Cow". By nobody.', wav)]


# instruments


def test_instruments_are_those_of_general_midi() -> None:
    rows = instruments.instruments()
    assert [row.number for row in rows if row.kind == "program"] == list(range(128))
    assert [row.number for row in rows if row.kind == "drum"] == list(range(35, 82))
    assert {row.concept for row in rows} >= {"violin", "piano", "trumpet", "snare drum"}


def test_midi_file_encodes_one_note() -> None:
    content = instruments.midi_file([instruments.Note(0, 1, 60)], 40)
    assert content[:4] == b"MThd"
    # Program 40, note on, 480 ticks as a variable-length quantity, note off, end of track.
    assert content.endswith(bytes.fromhex("00c028 00903c64 8360803c00 00ff2f00"))


# human recordings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog_desc_fr.ogg", ("dog", "fr")),
        ("dog_desc.ogg", ("dog", "en")),
        ("egg_plant_desc_pt_BR.wav", ("egg_plant", "pt-BR")),
        ("dog.ogg", None),
        ("dog_desc_da.ogg.ogg", None),
    ],
)
def test_language_of_reads_file_names(name: str, expected: tuple[str, str] | None) -> None:
    assert human.language_of(name) == expected


def test_split_of_keeps_human_english_for_tests() -> None:
    assert human.split_of("en", "train") == "test"
    assert human.split_of("fr", "train") == "train"
    assert human.split_of("fr", "test") == "test"


# texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red umbrella", True),
        ("merry-go-round", True),
        ("img_0123", False),
        ("x", False),
        ("one two three four", False),
    ],
)
def test_sayable_wants_words(text: str, expected: bool) -> None:
    assert sayable(text, max_words=3) is expected


def test_parse_cldr_keeps_spoken_names_only(tmp_path: Path) -> None:
    path = tmp_path / "fr.xml"
    path.write_text(
        "<ldml><annotations>"
        '<annotation cp="🐕">animal | chien</annotation><annotation cp="🐕" type="tts">chien</annotation>'
        '<annotation cp="👋🏽" type="tts">bonjour : peau mate</annotation>'
        '<annotation cp="🇫🇷" type="tts">drapeau : France</annotation>'
        '<annotation cp="🐈" type="tts">↑↑↑</annotation>'
        "</annotations></ldml>",
        encoding="utf-8",
    )
    assert parse_cldr(path) == {"🐕": "chien"}


def test_parse_dictd_reads_offsets_in_base_64(tmp_path: Path) -> None:
    entries = ["cat /kat/\nchat\n", "dog /dɔg/\n1. chien, toutou\n2. mâle\n"]
    content = "".join(entries).encode()
    start, length = len(entries[0].encode()), len(entries[1].encode())
    index = tmp_path / "x.index"
    index.write_text(f"00database\tA\tA\ncat\tA\t{LETTERS[start]}\ndog\t{LETTERS[start]}\t{LETTERS[length]}\n")
    dictionary = tmp_path / "x.dict.dz"
    dictionary.write_bytes(gzip.compress(content))
    assert list(parse_dictd(index, dictionary)) == [("cat", entries[0]), ("dog", entries[1])]
    assert dictionaries._senses(entries[1]) == ["chien", "toutou", "mâle"]


def _dictd(folder: Path, pair: str, entries: dict[str, str]) -> None:
    """Write a FreeDict dictionary as its package unpacks to."""
    home = folder / f"dict-freedict-{pair}/usr/share/dictd"
    home.mkdir(parents=True)
    index, content = [], b""
    for headword, definition in entries.items():
        raw = definition.encode()
        numbers = ("".join(LETTERS[n // 64**k % 64] for k in (2, 1, 0)) for n in (len(content), len(raw)))
        index.append("\t".join((headword, *numbers)))
        content += raw
    (home / f"freedict-{pair}.index").write_text("\n".join(index) + "\n", encoding="utf-8")
    (home / f"freedict-{pair}.dict.dz").write_bytes(gzip.compress(content))


@pytest.fixture
def freedict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the packages of a test's dictionaries unpack to; no cache outlives it."""
    monkeypatch.setattr(dictionaries, "unpacked", lambda name: tmp_path / name)
    dictionaries._first_senses.cache_clear()
    yield tmp_path
    dictionaries._first_senses.cache_clear()


def test_dictionary_goes_by_way_of_a_third_language_and_keeps_nouns(freedict: Path) -> None:
    _dictd(freedict, "eng-rus", {"crane": "crane //kɹeɪn// <n>\n1. жура́вль, кран\nbird\n", "fly": "fly <v>\nлетать\n"})
    _dictd(freedict, "deu-eng", {"Ente": "Ente <n, fem>\nduck\n", "Uhu": "Uhu <n>\neagle owl\n"})
    _dictd(freedict, "deu-rus", {"Ente": "Ente <n>\nутка 2.\n", "Uhu": "Uhu <n>\nфилин\n"})
    _dictd(freedict, "fra-eng", {"grue": "grue <n>\nthe crane\n"})
    _dictd(freedict, "fra-rus", {"grue": "grue <n>\nкран\n"})
    words = {"crane", "duck", "fly"}
    # stress marks and numbers of senses go; a verb and a word that nobody asked for are left out
    assert dictionaries.dictionary("ru", words) == [("crane", "журавль"), ("duck", "утка"), ("crane", "кран")]


def test_pairs_of_take_from_dictionaries_only_what_is_not_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "gcompris", lambda language: [("duck", "утка")])
    monkeypatch.setattr(translations, "art4apps", lambda language: [])
    monkeypatch.setattr(translations, "cldr", lambda language: [("owl", "сова"), ("abstraction", "абстракция")])
    monkeypatch.setattr(translations, "stamps", lambda language: [("A red crane", "красный журавль")])
    found = [("duck", "утка"), ("crane", "журавль"), ("tower crane", "башенный кран")]
    monkeypatch.setattr(translations, "dictionary", lambda language, words: found)
    assert [(local, origin) for _, local, origin in translations.pairs_of("ru", {"owl"}, {"crane"})] == [
        ("утка", "gcompris"),
        ("сова", "cldr"),
        ("красный журавль", "stamps"),
        ("башенный кран", "dictionary"),
    ]


def test_of_dictionaries_the_concepts_of_other_texts_are_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "DICTIONARY_TEXTS", 1)
    texts = [
        captions.Text("время", "ru", "time", "dictionary"),
        captions.Text("утка", "ru", "duck", "dictionary"),
        captions.Text("A duck", "en", "A duck", "stamps"),
        captions.Text("сова", "ru", "owl", "cldr"),
    ]
    said = [job.text.text for jobs in speech.training_jobs(texts).values() for job in jobs if job.text.language == "ru"]
    assert sorted(set(said)) == ["сова", "утка"]


def test_apertium_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dictionaries, "unpacked", lambda name: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="apt-get install lttoolbox"):
        dictionaries.through_apertium("apertium-eng-cat/eng-cat", ["duck<n>"])


def test_stamps_translations_leave_the_test_half_out(corpora: Path) -> None:
    def stamp(name: str, split: str) -> Item:
        extra = {"stem": name, "symbol": False, "captions": {"fr": f"un {name}"}}
        return Item(f"stamps/{name}", "image", captions=(f"A {name}",), split=split, extra=extra)

    path = corpora / "stamps/manifest.jsonl"
    write_manifest(path, [stamp("chat", "train"), stamp("chien", "test")])
    assert translations.stamps("fr") == [("A chat", "un chat")]
    write_manifest(path, [stamp("chat", "train"), stamp("chien", "train")])
    with pytest.raises(InputError, match="no test half"):
        translations.stamps("fr")


def test_english_texts_say_each_caption_once(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("art4apps", "gcompris"):
        monkeypatch.setattr(captions, name, lambda language: [("dog", "dog"), ("cup", "cup")])
    write_manifest(corpora / "stamps/manifest.jsonl", [Item("stamps/a", "image", captions=("A dog.",))])
    write_manifest(corpora / "openclipart/manifest.jsonl", [Item("o/a", "image", captions=("a dog", "img_01", "cat"))])
    own = [text for text in captions.english_texts() if text.origin != "art4apps"]
    assert own == [Text("A dog", "en", "A dog", "stamps"), Text("cat", "en", "cat", "openclipart")]
    write_manifest(corpora / "stamps/manifest.jsonl", [Item("stamps/a", "image", captions=("A fox.",))])
    assert Text("fox", "en", "A fox", "names") in list(captions.english_texts())


def test_no_text_of_training_names_a_concept_of_the_test_half(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stamp(name: str, split: str) -> Item:
        extra = {"stem": name, "symbol": False, "unique": True, "captions": {}}
        return Item(f"stamps/{name}", "image", captions=(f"A {name}.",), split=split, extra=extra)

    for name in ("art4apps", "gcompris"):
        monkeypatch.setattr(captions, name, lambda language: [("owls", "owls"), ("cup", "cup")])
    pairs = [("owl", "hibou", "cldr"), ("An owl", "une chouette", "dictionary"), ("cat", "chat", "cldr")]
    monkeypatch.setattr(captions, "pairs_of", lambda language, concepts, words: pairs if language == "fr" else [])
    monkeypatch.setattr(captions, "words_of_pictures", set)
    path = corpora / "stamps/manifest.jsonl"
    write_manifest(path, [stamp("owl", "test"), stamp("dog", "train")])
    write_manifest(
        corpora / "openclipart/manifest.jsonl", [Item("o/a", "image", captions=("the owl", "owl on a branch"))]
    )
    said = [(text.language, text.text) for text in captions.collect()]
    assert said == [
        ("en", "A dog"),
        ("en", "cup"),
        ("en", "owl on a branch"),
        ("en", "dog"),
        ("fr", "chat"),
    ]  # the word may be said within other captions; the caption is not
    assert {job.text.text for jobs in speech.test_jobs().values() for job in jobs} == {"A owl.", "A dog."}
    write_manifest(path, [stamp("owl", "train")])
    with pytest.raises(InputError, match="no test half"):
        captions.collect()


# voices and speech


def test_training_never_hears_a_held_out_voice() -> None:
    heard = {*voices.training_voices(), *voices.kokoro_voices()}
    heard |= {voice for language in translations.LANGUAGES for voice in voices.foreign_voices(language)}
    variants = {voice.partition("+")[2] for voice in heard if voice.startswith("espeak")}
    for held in (*voices.HELD_OUT, *voices.FRESH):
        engine, _, name = held.partition(":")
        assert held not in heard
        assert engine not in ("piper", "pico") or not any(voice.startswith(engine) for voice in heard)
        assert engine != "piper" or not any(voice.startswith("piper") for voice in heard)
        if engine == "kokoro":
            assert not any(name in voice for voice in heard)
        if engine == "espeak":
            accent, _, variant = name.partition("+")
            assert variant not in variants
            assert not any(voice.startswith(f"espeak:{accent}") for voice in heard)


def test_fresh_clips_say_what_nobody_said_in_voices_that_nothing_else_uses(corpora: Path) -> None:
    def stamp(caption: str, split: str) -> Item:
        extra = {"unique": True, "symbol": False, "stem": caption}
        return Item(f"stamps/{caption}", "image", captions=(caption,), split=split, extra=extra)

    held = [stamp(f"A thing {'abcdefgh'[k]}", "test") for k in range(8)]
    write_manifest(
        corpora / "stamps/manifest.jsonl", [*held, stamp("A known one", "train"), stamp("A goldfish", "test")]
    )
    texts = [Text("Un tigre", "fr", "a tiger", "cldr"), Text("A known one", "en", "A known one", "stamps")]
    groups = speech.fresh_jobs(texts)
    assert list(groups) == ["fresh-pico-en-US", "fresh-pico-en-GB", "fresh-espeak-en-gb-scotland-adam"]
    jobs = [job for group in groups.values() for job in group]
    assert not {job.voice for job in jobs} & {*voices.HELD_OUT, *voices.training_voices(), *voices.kokoro_voices()}
    assert {job.split for job in jobs} == {"fresh"}
    said = {job.text.english for job in jobs}
    assert {item.captions[0] for item in held} <= said and "A known one" not in said
    names = {job.text.text for job in jobs if job.text.origin == "imagenet"}
    assert len(names) == speech.FRESH_TEXTS and not names & {"tiger", "goldfish"}
    assert len(jobs) == len(voices.FRESH) * (speech.FRESH_TEXTS + 9)
    heard = [job for group in speech.training_jobs(texts).values() for job in group]
    assert not {job.text.english for job in heard} & names and not {job.split for job in heard} & {"fresh", "test"}


def test_speak_names_the_missing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(voices.subprocess, "run", missing)
    with pytest.raises(MissingExtraError, match="apt-get install espeak-ng"):
        voices.speak("a dog", "espeak:en-us+f1", 0)
    with pytest.raises(InputError, match="unknown voice"):
        voices.speak("a dog", "hal:9000", 0)


def test_kokoro_phonemes_are_in_its_alphabet() -> None:
    assert kokoro_phonemes("t^ʃˈuːz ɐ d^ʒˈʌd^ʒ bˈɔ^ɪ") == "ʧˈuz ə ʤˈʌʤ bˈY"


def test_piper_ids_are_padded_and_skip_unknown_letters() -> None:
    table = {"^": [1], "$": [2], "_": [0], "a": [14], "b": [15]}
    assert piper_ids("ab☃", table) == [1, 0, 14, 0, 15, 0, 2]


def test_training_jobs_repeat_important_texts_and_keep_a_text_on_one_side() -> None:
    texts = [Text(f"A thing {k}", "en", f"A thing {k}", "stamps") for k in range(3)]
    texts += [Text(f"word {k}", "en", f"word {k}", "emoji") for k in range(300)]
    texts += [Text(f"mot {k}", "fr", f"word {k}", "cldr") for k in range(300)]
    groups = speech.training_jobs(texts)
    jobs = [job for group in groups.values() for job in group]
    assert (
        sum(job.text.text == "A thing 0" and not job.voice.startswith("kokoro") for job in jobs)
        == speech.TAKES["stamps"]
    )
    assert all(job.voice.startswith("espeak:fr") for job in jobs if job.text.language == "fr")
    splits = {(job.text.english, job.split) for job in jobs}
    assert len(splits) == len({english for english, _ in splits})
    assert {split for _, split in splits} == {"train", "val"}
    assert groups == speech.training_jobs(texts)


# augmentation


def test_augment_repeats_itself_and_leaves_half_clean() -> None:
    waveform = tone(300, 0.3)
    first, changed = augment(waveform, SPEECH_RATE, 7)
    again, _ = augment(waveform, SPEECH_RATE, 7)
    np.testing.assert_array_equal(first, again)
    results = [augment(waveform, SPEECH_RATE, seed) for seed in range(200)]
    assert 70 < sum(changed for _, changed in results) < 130
    assert all(np.abs(result).max() <= 1 and np.isfinite(result).all() for result, _ in results)
    clean = next(result for result, changed in results if not changed)
    assert len(clean) == len(waveform)
    assert isinstance(changed, bool)


def test_with_noise_reaches_the_ratio_asked_for() -> None:
    waveform = tone(300, 1.0)
    noise = with_noise(waveform, 20.0, 1.0, np.random.default_rng(0)) - waveform
    assert 10 * np.log10(np.mean(waveform**2) / np.mean(noise**2)) == pytest.approx(20.0, abs=0.1)
