"""Filters: the language of `where`, the values that it looks up, how it is planned, and what fields hold."""
