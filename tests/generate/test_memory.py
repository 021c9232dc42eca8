"""Where memory really runs out: samples are made in smaller batches, and one that does not fit is one clear line."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from embedspace.errors import ArgumentError, InputError
from embedspace.generate.base import Generator, Request, Sample, Sources
from embedspace.generate.memory import generate_within

MEGABYTE = 1 << 20


@contextlib.contextmanager
def memory_left(megabytes: int) -> Iterator[None]:
    """Leave this process so much beyond what it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * MEGABYTE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Weighty(Generator):
    """Each sample takes so many megabytes while it is made."""

    modality = "image"
    options: ClassVar[frozenset[str]] = frozenset({"size"})

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self.megabytes = megabytes
        self.asked: list[int] = []

    def generate(self, vectors: Any, sigma: Any, request: Request) -> list[list[Sample]]:
        room = np.empty((request.num_samples * len(vectors), self.megabytes * MEGABYTE), np.uint8)
        self.asked.append(request.num_samples)
        seeds = range(request.seed, request.seed + request.num_samples)
        return [[Sample("image", room[0, :3].copy(), seed) for seed in seeds] for _ in vectors]


def test_fewer_are_made_at_a_time_and_they_are_the_same() -> None:
    sources = Sources.centred_only(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    generator = Weighty(200)
    with memory_left(1000):  # 5 of the 10 do not fit, 2 of 2 vectors do
        made = generate_within(generator, sources, Request(num_samples=5, seed=7))
    assert [[sample.seed for sample in row] for row in made] == [[7, 8, 9, 10, 11]] * 2
    assert max(generator.asked) == 2 and sum(generator.asked) == 5


def test_one_that_does_not_fit_is_told_by_what_makes_it_large() -> None:
    sources = Sources.centred_only(np.eye(1, 2, dtype=np.float32), np.zeros(1, np.float32))
    with memory_left(100):
        with pytest.raises(ArgumentError, match=r"^size 2048: a sample does not fit into memory; ask for less$"):
            generate_within(Weighty(2000), sources, Request(num_samples=3, size=2048))
        with pytest.raises(InputError, match="a sample does not fit into memory; end other programs"):
            generate_within(Weighty(2000), sources, Request())


SHIPPED = """
from embedspace.generate import generate
from embedspace.generate.base import Request
from embedspace.space import EmbeddingSpace
from tests.generate.test_memory import memory_left

space = EmbeddingSpace.from_pretrained()
vector = space.encode_text(["a violin"])
made = lambda **given: generate(space, vector, to="image", request=Request(num_steps=1, **given))[0][0].content
small = made()
with memory_left(2):
    try:
        made(num_samples=4, size=2048)
    except Exception as error:
        print(type(error).__name__, error)
print((made() == small).all())
"""


def test_the_shipped_generator_tells_a_size_that_does_not_fit() -> None:
    """In a process of its own: convolutions that found no memory are not to be trusted in other tests."""
    done = subprocess.run([sys.executable, "-c", SHIPPED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "ArgumentError size 2048: a sample does not fit into memory; ask for less", "True",
    ]  # fmt: skip
