"""Speech in the voice of a reference recording, and the vocoder that makes it heard."""

from embedspace.generate.conversion.converter import NOTICE, Reference, VoiceConverter

__all__ = ["NOTICE", "Reference", "VoiceConverter"]
