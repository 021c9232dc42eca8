"""Training of the default space: its recipe, its stages and what they read."""
