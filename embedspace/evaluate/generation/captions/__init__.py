"""Measure captions and speech: do they name what is there, and is what is said understood."""
