from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from embedspace.encoders.shipped.audio import AudioConfig, AudioProjections
from embedspace.encoders.towers import create_backbone
from training.align.stages.audio import _name_vectors


def test_name_vectors_are_the_means_of_synonyms_as_words_and_as_sounds() -> None:
    names = ("Bark", "Whoop", "Rain", "Bow-wow", "Beep, bleep")
    found = _name_vectors("minilm_l6", names)
    assert found.dtype == np.float32
    backbone: Any = create_backbone("minilm_l6")

    def vector(*words: str) -> torch.Tensor:
        texts = [text for word in words for text in (f"the sound of {word}", word)]
        with torch.inference_mode():
            return F.normalize(backbone([backbone.preprocess(t) for t in texts]).normalized.sum(dim=0), dim=0)

    expected = [vector("bark"), vector("whoop"), vector("rain"), vector("bow-wow"), vector("beep", "bleep")]
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), atol=1e-5)


def test_audio_heads_prior_is_the_mix_of_the_likely_classes() -> None:
    heads = AudioProjections(AudioConfig(("a", "b"), 4, 6, 8, 1, 3, temperature=2.0))
    heads.classes.copy_(torch.eye(3, 6))
    logits = torch.tensor([[40.0, 0.0, 0.0], [2.0, 2.0, -60.0], [1.0, 3.0, -60.0]])
    rows = heads.prior(logits)
    torch.testing.assert_close(rows[0], torch.eye(6)[0])
    torch.testing.assert_close(rows[1, :2], torch.full((2,), 0.5**0.5))
    torch.testing.assert_close(rows[2, 1] / rows[2, 0], torch.tensor(2.0 / 2.0).exp())
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
