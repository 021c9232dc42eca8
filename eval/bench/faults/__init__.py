"""Fault injection: processes that are killed, files that are damaged or hostile, readers beside a writer."""
