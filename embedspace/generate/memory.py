"""Where memory runs out: fewer samples at a time, and one line where a single one does not fit."""

from __future__ import annotations

import dataclasses

from embedspace.errors import ArgumentError, InputError
from embedspace.generate.base import Generator, Request, Sample, Sources
from embedspace.generate.targets import target_of

__all__ = ["generate_within", "ran_out"]

_GROW = ("size", "seconds", "candidates")
"""Options that a sample takes more memory for, the likeliest first."""


_WORDS = ("allocate memory", "out of memory", "could not create a primitive")
"""What torch's allocators say on a processor and on a GPU, and oneDNN, which its convolutions call."""


def ran_out(error: BaseException) -> bool:
    """Return whether memory ran out."""
    told = str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(one in told for one in _WORDS))


def generate_within(generator: Generator, sources: Sources, request: Request) -> list[list[Sample]]:
    """Make samples; where memory runs out, half as many at a time, which are the same.

    Args:
        generator: Makes them.
        sources: What they are made from.
        request: How.

    Raises:
        ArgumentError: If not even one fits, and an option says how large it is.
        InputError: If not even one fits, and none does.
    """
    try:
        return generator.generate_from(sources, request)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        cause = error
    count, target = request.num_samples, target_of(generator.modality)
    if count > 1 and not (target is not None and target.ranked):
        first = dataclasses.replace(request, num_samples=count // 2)
        rest = dataclasses.replace(request, num_samples=count - count // 2, seed=request.seed + count // 2)
        halves = [generate_within(generator, sources, part) for part in (first, rest)]
        return [[*one, *other] for one, other in zip(*halves, strict=True)]
    for name in _GROW:
        value = getattr(request, name)
        if value not in (None, 1):
            raise ArgumentError(name, f"{value}: a sample does not fit into memory; ask for less") from cause
    raise InputError("a sample does not fit into memory; end other programs, or take another family") from cause
