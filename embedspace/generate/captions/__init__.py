"""Captions from vectors, and the vocabulary of names that they are ranked with."""
