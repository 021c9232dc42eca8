"""Give a film another sound: its pictures are copied packet by packet, bit for bit, and never decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaError
from embedspace.files import replacing
from embedspace.media.resample import Resampler
from embedspace.media.sound import open_container, open_sound
from embedspace.media.source import check_file, one_line

__all__ = ["FILM_FORMATS", "has_sound", "own_sound", "write_film"]

FILM_FORMATS = {
    ".mp4": "aac", ".m4v": "aac", ".mov": "aac", ".mkv": "aac", ".webm": "libopus", ".avi": "pcm_s16le",
}  # fmt: skip
"""Suffix of a film that is written -> how its sound is encoded."""
_AHEAD = 1.0
"""Seconds by which sound is written ahead of the pictures."""
_CHUNK = 1 << 14


def has_sound(film: str | os.PathLike[str]) -> bool:
    """Return whether a film has a sound track.

    Raises:
        MediaError: If it cannot be opened.
    """
    file = check_file(film)
    with open_container(file, str(file)) as container:
        return bool(container.streams.audio)


def own_sound(film: str | os.PathLike[str], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield the sound of a film from where its pictures begin, (n, 2) float32 at a rate in Hz, in constant memory.

    Raises:
        MediaError: If it cannot be decoded.
    """
    file = check_file(film)
    with open_container(file, str(file)) as container:
        seen, heard = container.streams.video[0], container.streams.audio[0]
        late = _begin(heard) - _begin(seen)
    left = max(0, round(-late * sample_rate))  # what is heard before the first picture
    if late > 0:
        yield np.zeros((round(late * sample_rate), 2), np.float32)
    with open_sound(file) as sound:
        sides = [Resampler(sound.sample_rate, sample_rate) for _ in range(2)]
        for block in sound.blocks:
            both = [sides[k].push(np.ascontiguousarray(block[:, min(k, block.shape[1] - 1)])) for k in range(2)]
            part = np.stack(both, axis=1)[left:]
            left = max(0, left - len(both[0]))
            yield part
        yield np.stack([side.flush() for side in sides], axis=1)


def write_film(
    path: str | os.PathLike[str],
    film: str | os.PathLike[str],
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a film with the pictures of another one and a sound of its own, whole or not at all.

    Args:
        path: Its suffix says the format, one of `FILM_FORMATS`.
        film: Whose pictures are copied; its sound is not.
        blocks: (n, 2) float32 in [-1, 1], in order, from the first picture on.
        sample_rate: Hz.
        metadata: Added to what the film says of itself, all of it under "comment".

    Returns:
        The path.

    Raises:
        EmptyMediaError: If the film has no pictures.
        MediaError: If the format is not known, cannot hold the film's pictures, or cannot be written.
    """
    import av

    target, file = Path(path), check_file(film)
    codec = FILM_FORMATS.get(target.suffix.lower())
    if codec is None:
        raise MediaError(f"{target}: cannot write films {target.suffix or 'without a suffix'}; use {_known()}")
    with open_container(file, str(file)) as source:
        if not source.streams.video:
            raise EmptyMediaError(f"{file}: has no pictures; give a video")
        seen = source.streams.video[0]
        name = seen.codec_context.name if seen.codec_context is not None else "pictures"
        try:
            with replacing(target) as partial, av.open(str(partial), "w") as made:
                made.metadata.update({**source.metadata, **_comment(metadata or {})})
                copied = made.add_stream_from_template(seen)  # first, as players expect it
                _copy(source, seen, copied, _Encoded(made, codec, sample_rate, blocks, _begin(seen)))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{target}: cannot be written ({one_line(error)}); if {target.suffix} does not hold {name}, use .mkv; "
                "else check the folder and its space"
            ) from error
    return target


def _known() -> str:
    return ", ".join(FILM_FORMATS)


def _comment(metadata: Mapping[str, str]) -> dict[str, str]:
    lines = [f"{key}: {value}" for key, value in metadata.items()]
    return {"comment": "\n".join(lines)} if lines else {}


def _begin(track: Any) -> float:  # noqa: ANN401 - av.VideoStream or av.AudioStream
    """Return the second at which a track begins."""
    return float((track.start_time or 0) * track.time_base) if track.time_base else 0.0


class _Encoded:
    """A sound track that is written piece by piece, as far as it is wanted."""

    def __init__(self, made: Any, codec: str, rate: int, blocks: Iterable[NDArray[np.float32]], begin: float) -> None:  # noqa: ANN401
        self.made, self.rate, self.begin = made, rate, begin
        self.track: Any = made.add_stream(codec, rate=rate, layout="stereo")
        self._chunks = _chunks(blocks)
        self._samples = 0

    def write(self, until: float) -> None:
        """Write on up to a second of the film."""
        import av

        while self.begin + self._samples / self.rate < until:
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk.T), format="fltp", layout="stereo")
            frame.sample_rate, frame.time_base = self.rate, Fraction(1, self.rate)
            frame.pts = round(self.begin * self.rate) + self._samples
            self._samples += len(chunk)
            self.made.mux(self.track.encode(frame))

    def end(self) -> None:
        """Write all that is left."""
        self.write(float("inf"))
        self.made.mux(self.track.encode(None))


def _chunks(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        for start in range(0, len(block), _CHUNK):
            yield np.clip(block[start : start + _CHUNK], -1.0, 1.0).astype(np.float32)


def _copy(source: Any, seen: Any, copied: Any, sound: _Encoded) -> None:  # noqa: ANN401 - av's containers
    for packet in source.demux(seen):
        if packet.dts is None and packet.pts is None:  # the end
            continue
        at = packet.dts if packet.dts is not None else packet.pts
        sound.write(float(at * packet.time_base) + _AHEAD)
        packet.stream = copied
        sound.made.mux(packet)
    sound.end()
