"""Export to a LanceDB table, read back by LanceDB."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.store.contents import segment_pages
from embedspace.errors import InputError
from tests.support.catalog_encoder import EMBED_DIM, new_catalog, random_units, vector_items


@pytest.fixture
def catalog(tmp_path: Path) -> Any:
    with new_catalog(tmp_path / "c.catalog") as opened:
        opened.add(vector_items(random_units(90), per_item=3))
        opened.add(vector_items(random_units(10, seed=1), "audio", first=100))
        yield opened


def opened_table(folder: Path, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lancedb
    return lancedb.connect(str(folder)).open_table(name)


def test_table_is_read_and_searched_by_lancedb(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.export(tmp_path / "media.lance") == 100
    table = opened_table(tmp_path, "media")
    found = table.to_arrow()
    ids, vectors = catalog.vectors()
    assert found["id"].to_pylist() == ids
    held = np.stack(found["vector"].to_numpy()).astype(np.float32)
    assert held.shape == (100, EMBED_DIM) and held.tobytes() == vectors.tobytes()
    assert json.loads(found["metadata"][0].as_py()) == {"number": 0, "even": True}
    assert found["start"].to_pylist()[:3] == [0.0, 1.0, 2.0] and found["modality"][99].as_py() == "audio"
    origin = json.loads(found.schema.metadata[b"embedspace"])
    assert origin["fingerprints"] == dict(catalog.fingerprints) and origin["embed_dim"] == EMBED_DIM
    query = random_units(1, seed=3)[0]
    hits = table.search(query).metric("dot").where("modality = 'image'").limit(5).to_list()
    best = catalog.search(query, query_modality="text", to="image", k=1)[0][0]
    assert hits[0]["id"] == best.id and 1 - hits[0]["_distance"] == pytest.approx(best.score, abs=1e-3)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_table_is_there_whole_or_not_at_all(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "media.lance").mkdir()
    with pytest.raises(InputError, match=r"media\.lance: exists already; name another table, or delete that one"):
        catalog.export(tmp_path / "media.lance")
    pages = list(segment_pages(catalog.store))

    def cut(_: Any) -> Any:
        yield pages[0]
        raise KeyboardInterrupt

    monkeypatch.setattr("embedspace.catalog.lance.segment_pages", cut)
    with pytest.raises((KeyboardInterrupt, OSError, RuntimeError, ValueError)):
        catalog.export(tmp_path / "other.lance")
    assert {path.name for path in tmp_path.iterdir()} == {"c.catalog", "media.lance"}


def test_storage_that_refuses_is_one_line(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("CLIENT_RETRY_TIMEOUT", "1")
    with pytest.raises(
        InputError, match=r"s3://bucket/media\.lance: the storage refuses it \(.*check address and"
    ) as info:
        catalog.export(Path("s3://bucket/media.lance"))
    assert "\n" not in str(info.value)
