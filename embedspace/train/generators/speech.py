"""The generator of speech is that of captions and an installed voice: nothing is trained, its folder is written."""

from __future__ import annotations

from embedspace.train.generators.run import GeneratorRun, write_generator_config

__all__ = ["train"]


def train(run: GeneratorRun) -> None:
    """Write the generator's configuration."""
    write_generator_config(run, {})
