"""Training of what reads lips and signs."""
