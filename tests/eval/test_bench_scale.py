"""The bench of many items runs at a small size and prints what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.bench import bench_scale
from eval.bench.scale_peers import WANTED, missing_peers


def test_bench_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["bench_scale", "--items", "400", "--peers", "faiss,hnswlib", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(bench_scale, "QUERIES", 12)
    monkeypatch.setattr(bench_scale, "STARTS", 2)
    bench_scale.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["items"] == 400 and found["recall"] == found["half_recall"] == found["newer_recall"] == 1.0
    assert found["peers_missing"] == missing_peers(["faiss", "hnswlib"])
    assert found["faiss IVF80-SQ8"]["recall"] >= WANTED and found["faiss IVF80-SQ8"]["p50_ms"] > 0
    assert found["calibrated"]["recall"] == 1.0 and found["calibrated"]["faiss IVF80-SQ8"]["catalog_over_it"] > 0
    for name in ("search_after_one_delete_ms", "close_after_one_item_bytes", "first_search_ms", "anonymous_mb"):
        assert found[name] > 0
    assert json.loads((tmp_path / "scale.json").read_text())["items"] == 400


def test_nearest_is_brute_force() -> None:
    rng = np.random.default_rng(0)
    corpus, queries = rng.normal(size=(300, 8)).astype(np.float16), rng.normal(size=(4, 8)).astype(np.float32)
    wanted = np.argsort(-(queries @ corpus.astype(np.float32).T), axis=1)[:, :10]
    np.testing.assert_array_equal(bench_scale.nearest(corpus, queries), wanted)


def test_unknown_peers_are_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench_scale", "--peers", "faiss,oracle"])
    with pytest.raises(SystemExit):
        bench_scale.main()
    assert "unknown oracle; known: faiss, hnswlib, usearch, lancedb, qdrant-edge" in capsys.readouterr().err
