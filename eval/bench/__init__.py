"""Benchmarks of speed and memory; each prints its figure as one JSON line."""
