"""The recogniser can write every common word as Whisper does."""

from __future__ import annotations

import itertools
import json

import pytest
from tokenizers import Tokenizer

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.whisper_decoder import WhisperDecoder
from embedspace.errors import EmbedspaceError
from training.convert.whisper_vocabulary import mended

COMMON = "the to that this there two time train tree tiger tell a and of in on with house dog water it is"


def test_the_shipped_recogniser_has_a_token_for_every_common_word() -> None:
    decoder = create_backbone("whisper_base_decoder")
    assert isinstance(decoder, WhisperDecoder)
    ends = [0, *decoder.token_ends.tolist()]
    spelt = bytes(decoder.token_bytes.tolist())
    known = {spelt[start:end].decode("utf-8", "replace") for start, end in itertools.pairwise(ends)}
    assert [word for word in COMMON.split() if f" {word}" not in known] == []


def test_a_first_merge_that_is_missing_is_put_back() -> None:
    whole = _tokenizer([["Ġ", "t"], ["Ġt", "o"]])
    lacking = json.loads(whole)
    del lacking["model"]["merges"][0]
    assert Tokenizer.from_str(json.dumps(lacking)).encode(" to").tokens == ["Ġ", "t", "o"]
    for given in (whole, json.dumps(lacking).encode()):
        assert Tokenizer.from_str(mended(given).decode()).encode(" to").tokens == ["Ġto"]


def test_another_piece_that_no_merge_makes_is_refused() -> None:
    with pytest.raises(EmbedspaceError, match="1 of its pieces by no merge, such as 'Ġto'"):
        mended(_tokenizer([["Ġ", "t"]]))


def _tokenizer(merges: list[list[str]]) -> bytes:
    vocabulary = {piece: number for number, piece in enumerate(["Ġ", "t", "o", "Ġt", "Ġto"])}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [" ".join(merge) for merge in merges]}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model, "pre_tokenizer": byte_level}).encode()
