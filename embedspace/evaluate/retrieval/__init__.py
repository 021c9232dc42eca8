"""Measure retrieval: suites of directions, composed queries and documents."""
