"""Is somebody heard speaking? What a reference, or a source, has to be before its voice or words are taken.

Source: Gemmeke et al. 2017, "Audio Set", for the classes that speech is told from music by.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.yamnet import HOP_LENGTH, PATCH_HOP, YAMNet
from embedspace.errors import InputError

__all__ = ["LEAST_SECONDS", "LONGEST_SECONDS", "check_speech", "speech_in"]

LEAST_SECONDS = 3.0
"""Of speech that a reference has at least."""
LONGEST_SECONDS = 60.0
"""Of a reference that are used; more says nothing new."""
_RATE = 16_000
_SPEECH = ("Speech", "Child speech, kid speaking", "Conversation", "Narration, monologue", "Speech synthesizer")
_MUSIC = ("Music", "Musical instrument", "Singing")
_HEARD = 0.2
"""Probability of speech from which a patch counts as such."""
_LOUD = 10.0 ** (-35.0 / 20.0)
"""Level of what is heard at all, beside the loudest patch."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is heard in a recording.

    Attributes:
        speech: Seconds in which somebody speaks.
        seconds: Its length.
        music: Mean probability of music.
    """

    speech: float
    seconds: float
    music: float


@functools.cache
def _tagger() -> YAMNet:
    return cast(YAMNet, create_backbone("yamnet").eval())


def speech_in(waveform: NDArray[np.float32]) -> Heard:
    """Return for how long somebody speaks in a recording (T,) at 16 kHz."""
    tagger = _tagger()
    peak = max(float(np.abs(waveform).max(initial=0.0)), 1e-5)
    patches = tagger.preprocess(waveform * np.float32(0.5 / peak))
    with torch.inference_mode():
        chances = torch.cat([tagger(part).logits for part in torch.split(patches, 64)]).sigmoid().numpy()
    step = PATCH_HOP * HOP_LENGTH
    levels = np.array(
        [np.sqrt(np.mean(np.square(waveform[k * step : k * step + 2 * step]))) for k in range(len(chances))]
    )
    loud = levels > _LOUD * max(float(levels.max()), 1e-9)
    speech = chances[:, [tagger.classes.index(name) for name in _SPEECH]].max(axis=1)
    music = chances[:, [tagger.classes.index(name) for name in _MUSIC]].max(axis=1)
    spoken = loud & (speech > _HEARD) & (speech > music)
    total = len(waveform) / _RATE
    return Heard(total * float(spoken.mean()), total, float(music[loud].mean()) if loud.any() else 0.0)


def check_speech(waveform: NDArray[np.float32], name: str, least: float, what: str) -> None:
    """Refuse a recording in which nobody speaks, or not for long enough.

    Args:
        waveform: (T,) at 16 kHz.
        name: Of the file.
        least: Seconds of speech.
        what: What the recording is for: "a reference".

    Raises:
        InputError: If it is.
    """
    heard = speech_in(waveform)
    if heard.speech >= least:
        return
    if heard.speech < min(0.5, least):
        seems = "music is" if heard.music > 0.3 else "no speech is"
        raise InputError(f"{name}: {seems} heard in it; {what} is a recording of one person who speaks")
    raise InputError(
        f"{name}: {heard.speech:.1f} s of speech; {what} has at least {least:g} s, and 10 s or more make a better voice"
    )
