"""How generators sample: one file per family."""
