"""Encoding beyond a process: shards of files, encoded by actors of Ray, each written as one part of parquet.

Parts are what `catalog import` reads. The catalog is then filled by the ordinary ingest, whose encoder looks vectors up
in the parts: what is unchanged, twice, moved or unreadable is decided by one code, however many processes encode.
"""
