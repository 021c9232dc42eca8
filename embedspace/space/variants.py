"""The same space set otherwise: other options, without its recogniser, with voices, with timing, in half precision."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Self

from embedspace.errors import ConfigError, UnknownModalityError
from embedspace.modality import Modality
from embedspace.space.config import timed_config, voiced_config
from embedspace.space.encoding import EncodingSpace

__all__ = ["SetOtherwise"]


class SetOtherwise(EncodingSpace):
    """What gives another space of the same weights, which shares the networks; see `EmbeddingSpace`."""

    def with_options(self, modality: Modality | str, **options: Any) -> Self:  # noqa: ANN401
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
        return self._set_otherwise({**self.config, "sections": changed})

    def _set_otherwise(self, config: Mapping[str, Any]) -> Self:
        """Return a space of this folder and another configuration, which shares the networks."""
        other = type(self)(self.folder, config, self.calibration, self._device)
        other._backbones, other._towers, other._kept = self._backbones, self._towers, self._kept
        other._download, other.half = self._download, self.half
        return other

    @property
    def has_recogniser(self) -> bool:
        """Whether speech is put into words, which are part of its vector."""
        return bool(self.config["sections"].get(Modality.SPEECH, {}).get("decoder"))

    def without_recogniser(self) -> Self:
        """Return this space with speech that is not put into words: faster, another fingerprint, hits without a text.

        Probabilities stay those that were measured with the recogniser.

        Raises:
            ConfigError: If it has no recogniser.
        """
        return self._without_recogniser

    @functools.cached_property
    def _without_recogniser(self) -> Self:
        if not self.has_recogniser:
            raise ConfigError(f"{self.folder}: has no recogniser of speech that could be left out")
        return self.with_options(Modality.SPEECH, decoder="")

    def with_voices(self) -> Self:
        """Return this space with an encoder of voices as well: who speaks, beside what is said.

        A voice identifies a person: store and search voices of people who agreed to it. Nothing makes them unless it is
        asked to. What else this space encodes, and its fingerprints, stay as they are; both share their networks.

        Raises:
            ConfigError: If it has no encoder of speech, or its rows have fewer than 256 numbers.
        """
        return self if Modality.VOICE in self.modalities else self._beside(voiced_config(self.config, self.folder))

    def with_timing(self) -> Self:
        """Return this space with encoders of timing as well: when something strikes in what is seen, and what is heard.

        A search for sounds by a video, and for videos by a sound, then knows what happens together
        (`embedspace.query.timing`). What else this space encodes, and its fingerprints, stay as they are; both share
        their networks.

        Raises:
            ConfigError: If it has no encoder of videos or of sounds, or its rows have fewer than 64 numbers.
        """
        return self if Modality.MOTION in self.modalities else self._beside(timed_config(self.config, self.folder))

    def _beside(self, config: Mapping[str, Any]) -> Self:
        """Return a space of a configuration that only adds to this one's, with the same encoders."""
        other = self._set_otherwise(config)
        other._encoders, other._lock = self._encoders, self._lock
        return other

    def in_half_precision(self) -> Self:
        """Return this space with networks that compute in bfloat16 where that proves as good.

        Each encoder tries it on the first batch of at least eight segments that are to be found (queries are computed
        in full), which takes four times as long as another. It goes on in it where each row keeps a cosine of .998
        with that of full precision and the batch took at most 1 / 1.1 of the time; `half.trials` says how it went.
        Fingerprints are the same, so rows of both fit one catalog.
        """
        from embedspace.encoders.half import HalfPrecision

        other = self._set_otherwise(self.config)
        other.half = HalfPrecision()
        return other
