"""Sound for silent film ("sonorisation").

matching, movement    what moves between frames, the camera's way (`encoders/film/camera`) taken out, and how fast
impacts       where velocities change at once: when something is heard
naming        names that sounds bear, and which of them a thing has
watching      a film looked at once: impacts, what they mean, what the film means
sounds        where sounds come from: training items, the generator, a catalog
mixing        sounds at their times, with level and pan, bounded in loudness
soundtrack    all of it, and the file that it goes into
"""

from __future__ import annotations

from embedspace.generate.soundtrack.impacts import ImpactSettings
from embedspace.generate.soundtrack.sounds import CatalogSounds, FoundSound, SoundBank
from embedspace.generate.soundtrack.soundtrack import SoundEvent, Soundtrack, scored, soundtrack_of
from embedspace.generate.soundtrack.watching import Watched, watch

__all__ = [
    "CatalogSounds",
    "FoundSound",
    "ImpactSettings",
    "SoundBank",
    "SoundEvent",
    "Soundtrack",
    "Watched",
    "scored",
    "soundtrack_of",
    "watch",
]
