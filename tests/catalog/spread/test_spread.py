"""Encoding by actors of Ray: the catalog of one process, whoever dies."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.bulk.importing import import_encoding, read_encoding
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.scan import scan
from embedspace.catalog.ingest.spread import rays
from embedspace.catalog.ingest.spread.parts import PartsEncoder, encode_shard, parts_in
from embedspace.catalog.ingest.spread.rays import encode_with_ray
from embedspace.catalog.ingest.spread.shards import Shard, cut_shards, part_path
from embedspace.catalog.ingest.spread.spread import ingest_spread
from embedspace.errors import MediaError, MissingExtraError, SpreadError, WeightsError
from tests.support.catalog_encoder import HashEncoder, new_catalog
from tests.support.dying_encoder import dying

COUNT = 40


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Pictures and recordings: two are twice there, one is bad."""
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(COUNT):
        suffix = "wav" if number % 5 == 0 else "png"
        said = b"speech" if number % 10 == 0 else b""
        (folder / f"{number:03}.{suffix}").write_bytes(b"content %d " % (number - (number in (7, 33))) + said)
    (folder / "bad.png").write_bytes(b"bad one")
    (folder / "rows.csv").write_text("path,title\n")
    return folder


def content_of(path: Path) -> tuple[Any, ...]:
    with Catalog.open(path, read_only=True) as catalog:
        ids, vectors = catalog.vectors()
        rows = catalog.store.rows("SELECT id, kind, as_modality, facts, metadata, hex(digest) FROM items ORDER BY id")
        places = catalog.store.rows("SELECT uri, size, mtime_ns, source FROM uris ORDER BY uri")
        assert catalog.verify().ok
        return ids, vectors.tobytes(), rows, places, catalog.store.failures()


@pytest.fixture
def wanted(tmp_path: Path, media: Path) -> tuple[Any, ...]:
    """What one process makes."""
    with new_catalog(tmp_path / "one.catalog") as catalog:
        ingest(catalog, [media], HashEncoder(), batch_size=4)
    return content_of(tmp_path / "one.catalog")


def shards_of(catalog: Catalog, media: Path, size: int = 4) -> list[Shard]:
    return list(cut_shards(catalog.store, scan(media), dict(HashEncoder().fingerprints()), size))


def test_parts_make_the_catalog_of_one_process(tmp_path: Path, media: Path, wanted: tuple[Any, ...]) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    with new_catalog(tmp_path / "c.catalog") as catalog:
        shards = shards_of(catalog, media)
        assert sum(len(shard.candidates) for shard in shards) == COUNT - 2 + 1  # the bad one as well
        encoded = [encode_shard(shard, HashEncoder(), parts) for shard in shards]
        assert sum(encoded) == COUNT - 2
        known = parts_in([part_path(parts, shard.name) for shard in shards])
        here = HashEncoder()
        report = ingest(catalog, [media], PartsEncoder(known, here), batch_size=4)
        assert (report.added, report.duplicates, len(report.failed)) == (COUNT - 2, 2, 1)
        assert len(here.batches) == 0 and [Path(one.uri).name for one in report.failed] == ["bad.png"]
        assert shards_of(catalog, media) == []
    assert sorted(content_of(tmp_path / "c.catalog")[0]) == sorted(wanted[0])
    assert content_of(tmp_path / "c.catalog") == wanted


def test_parts_are_imported_elsewhere(tmp_path: Path, media: Path, wanted: tuple[Any, ...]) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    with new_catalog(tmp_path / "c.catalog") as catalog:
        for shard in shards_of(catalog, media):
            encode_shard(shard, HashEncoder(), parts)
        encoding = read_encoding(parts)
        assert import_encoding(catalog, encoding).added == COUNT - 2
        ids, vectors = catalog.vectors()
    pairs = zip(wanted[0], (wanted[1][at : at + 64] for at in range(0, len(wanted[1]), 64)), strict=True)
    assert sorted(zip(ids, (row.tobytes() for row in vectors), strict=True)) == sorted(pairs)


def test_damaged_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(MediaError, match=r"a\.parquet: not a part \(.*\); delete it, it is encoded anew"):
        parts_in([tmp_path / "a.parquet"])


def test_ray_that_is_not_installed_is_one_line(tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "ray":
            raise ImportError("No module named 'ray'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        with pytest.raises(
            MissingExtraError, match=r"--workers ray needs Ray \(No module.*pip install 'embedspace\[ray\]'"
        ):
            ingest_spread(catalog, [media], HashEncoder(), opened=HashEncoder, actors=2)
        assert len(catalog) == 0


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_killed_actor_loses_nothing(
    tmp_path: Path, media: Path, wanted: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a cluster on this machine; its one actor is killed, so that another has to be started."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))  # where actors find `tests`
    told = []
    with new_catalog(tmp_path / "c.catalog") as catalog:
        report = ingest_spread(
            catalog, [media], HashEncoder(), opened=dying(tmp_path), actors=1, batch_size=4, callback=told.append
        )
        assert (report.added, report.duplicates, len(report.failed)) == (COUNT - 2, 2, 1)
    assert (tmp_path / "died").exists() and len(list(tmp_path.glob("pid-*"))) >= 2
    assert content_of(tmp_path / "c.catalog") == wanted
    assert not (tmp_path / "c.catalog.parts").exists() and told[0].total == COUNT - 1
    assert not importlib.import_module("ray").is_initialized()


def test_cluster_that_is_not_there_is_one_line(tmp_path: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    words = r"^Ray does not answer at RAY_ADDRESS=127\.0\.0\.1:9 \(.*refused\); is the cluster up\?$"
    with pytest.raises(SpreadError, match=words):
        list(encode_with_ray([shard], HashEncoder, tmp_path, 1))


class Round:
    """What stands in for a round of Ray's: it says what went wrong there."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.rounds = iter(errors), 0

    def __call__(self, *arguments: Any) -> Iterator[dict[str, Any]]:
        self.rounds += 1
        raise next(self.errors)


@pytest.fixture
def shard(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shard:
    """One shard, and no cluster."""

    class Ray:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return {"CPU": 2.0}

    monkeypatch.setattr(rays, "require_ray", Ray)
    monkeypatch.setattr(rays, "_start", lambda ray: False)
    with new_catalog(tmp_path / "c.catalog") as catalog:
        return shards_of(catalog, media)[0]


def test_actors_that_die_again_and_again_are_one_line(
    tmp_path: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = MemoryError("Task was killed due to the node running low on memory.\nMore words.")
    error.__cause__ = Exception()  # Ray Data hangs one that says nothing on its own errors
    round_ = Round(error, error, error)
    monkeypatch.setattr(rays, "_encoded", round_)
    words = (
        r"1 of 1 shards cannot be encoded, the first begins with .*001\.png: Ray stopped \(MemoryError: Task was "
        r"killed due to the node running low on memory\.\); perhaps memory is short: use fewer --actors$"
    )
    with pytest.raises(SpreadError, match=words):
        list(encode_with_ray([shard], HashEncoder, tmp_path, 2))
    assert round_.rounds == 2 and not list(tmp_path.glob("*.parquet"))


def test_round_that_was_cut_short_is_followed_by_another(
    tmp_path: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded(ray: Any, shards: list[Shard], *rest: Any) -> Iterator[dict[str, Any]]:
        yield {"items": encode_shard(shards[0], HashEncoder(), tmp_path)}
        raise RuntimeError("the actor died")

    monkeypatch.setattr(rays, "_encoded", encoded)
    others = [Shard(f"{number:024}", shard.candidates) for number in range(3)]
    assert list(encode_with_ray(others, HashEncoder, tmp_path, 2)) == [4] * 3


def test_actor_without_weights_is_their_line(tmp_path: Path, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = RuntimeError("an actor failed")
    failed.__cause__ = WeightsError("weights/x: missing; run: make weights")
    monkeypatch.setattr(rays, "_encoded", Round(failed))
    with pytest.raises(WeightsError, match=r"^weights/x: missing; run: make weights$"):
        list(encode_with_ray([shard], HashEncoder, tmp_path, 1))
