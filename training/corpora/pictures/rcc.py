"""Read Qt's binary resource files (`.rcc`).

The format is that of Qt's resource compiler: a header (`qres`, version, offsets of the tree, the data and the names), a
tree of fixed-size nodes, names in UTF-16, and data blobs that are plain, zlib or zstd. All integers are big-endian.
Source: qtbase, src/tools/rcc/rcc.cpp and src/corelib/io/qresource.cpp.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from embedspace.errors import MediaError, MissingExtraError

__all__ = ["read_rcc"]

_ZLIB, _DIRECTORY, _ZSTD = 1, 2, 4


def read_rcc(path: str | Path) -> dict[str, bytes]:
    """Read all files of a resource file.

    Args:
        path: The `.rcc` file.

    Returns:
        Path inside the resource ("gcompris/src/activities/lang/...") -> decompressed content.

    Raises:
        MediaError: If it is no resource file or is damaged.
        MissingExtraError: If an entry is compressed with zstd and the package zstandard is not installed.
    """
    content = Path(path).read_bytes()
    if content[:4] != b"qres" or len(content) < 20:
        raise MediaError(f"{path}: not a Qt resource file: it begins with {content[:4]!r}, not b'qres'")
    version, tree, data, names = struct.unpack_from(">4I", content, 4)
    if version not in (1, 2, 3):
        raise MediaError(f"{path}: version {version} of the Qt resource format; versions 1 to 3 can be read")
    try:
        found = _walk(content, tree, names, 14 if version == 1 else 22)
        return {name: _blob(content, data + offset, flags) for name, offset, flags in found}
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise MediaError(f"{path}: a damaged Qt resource file: {error}") from None


def _walk(content: bytes, tree: int, names: int, node_size: int) -> Iterator[tuple[str, int, int]]:
    """Yield (path, data offset, flags) of every file below the root node."""
    pending = [(0, "")]
    while pending:
        index, parent = pending.pop()
        at = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", content, at)
        path = "/".join(filter(None, (parent, _name(content, names + name_offset) if index else "")))
        if flags & _DIRECTORY:
            count, first = struct.unpack_from(">II", content, at + 6)
            pending.extend((child, path) for child in range(first, first + count) if child > index)
        else:
            (offset,) = struct.unpack_from(">I", content, at + 10)
            yield path, offset, flags


def _name(content: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">H", content, at)
    # Two bytes of length and four of hash come before the characters.
    return content[at + 6 : at + 6 + 2 * length].decode("utf-16-be")


def _blob(content: bytes, at: int, flags: int) -> bytes:
    (size,) = struct.unpack_from(">I", content, at)
    blob = content[at + 4 : at + 4 + size]
    if len(blob) != size:
        raise struct.error(f"an entry of {size} bytes ends after {len(blob)}")
    if flags & _ZLIB:
        # qCompress puts the plain size in four bytes before the zlib stream.
        return zlib.decompress(blob[4:])
    if flags & _ZSTD:
        try:
            import zstandard  # type: ignore[import-not-found, unused-ignore]
        except ImportError:
            raise MissingExtraError("this resource file is compressed with zstd: pip install zstandard") from None
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(blob))
    return blob
