"""Measure every modality from every other: a matrix whose cells are scored by who can tell."""
