from __future__ import annotations

import itertools

import pytest

from embedspace.encoders.passages import passages


def test_passages_short_text_is_one() -> None:
    assert passages("  a barking dog ") == [(2, 15, "a barking dog")]
    assert passages(" \n ") == []


def test_passages_cover_all_words_and_overlap() -> None:
    text = " ".join(f"w{index}" for index in range(1000))
    cut = passages(text, max_words=100, overlap=10)
    assert [passage for start, end, passage in cut] == [text[start:end] for start, end, _ in cut]
    assert all(len(passage.split()) <= 100 for _, _, passage in cut)
    assert cut[1][2].split()[:10] == cut[0][2].split()[-10:]
    seen = {word for _, _, passage in cut for word in passage.split()}
    assert seen == set(text.split())
    assert cut[-1][1] == len(text)


def test_passages_prefer_sentence_ends() -> None:
    sentence = "one two three four five six seven eight nine. "
    cut = passages(sentence * 20, max_words=30, overlap=0)
    assert all(passage.endswith(".") for _, _, passage in cut)


def test_passages_scripts_without_spaces_and_endless_words() -> None:
    assert all(len(passage) <= 180 for _, _, passage in passages("世" * 1000))
    assert all(len(passage) <= 180 * 40 for _, _, passage in passages("x" * 100_000))


def test_passages_refuses_an_overlap_that_cannot_advance() -> None:
    with pytest.raises(ValueError, match="overlap"):
        passages("a b", max_words=10, overlap=5)
    assert len(passages("a b c", max_words=1, overlap=0)) == 3


def test_passages_are_shortened_until_they_fit() -> None:
    text = " ".join(f"word{k}" for k in range(300))
    found = passages(text, fits=lambda passage: len(passage.split()) <= 25)
    assert all(len(passage.split()) <= 25 for _, _, passage in found)
    assert found[0][0] == 0 and found[-1][1] == len(text)
    assert all(later[0] <= earlier[1] + 1 for earlier, later in itertools.pairwise(found))  # nothing is lost
    assert passages("one two three", fits=lambda passage: False) == [(0, 3, "one"), (4, 7, "two"), (8, 13, "three")]
    assert passages(text, fits=lambda passage: True) == passages(text)
