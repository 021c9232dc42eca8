"""Approximate search with FAISS: what it is built of, how it lies on disk, how it is searched."""
