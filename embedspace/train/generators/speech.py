"""The speech head is the text head and an installed voice: there is nothing to train, only to say that there is one."""

from __future__ import annotations

from embedspace.train.generators.run import HeadRun, write_head_config

__all__ = ["train"]


def train(run: HeadRun) -> None:
    """Write the head's configuration."""
    write_head_config(run, {})
