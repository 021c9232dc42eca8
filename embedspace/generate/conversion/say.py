"""Words or a recording, said in a voice: one that is installed, or that of a reference recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedspace.generate.speech import voices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["say_in", "say_words"]


def say_words(text: str, voice: str | None) -> tuple[NDArray[np.float32], int, dict[str, Any]]:
    """Say a text in an installed voice, or in that of a reference.

    Returns:
        (T,) float32 in [-1, 1], Hz, and what it was made by.

    Raises:
        EmbedspaceError: If no voice is installed, or the reference is no speech.
    """
    if not voices.is_reference(voice):
        waveform, used = voices.speak(text, voice)
        return waveform, voices.SAMPLE_RATE, {"voice": used}
    from embedspace.generate.conversion.converter import shipped_converter
    from embedspace.media.resample import resample_waveform

    converter = shipped_converter()
    reference = converter.reference(str(voice))  # before anything is said: it is what may be wrong
    waveform, used = voices.speak(text)
    source = resample_waveform(waveform, voices.SAMPLE_RATE, converter.sample_rate)
    made = converter.convert(source, reference, checked=False)
    return made, converter.sample_rate, {**converter.about_of(reference), "said_by": used}


def say_in(recording: str, voice: str) -> tuple[NDArray[np.float32], int, dict[str, Any]]:
    """Return what is said in a recording, in the voice of a reference; Hz, and what it was made by.

    Raises:
        EmbedspaceError: If one of them is no speech, or cannot be read.
    """
    from embedspace.generate.conversion.converter import shipped_converter

    converter = shipped_converter()
    reference = converter.reference(voice)
    return converter.convert(recording, reference), converter.sample_rate, converter.about_of(reference)
