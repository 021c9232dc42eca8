"""Training of the generators: one recipe, one file per part."""
