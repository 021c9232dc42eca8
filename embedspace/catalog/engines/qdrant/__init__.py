"""Qdrant as an engine: a server by its client (`client`), or the same engine in this process (`edge`)."""
