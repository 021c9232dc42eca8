"""Train what draws the next frame of a film."""
