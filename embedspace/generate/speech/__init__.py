"""Captions said by a voice that is installed."""
