"""Measure pictures or sounds: what a judge sees or hears in them, how they spread, which are near copies."""
