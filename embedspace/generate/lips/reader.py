"""Read lips: a film in, what is said out, with times.

from embedspace.generate.lips import LipReader

reader = LipReader.from_pretrained()
for line in reader.read("talk.mp4"):
    print(line.start, line.end, line.text)
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.config import build
from embedspace.errors import InputError, WeightsError
from embedspace.files import read_config
from embedspace.generate.lips.decoding import BeamSettings, read_words
from embedspace.generate.lips.mouths import FPS, Locate, MouthTrack, iter_mouths
from embedspace.generate.lips.network import LipConfig, LipNetwork
from embedspace.generate.lips.words import WordModel
from embedspace.media.film import Film

__all__ = ["LipReader", "ReadLine"]

_SHIPPED = Path(__file__).resolve().parents[2] / "weights" / "lips"
_LONGEST = 12.0
"""Seconds that are read at once; a longer film is cut where the mouth is most at rest."""
_SHORTEST = 4.0
_ABOUT = "what reads lips"


@dataclass(frozen=True, slots=True)
class ReadLine:
    """Words read from lips.

    Attributes:
        text: In lower case.
        start: Seconds.
        end: Seconds.
        score: Natural logarithm of the probability by network and words, per picture.
    """

    text: str
    start: float
    end: float
    score: float


class LipReader:
    """A network, the words that it knows, and how they are searched."""

    def __init__(self, network: LipNetwork, words: WordModel | None, about: str = "", digest: str = "") -> None:
        """Hold a network.

        Args:
            network: Trained.
            words: The language model; None for letters alone.
            about: What the network was trained on.
            digest: Hex digest of its files.
        """
        self.network, self.words, self.about, self.digest = network.eval(), words, about, digest
        self.settings = BeamSettings()

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str] | None = None) -> LipReader:
        """Open a folder that `embedspace train generator` wrote; the one that ships by default.

        Raises:
            WeightsError: If a file is missing or damaged.
            ConfigError: If its configuration has an unknown key.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        where = Path(folder) if folder is not None else _SHIPPED
        config = read_config(where / "config.json", 1, _ABOUT)
        network = LipNetwork(build(LipConfig, config.get("network", {}), str(where / "config.json")))
        path = where / "network.safetensors"
        try:
            network.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise WeightsError(f"{path}: damaged or missing weights of {_ABOUT}: {error}") from error
        total = hashlib.sha256(b"".join((where / name).read_bytes() for name in ("config.json", path.name)))
        return cls(network, WordModel.load(where / "words.json"), str(config.get("about", "")), total.hexdigest())

    @torch.inference_mode()
    def letters(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (T, 29) logarithms of the probabilities of letters.

        Args:
            crops: (T, 32, 32) uint8 mouths at 25 pictures a second.
        """
        seen = torch.from_numpy(crops.astype(np.float32) / 255)[None]
        out: NDArray[np.float32] = self.network(seen, torch.tensor([len(crops)]))[0].numpy()
        return out

    def read(
        self, path: str | os.PathLike[str], *, locate: Locate | MouthTrack | None = None, film: Film | None = None
    ) -> list[ReadLine]:
        """Read what is said in a film, with some seconds of it in memory.

        Args:
            path: A video file that shows one face.
            locate: Finds the mouth, such as landmarks do: (T, H, W, 3) uint8 frames -> (T, 3) middle and half of a
                crop's side, in pixels; or what `embedspace.generate.lips.landmarks.read_landmarks` read from a file. By
                skin and motion by default.
            film: Told how far it has been read.

        Raises:
            InputError: If there is one picture only, no face, several faces, or nothing moves.
            EmptyMediaError: If the file has no pictures.
            MediaTooLargeError: If a frame is too large.
            MediaError: If it cannot be read.
        """
        if self.network.config.points:
            raise InputError(f"{path}: this reader takes points of people who sign (read_points), not films")
        crops = np.concatenate(list(iter_mouths(path, film or Film(), locate)))  # 1 KiB a picture
        lines = [self._line(crops[first:last], first) for first, last in _pieces(crops)]
        found = [line for line in lines if line.text]
        if not found:
            raise InputError(f"{path}: no words are read from the lips; show the face larger, from the front")
        return found

    def read_points(self, points: NDArray[np.floating]) -> ReadLine:
        """Read what is signed.

        Args:
            points: (T, 2 P) as `embedspace.train.generators.lips.signs` makes them, of one sentence.

        Raises:
            InputError: If they are not as many a frame as the network takes.
        """
        wanted = 2 * self.network.config.points
        if points.ndim != 2 or points.shape[1] != wanted or not len(points):
            raise InputError(f"points of shape {points.shape}: this reader takes (frames, {wanted})")
        with torch.inference_mode():
            seen = torch.from_numpy(points.astype(np.float32))[None]
            letters: NDArray[np.float32] = self.network(seen, torch.tensor([len(points)]))[0].numpy()
        text, score = read_words(letters, self.words, self.settings)
        return ReadLine(text, 0.0, len(points) / FPS, score / len(points))

    def _line(self, crops: NDArray[np.uint8], first: int) -> ReadLine:
        text, score = read_words(self.letters(crops), self.words, self.settings)
        return ReadLine(text, first / FPS, (first + len(crops)) / FPS, score / len(crops))


def _pieces(crops: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of what is read at once."""
    longest, shortest = round(_LONGEST * FPS), round(_SHORTEST * FPS)
    first = 0
    while len(crops) - first > longest:
        part = crops[first + shortest - 1 : first + longest].astype(np.int16)
        moves = np.abs(np.diff(part, axis=0)).mean(axis=(1, 2))
        quiet = np.convolve(moves, np.ones(9) / 9, mode="same")
        cut = first + shortest + int(quiet.argmin())
        yield first, cut
        first = cut
    yield first, len(crops)


@functools.cache
def shipped_reader() -> LipReader:
    """Return the reader that ships, opened once."""
    return LipReader.from_pretrained()
