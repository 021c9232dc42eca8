"""The paths, one file per topic."""
