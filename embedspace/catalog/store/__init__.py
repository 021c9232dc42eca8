"""The truth: what a catalog holds, in one SQLite file. All SQL is here."""
