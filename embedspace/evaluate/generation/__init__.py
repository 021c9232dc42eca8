"""Measure generation: captions, speech, pictures and sounds, by judges that take no part in it."""
