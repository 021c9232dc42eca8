"""The embedding space: media in, `(N, embed_dim)` unit rows out.

space = EmbeddingSpace.from_pretrained()
vectors = space.encode(["dog.png", "bark.wav", "a dog barking"])
space.similarity(vectors, vectors)
"""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.errors import ConfigError, InputError, UnknownModalityError, WeightsError
from embedspace.modality import Modality, is_modality, kinds, modality_spec
from embedspace.segment import Decoded, Segment
from embedspace.space.config import DEFAULT_WEIGHTS, compare_files, fingerprint, read_config

if TYPE_CHECKING:
    from embedspace.encoders.base import Encoders
    from embedspace.generate.api import Generators

__all__ = ["EmbeddingSpace"]


class EmbeddingSpace:
    """One vector space for images, sounds, text and speech.

    Make it with `from_pretrained`; an encoder's weights load when it is first used, so a text search never opens the
    image networks. Methods may be called from several threads.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], calibration: Calibration, device: str = "cpu") -> None:
        """Take a folder of weights and its parsed config; use `from_pretrained`."""
        self.folder = folder
        self.config = config
        self.calibration = calibration
        self.embed_dim = int(config["embed_dim"])
        self.modalities: tuple[str, ...] = tuple(config["sections"])
        self._device = device
        self._encoders: dict[str, Any] = {}
        self._backbones: dict[str, Any] = {}  # frozen networks that several encoders use, by name
        self._lock = threading.RLock()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path | None = None, *, device: str = "cpu") -> EmbeddingSpace:
        """Open a space; nothing is downloaded.

        Args:
            name_or_path: Folder that `save` or a training wrote; None is the space that ships with the package.
            device: Where the networks run: "cpu", "cuda", "cuda:1", "mps".

        Raises:
            WeightsError: If there is no space in the folder, or one of another format.
            ConfigError: If its configuration names an unknown modality or type.
        """
        folder = DEFAULT_WEIGHTS if name_or_path is None else Path(name_or_path)
        config = read_config(folder)
        stored = folder / "calibration.json"
        try:
            calibration = Calibration.from_json(stored.read_text("utf-8")) if stored.is_file() else Calibration()
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{stored}: cannot read the calibration: {error}") from error
        return cls(folder, config, calibration, device)

    def supports(self, modality: Modality | str) -> bool:
        """Return whether this space encodes a modality."""
        return str(modality) in self.modalities

    def save(self, path: str | Path) -> Path:
        """Copy heads, configuration and calibration into a folder that `from_pretrained` opens; returns it."""
        target = Path(path)
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(self.folder.iterdir()):
            if file.suffix in (".safetensors", ".json") and file.resolve() != (target / file.name).resolve():
                shutil.copyfile(file, target / file.name)
        return target

    def with_options(self, modality: Modality | str, **options: Any) -> EmbeddingSpace:  # noqa: ANN401
        """Return this space with an encoder that is set otherwise, such as `recognised_share=1.0` for speech.

        The same weights, but another fingerprint: its vectors do not fit a catalog of this space.

        Args:
            modality: Whose encoder.
            options: Keys of its section in the configuration.

        Raises:
            UnknownModalityError: If this space has no such encoder.
            ConfigError: If its section has no such key.
        """
        name, sections = str(modality), self.config["sections"]
        if name not in sections:
            raise UnknownModalityError(f"this space has no {name} encoder; it has: {', '.join(self.modalities)}")
        for key in options:
            if key not in sections[name]:
                raise ConfigError(f"{self.folder}: its {name} has no {key!r}; it has: {', '.join(sections[name])}")
        changed = {**sections, name: {**sections[name], **options}}
        other = EmbeddingSpace(self.folder, {**self.config, "sections": changed}, self.calibration, self._device)
        other._backbones = self._backbones  # the frozen networks are the same
        return other

    def fingerprints(self) -> Mapping[str, str]:
        """Return modality -> hex digest of its weights, configuration and preprocessing."""
        return {name: fingerprint(self.config, name, self.folder) for name in self.modalities}

    def calibration_json(self) -> str:
        """Return the calibration as JSON, for a catalog to keep."""
        return self.calibration.to_json()

    def encoder(self, modality: Modality | str) -> Any:  # noqa: ANN401 - typing it would import torch
        """Return the encoder of a modality, loading its weights the first time.

        Encoders of one space hold the same frozen networks, all on the space's device: do not move one alone.

        Raises:
            UnknownModalityError: If this space has no such encoder.
            WeightsError: If its weights are missing, damaged, or not those that the configuration names.
        """
        wanted = str(modality)
        if wanted not in self.modalities:
            known = ", ".join(self.modalities)
            if not is_modality(wanted):
                raise UnknownModalityError(f"unknown modality {wanted!r}; known: {known}")
            raise UnknownModalityError(f"this space has no {wanted} encoder; it has: {known}")
        with self._lock:
            if wanted not in self._encoders:
                from embedspace.encoders.registry import create_encoder
                from embedspace.encoders.towers.backbone import shared_backbones

                with shared_backbones(self._backbones):
                    made = create_encoder(self.config["sections"][wanted], self.folder, wanted)
                compare_files(self.config, wanted, self.folder)
                self._encoders[wanted] = made.to(self._device).eval()
            return self._encoders[wanted]

    def _all_encoders(self) -> Encoders:
        from embedspace.encoders.base import Encoders

        return Encoders(self.modalities, self.encoder)

    # ---- what the catalog needs

    def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:  # noqa: ANN401
        """Decode one item and prepare its segments; no network runs, so threads may share this.

        Args:
            source: A path; for text also a `str`, or a mapping field -> text; for an image also a PIL image or array.
            kind: "image", "audio", "text", "video" or another, as `modality_of` gives it.
            as_modality: Take a recording or video as this modality only; None lets its content decide.

        Raises:
            MediaError: If it cannot be decoded.
            UnknownModalityError: If there is no such kind.
        """
        from embedspace.encoders.batch import content_bytes
        from embedspace.encoders.decode import cuts_of
        from embedspace.media.memory import DECODING

        spec = modality_spec(kind) if kind in kinds() else None
        decoder = None if spec is None else spec.decode()
        if spec is None or decoder is None:
            raise UnknownModalityError(f"{source}: unknown kind {kind!r}; known: {', '.join(kinds())}")
        need = spec.memory_of(source)
        with DECODING.hold(need) if need else nullcontext():
            decoded: Decoded = decoder(source, self._all_encoders(), as_modality)
        decoded.nbytes = sum(content_bytes(piece.content) for piece in decoded.inputs)
        decoded.cuts = cuts_of(decoded.inputs)
        return decoded

    def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
        """Encode decoded items; result i holds the segments of items[i], whatever the other items are."""
        from embedspace.encoders.batch import encode_items

        return encode_items(items, self._all_encoders())

    # ---- what people call

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
        from embedspace.encoders.batch import pool_segments, progress_bar, resolve_item

        several = isinstance(items, Sequence) and not isinstance(items, str | bytes)
        sequence = list(items) if several else [items]
        rows: list[NDArray[np.float32]] = []
        with progress_bar(len(sequence), show_progress_bar, callback) as tell:
            for start in range(0, len(sequence), batch_size):
                chosen = [resolve_item(item, modality) for item in sequence[start : start + batch_size]]
                decoded = [self.decode(source, kind, as_modality=wanted) for source, kind, wanted in chosen]
                for (source, _, wanted), segments in zip(chosen, self.encode_decoded(decoded), strict=True):
                    rows.append(pool_segments(segments, wanted, source, normalize_embeddings))
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

    def names(
        self, vectors: NDArray[np.float32], modality: Modality | str = "image", k: int = 5
    ) -> list[list[tuple[str, float]]]:
        """Say what things may be called: zero-shot tagging with the names of the training items.

        Args:
            vectors: (N, embed_dim) unit rows, as `encode` gives them.
            modality: Of all of them.
            k: Names for each.

        Returns:
            For each row its nearest names with shares that sum to one, nearest first; none where this space came
            without the names, which its generators use as well.
        """
        from embedspace.vocabulary import generators_folder, names_of, vocabulary_of

        vocabulary = vocabulary_of(generators_folder(self.folder))
        return names_of(vocabulary, vectors, str(modality), k, self.calibration.means)

    def unknown_words(self, text: str) -> list[str]:
        """Return the parts of a text that the text encoder does not know, each once, in order.

        It reads English in Latin script. Emoji and most of Chinese are unknown to it, and what is unknown looks all
        alike: a text of nothing else has a vector that means nothing.

        Args:
            text: Any length.
        """
        return list(dict.fromkeys(self.encoder(Modality.TEXT).unknown(text)))

    def for_documents(self, vectors: NDArray[np.float32], modality: Modality | str = "image") -> NDArray[np.float32]:
        """Make the vectors that find documents (recipes, articles: fields and long passages) rather than captions.

        A picture's vector lies near those of short names, and long texts lie elsewhere. Each name that it may have
        finds the texts about what it names, and a document is as likely as its name is, times how well it fits the
        name: a picture that may be a pie or a pizza finds recipes of both. Among captions that finds less.

        Args:
            vectors: (N, embed_dim) unit rows, as `encode` gives them.
            modality: Of all of them.

        Returns:
            (N, K, embed_dim): for each row what it may be read as, likeliest first. The direction of a reading is a
            vector, its length the reading's share. Pictures have up to twenty; anything else one, itself, and
            everything where this space came without the names, which its generators use as well.

        Source: a query as a distribution over names, each searched as itself: Norouzi et al. 2014 (ConSE,
            https://arxiv.org/abs/1312.5650) mixes the names' vectors, here their hits are mixed.
        """
        from embedspace.vocabulary import generators_folder, readings_of, vocabulary_of

        vocabulary = vocabulary_of(generators_folder(self.folder))
        return readings_of(vocabulary, vectors, str(modality), self.calibration.means)

    @functools.cached_property
    def generators(self) -> Generators:
        """The generators of this space by what they make, as in `space.generators["image"]`; loaded when first used."""
        from embedspace.generate.api import Generators

        return Generators(self)

    def generate(
        self,
        vectors: NDArray[np.float32],
        *,
        to: Modality | str,
        modality: str | Sequence[str] = "text",
        neighbours: int = 0,
        force: bool = False,
        **request: Any,  # noqa: ANN401 - the fields of a Request, checked there
    ) -> list[list[Any]]:
        """Turn vectors into images, sounds, texts or speech.

        Args:
            vectors: (embed_dim,) or (N, embed_dim), as `encode` gives them.
            to: Target modality.
            modality: Which encoder made all of them, or each; "mixed" for a composed query that was centred.
            neighbours: So many nearest training items with each sample.
            force: Also generate from a vector that is far from everything known.
            request: Fields of `embedspace.generate.Request`: num_samples, seed, guidance_scale, num_steps, ...

        Returns:
            Result i holds the `embedspace.generate.Sample`s of vectors[i].

        Raises:
            InputError: If the vectors are none of this space, or the request asks for the impossible.
            OutsideError: If a vector is far from everything that the generators know, without `force`.
            WeightsError: If this space has no generator of the target.
        """
        from embedspace.generate import Request, generate

        try:
            asked = Request(**request)
        except TypeError as error:
            raise InputError(f"generate: {error}; see embedspace.generate.Request") from None
        return generate(self, vectors, to=to, modality=modality, request=asked, neighbours=neighbours, force=force)

    @staticmethod
    def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (N, M) cosines of unit rows (N, embed_dim) and (M, embed_dim)."""
        cosines: NDArray[np.float32] = (
            np.atleast_2d(np.asarray(a, np.float32)) @ np.atleast_2d(np.asarray(b, np.float32)).T
        )
        return cosines
