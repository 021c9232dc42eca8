"""Speech in the voice of a reference recording, and the vocoder that makes it heard."""
