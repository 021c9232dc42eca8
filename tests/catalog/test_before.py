"""Catalogs made by earlier versions open, search as they did, verify, and can be changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.index.parts import PACKED
from embedspace.catalog.migrate import migrate
from tests.support.catalog_encoder import HashEncoder, random_units, unit, vector_items

DATA = Path(__file__).parents[1] / "data" / "catalog-format-1.zip"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.unpack_archive(DATA, tmp_path)
    return tmp_path / "old.catalog"


@pytest.mark.parametrize("derived", ["kept", "deleted"])
def test_old_catalog_opens_searches_and_verifies(old: Path, derived: str) -> None:
    files = {name: (old / name).stat().st_mtime_ns for name in (PACKED, "image.faiss")}
    if derived == "deleted":
        for name in files:
            (old / name).unlink()
    expected = json.loads((old.parent / "expected.json").read_text(encoding="utf-8"))
    with Catalog.open(old) as catalog:
        assert catalog.verify().ok
        info = catalog.info()
        assert (info.items, info.embed_dim, info.settings) == (59, 16, "small")
        assert [failure.uri for failure in info.failures] == ["/gone/bad.png"]
        catalog.check_fingerprint(HashEncoder().fingerprints())
        assert len(expected) == 6
        for name, wanted in expected.items():
            words, _, where = name.partition("|")
            hits = catalog.search(unit(words), query_modality="text", k=8, where=where or None)[0]
            assert [[hit.id, hit.uri, hit.modality] for hit in hits] == [one[:3] for one in wanted]
            assert [hit.score for hit in hits] == pytest.approx([one[3] for one in wanted], abs=1e-6)
            assert [hit.probability for hit in hits] == pytest.approx([one[4] for one in wanted], abs=1e-5)
    if derived == "kept":  # used as they are, not built anew
        assert {name: (old / name).stat().st_mtime_ns for name in files} == files


def test_old_catalog_can_be_changed_and_migrated(old: Path) -> None:
    encoder = HashEncoder({"text": "2"})
    with Catalog.open(old) as catalog:
        catalog.add(vector_items(random_units(5, seed=4), first=100))
        assert catalog.remove("number = 101").items == 1
        report = migrate(catalog, encoder)
        assert (report.modalities, report.encoded, report.failed) == (("text",), 3, [])
        hit = catalog.search(encoder.query("text", "tall grass"), query_modality="text", k=1)[0][0]
        assert (hit.uri, hit.text) == ("text:1", "tall grass")
        assert catalog.verify().ok and len(catalog) == 63
