"""Measure what voices say: the word error rate of an independent recogniser, beside people's and another caption's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import MissingExtraError
from embedspace.evaluate.encode import read_shard
from embedspace.evaluate.generation.captions.suite import CaptionSuite, SpeechPart
from embedspace.evaluate.generation.judges import named_function
from embedspace.evaluate.generation.measures.clusters import clustered_ratio
from embedspace.evaluate.generation.measures.words import spoken_words, word_errors
from embedspace.evaluate.generation.session import Session
from embedspace.generate.speech import voices
from embedspace.media.resample import resample_waveform

__all__ = ["error_row", "speech_rows"]

Recogniser = Callable[[list[Any]], list[str]]
_RATE = 16_000  # Hz, of the recogniser
_BATCH = 8
_SHOWN_MISHEARD = 12


def speech_rows(session: Session[CaptionSuite], part: SpeechPart) -> list[dict[str, Any]]:
    """Return the word error rate of each voice, of people, and of the wrong caption."""
    recogniser: Recogniser = named_function(session.suite.judge)
    captions = [str(item.row["captions"][0]) for item in session.items[part.captions]]
    rows: list[dict[str, Any]] = []
    for voice in part.voices or tuple(voices.available()):
        try:
            said = [resample_waveform(voices.speak(t, voice)[0], voices.SAMPLE_RATE, _RATE) for t in captions]
        except MissingExtraError as error:
            session.failures[voice] = str(error)
            continue
        heard = _heard(session, recogniser, voice, said)
        rows.append(error_row(voice, captions, heard, session.suite.resamples))
        shuffled = [*captions[1:], captions[0]]
        rows.append(error_row(f"{voice}, shuffled", shuffled, heard, session.suite.resamples))
    if part.real:
        clips = [(read_shard(session.corpora, item.content), item) for item in session.items[part.real]]
        known = [(clip, str(item.row["captions"][0])) for clip, item in clips if clip is not None]
        heard = _heard(session, recogniser, "people", [clip for clip, _ in known])
        rows.append(error_row("people", [text for _, text in known], heard, session.suite.resamples))
    return rows


def _heard(
    session: Session[CaptionSuite], recogniser: Recogniser, system: str, waveforms: list[NDArray[np.float32]]
) -> list[str]:
    """Return what the recogniser hears in waveforms (T,) at 16 kHz."""
    heard: list[str] = []
    for start in range(0, len(waveforms), _BATCH):
        heard += recogniser(list(waveforms[start : start + _BATCH]))
        session.tell(f"hear {system}", len(heard), len(waveforms))
    return heard


def error_row(system: str, meant: list[str], heard: list[str], resamples: int) -> dict[str, Any]:
    """Return the word error rate: errors over words, with the interval over different captions."""
    words = np.array([len(spoken_words(text)) for text in meant], np.float64)
    errors = np.array(
        [word_errors(spoken_words(a), spoken_words(b)) for a, b in zip(meant, heard, strict=True)], np.float64
    )
    rate = clustered_ratio(errors, words, meant, resamples=resamples) or [float(errors.sum())] * 3
    wrong = [{"meant": a, "heard": b} for a, b, e in zip(meant, heard, errors, strict=True) if e]
    return {
        "system": system,
        "captions": len(meant),
        "word_error_rate": rate,
        "misheard": wrong[:_SHOWN_MISHEARD],
    }
