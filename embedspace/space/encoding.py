"""Encode items of any modality, one row each: paths, texts, pictures, waveforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.modality import Modality
from embedspace.space.core import SpaceCore

__all__ = ["EncodingSpace"]


class EncodingSpace(SpaceCore):
    """What people call to encode; see `EmbeddingSpace`."""

    def encode(
        self,
        items: Any,  # noqa: ANN401
        *,
        modality: str | None = None,
        batch_size: int = 32,
        normalize_embeddings: bool = True,
        show_progress_bar: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Encode items of any modality, one row each.

        Args:
            items: One item or a sequence: a path to a file (`Path`, or a `str` that names an existing one), a text, a
                PIL image, or a dict such as {"speech": "a.wav"} that says the modality. Waveforms: `encode_audio`.
            modality: Take all items as this modality.
            batch_size: Items decoded and encoded together.
            normalize_embeddings: Unit rows; without it a long item's row is the mean of its segments' unit rows.
            show_progress_bar: Draw one on stderr.
            callback: Told (done, total) after each batch.

        Returns:
            (N, embed_dim) float32. A long item is the mean of its segments; `encode_decoded` gives them all.

        Raises:
            MediaError: If an item cannot be decoded.
            UnknownModalityError: If it cannot be told what an item is.
        """
        return self._encode(
            items,
            modality,
            batch_size,
            normalize_embeddings,
            is_query=False,
            show_progress_bar=show_progress_bar,
            callback=callback,
        )

    def encode_document(self, items: Any, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode what is to be found; the same as `encode`."""
        return self.encode(items, **options)

    def encode_query(
        self,
        items: Any,  # noqa: ANN401
        *,
        modality: str | None = None,
        batch_size: int = 32,
        **options: Any,  # noqa: ANN401
    ) -> NDArray[np.float32]:
        """Encode what is searched with, for towers that were trained with a prompt for it; else as `encode`."""
        normalize = options.pop("normalize_embeddings", True)
        return self._encode(items, modality, batch_size, normalize, is_query=True, **options)

    def _encode(
        self,
        items: Any,  # noqa: ANN401
        modality: str | None,
        batch_size: int,
        normalize: bool,
        *,
        is_query: bool,
        show_progress_bar: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        from embedspace.encoders.batch import pool_segments, progress_bar, resolve_item

        several = isinstance(items, Sequence) and not isinstance(items, str | bytes)
        sequence = list(items) if several else [items]
        rows: list[NDArray[np.float32]] = []
        with progress_bar(len(sequence), show_progress_bar, callback) as tell:
            for start in range(0, len(sequence), batch_size):
                chosen = [resolve_item(item, modality) for item in sequence[start : start + batch_size]]
                decoded = [self.decode(source, kind, as_modality=wanted) for source, kind, wanted in chosen]
                for item in decoded:
                    item.is_query = is_query
                for (source, _, wanted), segments in zip(chosen, self.encode_decoded(decoded), strict=True):
                    rows.append(pool_segments(segments, wanted, source, normalize))
                tell(len(rows), len(sequence))
        return np.stack(rows) if rows else np.empty((0, self.embed_dim), np.float32)

    def encode_text(self, texts: str | Sequence[str], **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode texts (never read as paths) of any length; options as `encode`. Returns (N, embed_dim) unit rows."""
        wrapped = [{"text": t} for t in ([texts] if isinstance(texts, str) else texts)]
        return self.encode(wrapped, **options)

    def encode_image(self, images: Any, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode image files, PIL images or (H, W, 3) uint8 arrays; options as `encode`; (N, embed_dim) unit rows."""
        several = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        return self.encode([{"image": i} for i in (images if several else [images])], **options)

    def encode_audio(self, waveforms: Any, sample_rate: int | None = None, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode what recordings sound like.

        Args:
            waveforms: Sound files, or (T,) arrays in [-1, 1]; one or a sequence.
            sample_rate: Hz of the arrays; required for them.
            options: As `encode`.

        Returns:
            (N, embed_dim) unit rows.
        """
        return self._encode_sound(waveforms, sample_rate, Modality.AUDIO, options)

    def encode_speech(self, waveforms: Any, sample_rate: int | None = None, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode what is said in recordings; arguments as `encode_audio`. Returns (N, embed_dim) unit rows."""
        return self._encode_sound(waveforms, sample_rate, Modality.SPEECH, options)

    def encode_voice(self, waveforms: Any, sample_rate: int | None = None, **options: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Encode who speaks in recordings, of several people who speaks longest; arguments as `encode_audio`.

        Needs a space `with_voices()`. Returns (N, embed_dim) unit rows, to be compared with one another alone.
        """
        return self._encode_sound(waveforms, sample_rate, Modality.VOICE, options)

    def _encode_sound(
        self,
        waveforms: Any,  # noqa: ANN401
        sample_rate: int | None,
        modality: Modality,
        options: dict[str, Any],
    ) -> NDArray[np.float32]:
        single = isinstance(waveforms, str | Path) or (isinstance(waveforms, np.ndarray) and waveforms.ndim == 1)
        wrapped = [
            {modality.value: (w, sample_rate) if isinstance(w, np.ndarray) else w}
            for w in ([waveforms] if single else waveforms)
        ]
        return self.encode(wrapped, **options)
