"""The fixed sound front end: one window of sound -> the feature vector that the projections read.

`[YAMNet embedding: mean, max | YAMNet class scores: mean, max | Whisper last: mean, max | Whisper middle: mean, std |
log-mel mean, std | log duration]`. What a tagger of everyday sounds and a speech recogniser miss differs, so they stand
side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.encoders.towers import create_backbone
from embedspace.encoders.towers.whisper import WhisperEncoder
from embedspace.encoders.towers.yamnet import YAMNet

__all__ = ["AudioFrontEnd", "AudioInput"]

_MIDDLE_LAYER = 2
_PEAK = 0.7


class AudioInput(NamedTuple):
    """One window, ready for the networks.

    Attributes:
        patches: (patches, 96, 64) of YAMNet.
        frames: (80, frames) log-mel of Whisper.
        seconds: Length of the window.
    """

    patches: Tensor
    frames: Tensor
    seconds: float


class AudioFrontEnd(nn.Module):
    """A tagger and Whisper's encoder side by side, frozen.

    Args:
        sound: Name of the tagger.
        speech: Name of the speech backbone.
    """

    sample_rate = 16_000

    def __init__(self, sound: str = "yamnet", speech: str = "whisper_base") -> None:
        super().__init__()
        sound_net, speech_net = create_backbone(sound), create_backbone(speech)
        assert isinstance(sound_net, YAMNet)
        assert isinstance(speech_net, WhisperEncoder)
        self.sound, self.speech = sound_net, speech_net
        self.eval().requires_grad_(False)

    def preprocess(self, waveform: NDArray[np.float32]) -> AudioInput:
        """Prepare one (T,) window at 16 kHz, level-normalised by its peak."""
        gain = _PEAK / max(float(np.abs(waveform).max(initial=0.0)), 1e-5)
        levelled = (waveform * gain).astype(np.float32)
        seconds = len(waveform) / self.sample_rate
        return AudioInput(self.sound.preprocess(levelled), self.speech.preprocess(levelled), seconds)

    @torch.inference_mode()
    def forward(self, inputs: Sequence[AudioInput]) -> tuple[Tensor, Tensor]:
        """Return features (B, feature_dim) and the scores of the tagger's classes (B, classes), window by window."""
        rows = [self._one(x) for x in inputs]
        return torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows])

    def _one(self, x: AudioInput) -> tuple[Tensor, Tensor]:
        device = next(self.parameters()).device
        tagged = self.sound(x.patches.to(device))
        pooled, logits = tagged.pooled.float(), tagged.logits.float()
        heard = self.speech(x.frames[None].to(device), layers=(_MIDDLE_LAYER,))
        last, middle = heard.last[0].float(), heard.layers[0][0].float()
        mel = x.frames.to(device)
        parts = [
            pooled.mean(dim=0),
            pooled.amax(dim=0),
            logits.mean(dim=0) / 10,
            logits.amax(dim=0) / 10,
            last.mean(dim=0),
            last.amax(dim=0),
            middle.mean(dim=0),
            middle.std(dim=0, unbiased=False),
            mel.mean(dim=1),
            mel.std(dim=1, unbiased=False),
            torch.tensor([float(np.log(max(x.seconds, 0.01)))], device=device),
        ]
        return torch.cat([p.float() for p in parts]), logits.amax(dim=0)
