"""Read text files and cut long text into passages."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.source import check_file, one_line

__all__ = ["MAX_BYTES", "passages", "read_text"]

MAX_BYTES = 20 * 1024 * 1024

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# Scripts without spaces count a character as a word; an endless run (base64, a URL) is cut so none overflows.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,40}}")
_SENTENCE_END = re.compile(r"[.!?\u3002\uff01\uff1f][\"')\]\u2019\u201d]*$")


def read_text(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> str:
    r"""Read a text file: UTF-8, or UTF-8, UTF-16 or UTF-32 with a byte-order mark.

    Args:
        path: The file.
        max_bytes: Refuse larger files.

    Returns:
        Its text with newlines as "\n", not stripped.

    Raises:
        MediaTooLargeError: If the file is larger than `max_bytes`.
        EmptyMediaError: If it holds nothing but white space.
        MediaError: If it is missing, binary or in another encoding; the message gives the byte offset.
    """
    file = check_file(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(max_bytes + 1)
    except OSError as error:
        raise MediaError(f"{file}: cannot be read: {one_line(error)}") from error
    if len(raw) > max_bytes:
        raise MediaTooLargeError(f"{file}: more than {max_bytes:,} bytes of text; split it into smaller files")
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise MediaError(_encoding_problem(str(file), raw, error)) from error
    if "\0" in text:
        offset = raw.index(b"\0")
        raise MediaError(f"{file}: NUL at byte {offset}: binary, or UTF-16 without its mark; convert it to UTF-8")
    if not text.strip():
        raise EmptyMediaError(f"{file}: holds no words; fill or remove it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def passages(
    text: str, max_words: int = 180, overlap: int = 20, fits: Callable[[str], bool] | None = None
) -> list[tuple[int, int, str]]:
    """Cut text into passages that overlap, ending at the end of a sentence where one is near.

    Args:
        text: Any length.
        max_words: Most words of a passage; in scripts without spaces a character is a word.
        overlap: Words repeated at the start of the next passage, fewer where a passage is short; less than half of
            `max_words`.
        fits: Whether a passage is short enough for who reads it, such as a network that keeps 77 tokens; passages are
            shortened until they are, down to one word.

    Returns:
        (start, end, passage) with offsets in characters, in order; `passage` is `text[start:end]`. A text of at most
        `max_words` words, and that fits, is one passage; a text without words gives none.

    Raises:
        ValueError: If `max_words` is not positive or `overlap` is not in [0, max_words / 2).
    """
    if max_words < 1 or not 0 <= overlap < max(max_words / 2, 1):
        raise ValueError(f"max_words {max_words}, overlap {overlap}: need 0 <= overlap < max_words / 2")
    words = [match.span() for match in _WORD.finditer(text)]
    found: list[tuple[int, int, str]] = []
    first = 0
    while first < len(words):
        last = min(first + max_words, len(words))  # one past the last word
        if fits is not None:
            last = _longest(text, words, first, last, fits)
        size = last - first
        if last < len(words):
            last = _sentence_end(text, words, last - min(max_words, size) // 4, last)
        start, end = words[first][0], words[last - 1][1]
        found.append((start, end, text[start:end]))
        if last == len(words):
            break
        first = last - min(overlap, size // 4 if size < max_words else overlap)
    return found


def _longest(text: str, words: list[tuple[int, int]], first: int, last: int, fits: Callable[[str], bool]) -> int:
    """Return one past the last word of the longest run from `first` on, up to `last`, that fits; at least one word."""

    def good(end: int) -> bool:
        return fits(text[words[first][0] : words[end - 1][1]])

    if good(last):
        return last
    low, high = first + 1, last  # `high` does not fit; more words never take fewer tokens
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _sentence_end(text: str, words: list[tuple[int, int]], earliest: int, latest: int) -> int:
    """Return the latest word boundary in (earliest, latest] after which a sentence or paragraph ends, else `latest`."""
    for last in range(latest, earliest, -1):
        end = words[last - 1][1]
        if "\n\n" in text[end : words[last][0]] or _SENTENCE_END.search(text, max(end - 4, 0), end):
            return last
    return latest


def _encoding_problem(name: str, raw: bytes, error: UnicodeDecodeError) -> str:
    where = f"byte {error.start}"
    if error.encoding.replace("_", "-").startswith("utf-16") or error.encoding.startswith("utf-32"):
        return f"{name}: {error.encoding} text broken at {where} ({error.reason}); it may be truncated"
    if b"\0" in raw[:4096]:
        return f"{name}: binary data, not text (invalid at {where}); name a text file, or say what it is with --as"
    value = raw[error.start]
    return (
        f"{name}: not UTF-8 at {where} (0x{value:02x}, {error.reason}); "
        f"convert it, for example: iconv -f WINDOWS-1252 -t UTF-8"
    )
