"""Read text files."""

from __future__ import annotations

import codecs
import os

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.source import check_file, one_line

__all__ = ["MAX_BYTES", "read_text"]

MAX_BYTES = 20 * 1024 * 1024

# The longer mark first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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


def _encoding_problem(name: str, raw: bytes, error: UnicodeDecodeError) -> str:
    where = f"byte {error.start}"
    if error.encoding.replace("_", "-").startswith("utf-16") or error.encoding.startswith("utf-32"):
        return f"{name}: {error.encoding} text broken at {where} ({error.reason}); it may be truncated"
    if b"\0" in raw[:4096]:
        hint = "name a text file, or say what it is with as_modality (--as)"
        return f"{name}: binary data, not text (invalid at {where}); {hint}"
    value = raw[error.start]
    return (
        f"{name}: not UTF-8 at {where} (0x{value:02x}, {error.reason}); "
        f"convert it, for example: iconv -f WINDOWS-1252 -t UTF-8"
    )
