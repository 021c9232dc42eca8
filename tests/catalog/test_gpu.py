"""An index on a GPU. The refusals run with the CPU build of FAISS that tests have.

No GPU build can run here, so that going up and coming down is tested with the real FAISS plus a stand-in for the four
names that only a GPU build has: its index refuses what a GPU index refuses, and otherwise is the CPU's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np
import pytest

from embedspace.catalog import Catalog, IndexSettings
from embedspace.catalog.index import gpu
from embedspace.errors import ConfigError
from tests.catalog.test_search import new_catalog, random_units, vector_items

CUDA = IndexSettings(name="cuda", index="ivf", nlist=4, nprobe=4, min_vectors=100, exact_below=20, device="cuda")


class OnGpu:
    """A GPU's index: as the CPU's, but it lives nowhere else, and returns 2,048 candidates at most."""

    def __init__(self, index: Any, number: int) -> None:
        self.inside, self.number, self.searches = index, number, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inside, name)

    def search(self, queries: np.ndarray, k: int, *, params: Any) -> Any:
        assert k <= 2048 and params.nprobe <= 2048, "more than a GPU index takes"
        self.searches += 1
        return self.inside.search(queries, k, params=params)


def forget() -> None:
    """Ask the installed FAISS anew."""
    for cache in (gpu.problem_of, gpu._cannot, gpu._resources):
        cache.cache_clear()


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The installed FAISS, and the names that a GPU build has besides; `gone_up` holds what went to a GPU."""
    module = ModuleType("faiss")
    module.__dict__.update(faiss.__dict__)
    up: list[OnGpu] = []

    def write(index: Any, path: str) -> None:
        assert not isinstance(index, OnGpu), "FAISS writes CPU indexes only"
        faiss.write_index(index, path)

    def raise_up(resources: Any, number: int, index: Any) -> OnGpu:
        up.append(OnGpu(index, number))
        return up[-1]

    added = {
        "gone_up": up, "StandardGpuResources": object, "get_num_gpus": lambda: 2, "index_cpu_to_gpu": raise_up,
        "index_gpu_to_cpu": lambda index: index.inside, "write_index": write,
    }  # fmt: skip
    module.__dict__.update(added)
    monkeypatch.setitem(sys.modules, "faiss", module)
    forget()
    yield module
    forget()


def test_a_catalog_for_a_gpu_is_refused_by_a_faiss_without(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"has no GPU support; install faiss-gpu-cu12 in place of faiss-cpu"
    ) as caught:
        new_catalog(tmp_path / "c.catalog", CUDA)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c.catalog").exists()


def test_a_gpu_that_is_not_there_is_refused(build: ModuleType) -> None:
    gpu.require_device("cuda:1")
    with pytest.raises(ConfigError, match="device 'cuda:2': FAISS sees 2 GPUs on this machine"):
        gpu.require_device("cuda:2")


def test_an_index_is_built_searched_and_written_on_a_gpu(
    tmp_path: Path, build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = random_units(500)
    with new_catalog(tmp_path / "c.catalog", CUDA) as catalog:
        catalog.add(vector_items(vectors))
        catalog.optimize()
        assert [one.number for one in build.gone_up] == [0]
        found = catalog.search(vectors[:20], query_modality="image", k=5)
        assert build.gone_up[0].searches == 1
    with Catalog.open(tmp_path / "c.catalog") as again:  # reads the file, and takes it up again
        assert again.search(vectors[3], query_modality="image", k=1)[0][0].uri == "item/3"
        assert len(build.gone_up) == 2
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    forget()
    with Catalog.open(tmp_path / "c.catalog") as elsewhere:
        same = elsewhere.search(vectors[:20], query_modality="image", k=5)
    assert [[hit.uri for hit in hits] for hits in same] == [[hit.uri for hit in hits] for hits in found]


def test_a_catalog_made_for_a_gpu_is_searched_elsewhere_and_says_so_once(
    tmp_path: Path, build: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new_catalog(tmp_path / "c.catalog", CUDA).close()
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    forget()
    vectors = random_units(300)
    with caplog.at_level(logging.WARNING, "embedspace"), Catalog.open(tmp_path / "c.catalog") as catalog:
        catalog.add(vector_items(vectors))
        catalog.optimize()
        assert catalog.search(vectors[7], query_modality="image", k=1)[0][0].uri == "item/7"
    assert [record.getMessage().count("searched on the CPU") for record in caplog.records] == [1]


def test_no_more_candidates_are_asked_for_than_a_gpu_gives(tmp_path: Path, build: ModuleType) -> None:
    vectors = random_units(3000)
    with new_catalog(tmp_path / "c.catalog", CUDA) as catalog:
        catalog.add(vector_items(vectors))
        hits = catalog.search(vectors[:2], query_modality="image", k=400)  # 400 * overfetch is more than 2,048
    assert [len(found) for found in hits] == [400, 400]
