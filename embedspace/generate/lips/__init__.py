"""Words read from lips."""

from embedspace.generate.lips.reader import LipReader, ReadLine

__all__ = ["LipReader", "ReadLine"]
