from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.calibration.model import Calibration
from embedspace.errors import QueryError, UnknownModalityError
from embedspace.query.composition import MIXED, compose
from embedspace.query.grammar import Term, parse
from embedspace.query.reading import join_names, stands_apart
from embedspace.query.sources import Source, embed_sources, resolve
from embedspace.segment import Decoded, Segment


def _axis(index: int) -> np.ndarray:
    vector = np.zeros(6, np.float32)
    vector[index] = 1.0
    return vector


def _unit(*values: float) -> np.ndarray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


class Space:
    """Vectors by name; recordings have a sound and, where `<name>/speech` is known, speech."""

    embed_dim = 6

    def __init__(self, vectors: Mapping[str, np.ndarray], means: Mapping[str, np.ndarray] | None = None) -> None:
        self.vectors = vectors
        self.calibration = Calibration(dict(means or {}))
        self.as_modalities: list[str | None] = []
        self.called: dict[str, list[tuple[str, float]]] = {}
        self.drawn: dict[str, np.ndarray] = {}
        self.asked_for_documents = 0

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
        self.as_modalities.append(as_modality)
        return Decoded(kind, [Path(source).name if kind != "text" else source])

    def names(self, vectors: np.ndarray, modality: str) -> list[list[tuple[str, float]]]:
        return [self.called.get(modality, []) for _ in vectors]

    def for_documents(self, vectors: np.ndarray, modality: str) -> np.ndarray:
        self.asked_for_documents += 1
        return np.stack([self.drawn.get(modality, vector[None]) for vector in vectors])

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        results = []
        for item in items:
            name = item.inputs[0]
            segments = [Segment(item.kind, vector) for vector in np.atleast_2d(self.vectors[name])]
            if f"{name}/speech" in self.vectors:
                segments.append(Segment("speech", self.vectors[f"{name}/speech"]))
            results.append(segments)
        return results


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("dog.png", "rain.wav", "a + b.png", "2020.jpg", "notes.pdf", "dog"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a barking dog", [Term(1, "a barking dog")]),
        ("  dog\n", [Term(1, "dog")]),
        ("2:dog.png + rain.wav - grass", [Term(2, "dog.png"), Term(1, "rain.wav"), Term(-1, "grass")]),
        ("0.5:rain.wav", [Term(0.5, "rain.wav")]),
        (".5:rain - 2.:tall grass", [Term(0.5, "rain"), Term(-2, "tall grass")]),
        ("dog - -2:cat", [Term(1, "dog"), Term(2, "cat")]),
        ("- grass", [Term(-1, "grass")]),
        ("+ dog - cat", [Term(1, "dog"), Term(-1, "cat")]),
        ("wi-fi and rain+thunder", [Term(1, "wi-fi and rain+thunder")]),
        ('"a - b" + c', [Term(1, "a - b", quoted=True), Term(1, "c")]),
        ("2:'a + b.png' - c", [Term(2, "a + b.png", quoted=True), Term(-1, "c")]),
        ('"2:30 pm"', [Term(1, "2:30 pm", quoted=True)]),
        ("a dog's bone + the cat's", [Term(1, "a dog's bone"), Term(1, "the cat's")]),
        ("'twas the night", [Term(1, "'twas the night")]),
        ('"rain" and "thunder"', [Term(1, 'rain" and "thunder', quoted=True)]),
        ("C:dog", [Term(1, "C:dog")]),
        ("ratio 16:9", [Term(1, "ratio 16:9")]),
        ("2: dog", [Term(1, "2: dog")]),
        ("naïve café 狗", [Term(1, "naïve café 狗")]),
    ],
)
def test_parse_reads_terms(text: str, terms: list[Term]) -> None:
    assert list(parse(text).terms) == terms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("+", "empty"),
        ("dog +", "nothing follows the last '\\+'"),
        ("dog + - cat", "two operators in a row"),
        ("- - cat", "two operators in a row"),
        ('"a dog', "quote is not closed"),
        ('"" + dog', "empty quotes"),
        ("9" * 400 + ":dog", "not a finite number"),
    ],
)
def test_parse_refuses_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse(text)


def test_resolve_tells_files_from_words(media: Path) -> None:
    assert resolve("dog.png") == Source("dog.png", "image", "dog.png")
    assert resolve(str(media / "rain.wav")).kind == "audio"
    assert resolve("a barking dog") == Source("a barking dog", "text")
    assert resolve("dog") == Source("dog", "text")  # a file of that name without a suffix is not meant
    assert resolve("and/or").kind == "text"
    assert resolve("dog", as_modality="speech").kind == "text"
    assert resolve("./dog", as_modality="speech") == Source("./dog", "audio", "./dog")
    assert resolve("notes.pdf", as_modality="image") == Source("notes.pdf", "image", "notes.pdf")
    assert resolve("readme.md", quoted=True) == Source("readme.md", "text")
    assert resolve("a\0b" * 3000).kind == "text"


@pytest.mark.parametrize("value", ["dgo.png", "my dog.JPG", "./nothing", "/no/such/place", "https://example.org/a.jpg"])
def test_resolve_refuses_a_missing_path(media: Path, value: str) -> None:
    with pytest.raises(QueryError, match=r"no such file.*double quotes"):
        resolve(value)


def test_resolve_refuses_folders_and_unknown_suffixes(media: Path) -> None:
    with pytest.raises(QueryError, match="folder"):
        resolve(str(media))
    with pytest.raises(UnknownModalityError, match=r"'\.pdf'.*--as"):
        resolve("notes.pdf")


def test_compose_one_term_is_its_vector() -> None:
    dog = _unit(1, 2, 3, 0, 0, 0)
    composed = compose("a dog", Space({"a dog": dog}, {"text": _axis(5)}))
    np.testing.assert_allclose(composed.vector, dog, atol=1e-7)
    assert composed.vector.dtype == np.float32
    assert (composed.modality, composed.centred) == ("text", False)


def test_compose_one_modality_is_the_weighted_sum_uncentred() -> None:
    dog, grass = _unit(1, 0, 1, 0, 0, 0), _unit(0, 1, 1, 0, 0, 0)
    space = Space({"dog": dog, "grass": grass}, {"text": _axis(2)})
    expected = 2 * dog + grass
    composed = compose("2:dog + grass", space)
    np.testing.assert_allclose(composed.vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert composed.modality == "text"
    difference = compose("dog - grass", space)
    assert difference.modality == MIXED
    np.testing.assert_allclose(difference.vector, _unit(1, -1, 0, 0, 0, 0), atol=1e-6)


def test_compose_reads_named_media_and_words_as_one_text(media: Path) -> None:
    means = {"image": _axis(4), "text": _axis(5)}
    readings = {"a dog in the rain": _axis(2), "a wolf in the rain": _axis(3)}
    space = Space({"dog.png": _axis(0), "in the rain": _axis(1), "grass": _axis(3), **readings}, means)
    space.called = {"image": [("a dog", 0.75), ("a wolf", 0.25)]}
    composed = compose("2:dog.png + in the rain - grass", space)
    reading = 0.75 * _axis(2) + 0.25 * _axis(3)
    total = 2 * (_axis(0) - _axis(4)) + (_axis(1) - _axis(5)) - (_axis(3) - _axis(5))
    total = total + 3 * (reading / np.linalg.norm(reading) - _axis(5))
    np.testing.assert_allclose(composed.vector, total / np.linalg.norm(total), atol=1e-6)
    assert composed.phrase == "a dog in the rain"
    assert "read, too, as 'a dog in the rain': the words say more of the same thing" in composed.explain()
    for query in ("dog.png - grass", "dog.png", "grass + in the rain"):  # nothing to join
        assert compose(query, space).phrase == ""
    space.called = {}
    assert compose("dog.png + in the rain", space).phrase == ""


def test_compose_leaves_words_that_name_another_thing_a_sum(media: Path) -> None:
    readings = {"dog in the rain": _axis(2)}
    space = Space({"dog.png": _axis(0), "a violin": _axis(1), "in the rain": _axis(3), **readings}, {"image": _axis(4)})
    space.called = {"image": [("dog", 1.0)]}
    apart = compose("dog.png + a violin", space)
    np.testing.assert_allclose(apart.vector, _unit(1, 1, 0, 0, -1, 0), atol=1e-6)
    assert apart.phrase == ""
    assert "'a violin' is not read together with the rest: it begins with 'a'" in apart.explain()
    both = compose("dog.png + in the rain + a violin", space)  # the violin stays a term of the sum
    total = _axis(0) - _axis(4) + _axis(1) + _axis(3) + 2 * _axis(2)
    np.testing.assert_allclose(both.vector, total / np.linalg.norm(total), atol=1e-6)
    assert both.phrase == "dog in the rain"


@pytest.mark.parametrize("words", ["a violin", "An owl", "the moon", "two cats", "some bread", "Say cheese!", "I run."])
def test_words_that_name_a_thing_of_their_own_stand_apart(words: str) -> None:
    assert stands_apart(words)


@pytest.mark.parametrize("words", ["with tears of joy", "cook", "asleep", "in a box", "another's", "andante", "", "A"])
def test_words_that_say_more_of_a_thing_do_not_stand_apart(words: str) -> None:
    assert stands_apart(words) == ""


def test_compose_reads_media_as_what_they_may_be_called_when_documents_are_searched(media: Path) -> None:
    space = Space({"dog.png": _axis(0), "rain.wav": _axis(1), "grass": _axis(3)}, {"image": _axis(4)})
    assert compose("dog.png", space).document_vectors is None
    space.drawn = {"image": np.stack([0.7 * _axis(2), 0.3 * _axis(5)])}
    space.asked_for_documents = 0
    alone = compose("dog.png", space)
    np.testing.assert_allclose(alone.vector, _axis(0), atol=1e-6)
    assert space.asked_for_documents == 0  # the names are loaded only where there are documents
    assert alone.document_vectors is not None
    np.testing.assert_allclose(alone.document_vectors, space.drawn["image"], atol=1e-6)
    assert "in documents (fields, long passages) searched by what its media may be called" in alone.explain()
    mixed = compose("dog.png - 0.5:grass", space).document_vectors
    assert mixed is not None
    expected = [0.7 * _unit(0, 0, 1, -0.5, 0, 0), 0.3 * _unit(0, 0, 0, -0.5, 0, 1)]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    space.drawn["audio"] = np.stack([0.9 * _axis(1), 0.1 * _axis(3)])
    both = compose("dog.png + rain.wav", space).document_vectors  # the likeliest readings belong together
    assert both is not None
    np.testing.assert_allclose(both, [0.8 * _unit(0, 1, 1, 0, 0, 0), 0.2 * _unit(0, 0, 0, 1, 0, 1)], atol=1e-6)
    assert compose("grass", space).document_vectors is None


def test_join_names_keeps_the_likeliest_phrases_in_order() -> None:
    names = [("a", 0.5), ("b", 0.3), ("c", 0.2)]
    joined = join_names([names, [("and", 1.0)], names])
    assert [text for text, _ in joined] == ["a and a", "a and b", "b and a", "a and c", "c and a"]
    assert sum(share for _, share in joined) == pytest.approx(1)
    assert joined[0][1] / joined[1][1] == pytest.approx(0.5 / 0.3)


def test_compose_mixed_modalities_takes_the_means_out(media: Path) -> None:
    means = {"image": 0.8 * _axis(4), "audio": 0.7 * _axis(5)}
    dog, rain, grass = _unit(1, 0, 0, 0, 2, 0), _unit(0, 1, 0, 0, 0, 2), _axis(2)
    space = Space({"dog.png": dog, "rain.wav": rain, "grass": grass}, means)
    composed = compose("2:dog.png + 0.5:rain.wav - grass", space)
    total = 2 * (dog - means["image"]) + 0.5 * (rain - means["audio"]) - grass
    np.testing.assert_allclose(composed.vector, total / np.linalg.norm(total), atol=1e-6)
    assert (composed.modality, composed.centred) == (MIXED, True)
    assert [term.modality for term in composed.terms] == ["image", "audio", "text"]
    assert composed.terms[0].cosine > 0 > composed.terms[2].cosine


def test_compose_prefers_what_is_said_unless_told(media: Path) -> None:
    space = Space({"rain.wav": _axis(0), "rain.wav/speech": _axis(1)})
    assert compose("rain.wav", space).modality == "speech"
    as_audio = compose("rain.wav", space, as_modality="audio")
    assert as_audio.modality == "audio"
    np.testing.assert_array_equal(as_audio.vector, _axis(0))
    assert space.as_modalities == [None, "audio"]


def test_compose_as_speech_leaves_words_and_pictures_alone(media: Path) -> None:
    space = Space({"rain.wav": _axis(0), "rain.wav/speech": _axis(1), "dog.png": _axis(2), "dog": _axis(3)})
    composed = compose("rain.wav + dog.png + dog", space, as_modality="speech")
    assert [term.modality for term in composed.terms] == ["speech", "image", "text"]


def test_compose_refuses_a_recording_without_the_wanted_modality(media: Path) -> None:
    with pytest.raises(UnknownModalityError, match=r"rain\.wav: holds audio, not speech"):
        compose("rain.wav", Space({"rain.wav": _axis(0)}), as_modality="speech")


def test_compose_refuses_terms_that_cancel() -> None:
    space = Space({"dog": _unit(0.3, 0.1, 0.2, 0, 0, 0)})
    with pytest.raises(QueryError, match="cancel"):
        compose("3:dog - 2:dog - dog", space)
    with pytest.raises(QueryError, match="cancel"):
        compose("0:dog", space)


def test_compose_scaling_all_weights_changes_nothing() -> None:
    space = Space({"dog": _unit(1, 2, 0, 0, 0, 0), "cat": _unit(0, 1, 1, 0, 0, 0)})
    one, thousand = compose("dog + 2:cat", space), compose("1000:dog + 2000:cat", space)
    np.testing.assert_allclose(one.vector, thousand.vector, atol=1e-6)
    tiny = compose("0.000001:dog", space)
    np.testing.assert_allclose(tiny.vector, compose("dog", space).vector, atol=1e-6)


def test_compose_explains_its_terms(media: Path) -> None:
    space = Space({"dog.png": _axis(0), "grass": _axis(1)}, {"image": np.zeros(6, np.float32)})
    assert compose("2:dog.png - grass", space).explain().splitlines() == [
        "+2  dog.png  image   cosine +0.89",
        "-1  grass    text    cosine -0.45",
        "modality means taken out before the sum",
    ]


def test_embed_sources_pools_long_items() -> None:
    space = Space({"long": np.stack([_axis(0), _axis(1)])})
    ((vector, modality),) = embed_sources([Source("long", "text")], space)
    np.testing.assert_allclose(vector, _unit(1, 1, 0, 0, 0, 0), atol=1e-6)
    assert modality == "text"
    assert embed_sources([], space) == []


# ---- words that nobody knows


class ReadsLatin(Space):
    """As the text encoder: a letter beyond Latin-1 is unknown."""

    def unknown_words(self, text: str) -> list[str]:
        return list(dict.fromkeys(char for char in text if ord(char) > 255))


@pytest.mark.parametrize(
    ("query", "unknown", "note"),
    [
        ("a dog", (), ""),
        (
            "a dog \N{DOG FACE}",
            ("\N{DOG FACE}",),
            "does not know \N{DOG FACE}; it reads English: translate the query",
        ),
        ("\u732b", ("\u732b",), "translate the query, for as it stands its hits mean little"),
        ("a \u53ea\u72d7\u5728\u53eb\u53eb\u732b", ("\u53ea", "\u72d7", "\u5728", "\u53eb", "\u732b"), "mean little"),
        ("dog.png + \u732b", ("\u732b",), "translate the query"),
    ],
)
def test_words_that_the_encoder_does_not_know_are_told(
    query: str, unknown: tuple[str, ...], note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog.png").touch()
    words = [part for part in query.split(" + ") if part != "dog.png"]
    space = ReadsLatin({"dog.png": _axis(0), **dict.fromkeys(words, _axis(1))})
    composed = compose(query, space)
    assert composed.unknown == unknown
    assert note in composed.unknown_note and bool(composed.unknown_note) == bool(unknown)
    assert ("mean little" in composed.unknown_note) == ("mean little" in note)  # not where a picture says more
    assert compose(query, Space(space.vectors)).unknown == ()  # an encoder that cannot say
