from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedspace.errors import EmptyMediaError, InputError, MediaError, UnknownModalityError
from embedspace.media.write import write_audio, write_image
from embedspace.space import EmbeddingSpace
from tests.support.spaces import EMBED_DIM, check_rows, noise, pictures

LONG = " ".join(f"Sentence {k} tells of a dog, a bell and of rain in the {k}th street." for k in range(40))


# ---- encode


def test_encode_gives_one_unit_row_an_item_of_any_modality(
    tiny_space: EmbeddingSpace, tmp_path: Path, picture: Image.Image
) -> None:
    image, sound, text = tmp_path / "a.png", tmp_path / "b.wav", tmp_path / "c.txt"
    write_image(image, picture)
    write_audio(sound, noise(0.5), 16_000)
    text.write_text("a dog barking")
    told: list[tuple[int, int]] = []
    items = [image, str(sound), text, "a dog barking", picture, {"text": "a dog barking"}, {"speech": str(sound)}]
    rows = tiny_space.encode(items, batch_size=3, callback=lambda *at: told.append(at))
    check_rows(rows, 7)
    assert told == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_allclose(rows[0], rows[4], atol=1e-5)  # the file and the picture
    np.testing.assert_allclose(rows[2], rows[3], atol=1e-5)  # the file and its text
    np.testing.assert_allclose(rows[3], rows[5], atol=1e-5)
    assert np.abs(rows[1] - rows[6]).max() > 0.01  # what it sounds like and what is said


def test_decode_tells_the_size_of_the_picture_not_of_the_reduced_one(
    tiny_space: EmbeddingSpace, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8  # lies on its side
    Image.new("RGB", (1411, 1300), (200, 30, 30)).save(tmp_path / "a.jpg", exif=exif)
    assert tiny_space.decode(tmp_path / "a.jpg", "image").metadata == {"width": 1300, "height": 1411}


def test_encode_of_one_item_and_of_none(tiny_space: EmbeddingSpace) -> None:
    check_rows(tiny_space.encode("a dog"), 1)
    check_rows(tiny_space.encode({"text": "a dog"}), 1)
    assert tiny_space.encode([]).shape == (0, EMBED_DIM)


def test_encode_takes_a_string_as_a_path_only_if_the_file_is_there(
    tiny_space: EmbeddingSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = tiny_space.encode("dog.txt")
    np.testing.assert_allclose(words, tiny_space.encode_text("dog.txt"), atol=1e-6)
    Path("dog.txt").write_text("a cat asleep")
    np.testing.assert_allclose(tiny_space.encode("dog.txt"), tiny_space.encode_text("a cat asleep"), atol=1e-5)
    np.testing.assert_allclose(tiny_space.encode_text("dog.txt"), words, atol=1e-6)  # never a path
    np.testing.assert_allclose(tiny_space.encode("dog.txt", modality="text"), words, atol=1e-6)
    for text in ("a" * 5000 + ".txt", "null\0character.png", "/etc", "."):  # names no file system takes
        check_rows(tiny_space.encode(text), 1)


def test_encode_of_a_missing_path_is_an_error(tiny_space: EmbeddingSpace, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"none\.png"):
        tiny_space.encode(tmp_path / "none.png")
    with pytest.raises(UnknownModalityError, match="unknown file suffix"):
        tiny_space.encode(tmp_path / "none.xyz")


@pytest.mark.parametrize(
    ("item", "modality", "error"),
    [
        ({"smell": "a.mp4"}, None, InputError),
        ({"image": "a.png", "text": "a"}, None, InputError),
        ({}, None, InputError),
        ("a", "smell", UnknownModalityError),
        ("", None, EmptyMediaError),
        (" \n ", None, EmptyMediaError),
        (np.zeros(7, np.float32), None, MediaError),
        (3, None, InputError),
        (None, None, InputError),
    ],
)
def test_encode_refuses_what_is_no_item(tiny_space: EmbeddingSpace, item: Any, modality: str, error: type) -> None:
    with pytest.raises(error):
        tiny_space.encode([item], modality=modality)


def test_encode_without_normalising_gives_the_mean_of_the_segments(tiny_space: EmbeddingSpace) -> None:
    segments = tiny_space.encode_decoded([tiny_space.decode(LONG, "text")])[0]
    assert len(segments) > 2
    mean = np.mean([s.vector for s in segments], axis=0)
    raw = tiny_space.encode_text([LONG], normalize_embeddings=False)[0]
    np.testing.assert_allclose(raw, mean, atol=1e-6)
    assert np.linalg.norm(raw) < 0.9999
    np.testing.assert_allclose(tiny_space.encode_text([LONG])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_encode_draws_its_bar_on_stderr(tiny_space: EmbeddingSpace, capsys: pytest.CaptureFixture[str]) -> None:
    check_rows(tiny_space.encode(["a", "b"], batch_size=1, show_progress_bar=True), 2)
    assert tiny_space.encode([], show_progress_bar=True).shape == (0, EMBED_DIM)
    assert capsys.readouterr().out == ""


# ---- text and images


def test_text_of_any_length(tiny_space: EmbeddingSpace) -> None:
    texts = ["a", "…", "犬が吠える", "word " * 1000, "x" * 20_000, LONG]
    check_rows(tiny_space.encode_text(texts), len(texts))


def test_text_does_not_depend_on_what_is_beside_it(tiny_space: EmbeddingSpace) -> None:
    texts = ["a dog", LONG, "a bell rings in the rain", "x"]
    together = tiny_space.encode_text(texts)
    alone = np.concatenate([tiny_space.encode_text(t) for t in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(tiny_space.encode_text(texts, batch_size=2), alone, atol=1e-5)


def test_text_segments_say_where_they_are(tiny_space: EmbeddingSpace) -> None:
    decoded = tiny_space.decode(LONG, "text")
    segments = tiny_space.encode_decoded([decoded])[0]
    assert [s.modality for s in segments] == ["text"] * len(segments)
    for segment in segments:
        assert segment.start is not None
        assert segment.end is not None
        assert LONG[int(segment.start) : int(segment.end)].startswith(segment.text[:40])
    assert segments[0].start == 0
    assert segments[-1].end == len(LONG)
    assert decoded.nbytes > 0


def test_text_fields_become_labelled_segments(tiny_space: EmbeddingSpace) -> None:
    fields = {"title": "leek soup", "steps": "boil the leeks", "note": " "}
    segments = tiny_space.encode_decoded([tiny_space.decode(fields, "text")])[0]
    assert [(s.label, s.text) for s in segments] == [("title", "leek soup"), ("steps", "boil the leeks")]
    one = tiny_space.encode_decoded([tiny_space.decode({"title": "leek soup"}, "text")])[0]
    assert [s.label for s in one] == [""]
    with pytest.raises(EmptyMediaError):
        tiny_space.decode({"title": "", "steps": " "}, "text")


def test_image_does_not_depend_on_what_is_beside_it(tiny_space: EmbeddingSpace) -> None:
    images = pictures(5)
    together = tiny_space.encode_image(images)
    check_rows(together, 5)
    for k, image in enumerate(images):
        np.testing.assert_allclose(tiny_space.encode_image(image)[0], together[k], atol=1e-5)
    assert np.abs(together - together[0]).max() > 1e-3


def test_image_from_arrays_files_and_bytes_is_the_same(
    tiny_space: EmbeddingSpace, tmp_path: Path, picture: Image.Image
) -> None:
    path = tmp_path / "a.png"
    write_image(path, picture)
    rows = tiny_space.encode_image([picture, np.asarray(picture), path, str(path), path.read_bytes()])
    check_rows(rows, 5)
    np.testing.assert_allclose(rows, np.repeat(rows[:1], 5, axis=0), atol=1e-5)
    np.testing.assert_allclose(tiny_space.encode_image(np.asarray(picture)), rows[:1], atol=1e-5)


def test_image_extremes(tiny_space: EmbeddingSpace) -> None:
    clear = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    clear.paste((200, 30, 30, 255), (10, 10, 14, 14))
    items = [Image.new("L", (1, 1)), Image.new("RGB", (2000, 2)), clear, Image.new("CMYK", (5, 900))]
    check_rows(tiny_space.encode_image(items), 4)


def test_similarity_is_the_cosine(tiny_space: EmbeddingSpace) -> None:
    a, b = tiny_space.encode_text(["a", "b", "c"]), tiny_space.encode_text(["b", "d"])
    scores = tiny_space.similarity(a, b)
    assert scores.shape == (3, 2)
    assert scores[1, 0] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(scores, a @ b.T, atol=1e-6)
    assert tiny_space.similarity(a[0], b[0]).shape == (1, 1)


def test_decode_refuses_unknown_kinds_and_modalities(tiny_space: EmbeddingSpace, picture: Image.Image) -> None:
    for source, kind, wanted in ((picture, "smell", None), (picture, "image", "audio"), ("a dog", "text", "image")):
        with pytest.raises(UnknownModalityError):
            tiny_space.decode(source, kind, as_modality=wanted)


def test_encode_decoded_keeps_the_order_of_mixed_items(tiny_space: EmbeddingSpace, picture: Image.Image) -> None:
    items = [tiny_space.decode("a dog", "text"), tiny_space.decode(picture, "image"), tiny_space.decode(LONG, "text")]
    assert tiny_space.encode_decoded([]) == []
    segments = tiny_space.encode_decoded(items)
    assert [s[0].modality for s in segments] == ["text", "image", "text"]
    assert [len(s) for s in segments] == [len(d.inputs) for d in items]
    np.testing.assert_allclose(segments[0][0].vector, tiny_space.encode_text("a dog")[0], atol=1e-5)
    assert items[1].metadata == {"width": 48, "height": 32}


def test_unknown_words_are_those_of_the_tokenizer(tiny_space: EmbeddingSpace) -> None:
    assert tiny_space.unknown_words("a dog barks: été, naïve, кошка") == []
    assert tiny_space.unknown_words("a dog \N{DOG FACE} and a \u732b \N{DOG FACE}") == ["\N{DOG FACE}", "\u732b"]
    rows = tiny_space.encode_text(["\u732b", "\u72d7"])
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)  # which is why it must be said
