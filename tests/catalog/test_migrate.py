"""Migration: encodes again only what must be, resumes, and switches all at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedspace.calibration.model import Calibration, PairCalibration
from embedspace.catalog import Catalog, CatalogItem
from embedspace.catalog.content_ids import content_hash
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.migrate import migrate
from embedspace.errors import FingerprintMismatchError, InputError
from embedspace.segment import Decoded, Segment
from tests.support.catalog_encoder import EMBED_DIM, MODALITIES, HashEncoder, new_catalog, unit, wider_encoder


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"picture %d" % number)
        (folder / f"{number}.wav").write_bytes(b"noise with speech %d" % number)
    (folder / "rows.csv").write_text("id,title,steps\na,Soup,boil\nb,Cake,bake\n", encoding="utf-8")
    return folder


@pytest.fixture
def catalog(tmp_path: Path, media: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "c.catalog") as opened:
        ingest(opened, [media, media / "rows.csv"], HashEncoder())
        yield opened


def same_as_fresh(catalog: Catalog, media: Path, encoder: HashEncoder, path: Path) -> None:
    """A migrated catalog holds what a new one would."""
    assert catalog.verify().ok
    catalog.check_fingerprint(encoder.fingerprints())
    with new_catalog(path, encoder=encoder) as fresh:
        ingest(fresh, [media, media / "rows.csv"], encoder)
        for modality in ("image", "audio", "speech", "text"):
            ids, vectors = catalog.vectors(modality)
            wanted_ids, wanted = fresh.vectors(modality)
            order, wanted_order = np.argsort(ids, kind="stable"), np.argsort(wanted_ids, kind="stable")
            assert sorted(ids) == sorted(wanted_ids)
            np.testing.assert_array_equal(vectors[order], wanted[wanted_order])


@pytest.mark.parametrize(
    ("changed", "encoded"),
    [({}, 0), ({"image": "2"}, 4), ({"speech": "2"}, 4), ({"text": "2"}, 2), ({"image": "2", "audio": "2"}, 8)],
)
def test_migrate_encodes_only_what_must_be(
    catalog: Catalog, media: Path, tmp_path: Path, changed: dict[str, str], encoded: int
) -> None:
    encoder = HashEncoder(changed)
    report = migrate(catalog, encoder)
    assert (report.encoded, report.kept, report.failed) == (encoded, 10 - encoded if changed else 0, [])
    assert sum(encoder.batches) == encoded
    same_as_fresh(catalog, media, encoder, tmp_path / "fresh.catalog")
    hit = catalog.search(encoder.query("image", b"picture 2"), query_modality="image", k=1)[0][0]
    assert Path(hit.uri).name == "2.png" and hit.score > 0.999


def test_migrate_speech_alone_keeps_the_sound(catalog: Catalog) -> None:
    before = catalog.vectors("audio")
    encoder = HashEncoder({"speech": "2"})
    migrate(catalog, encoder)
    assert catalog.vectors("audio")[0] == before[0]
    np.testing.assert_array_equal(catalog.vectors("audio")[1], before[1])


def test_migrate_interrupted_changes_nothing_and_resumes(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    before = catalog.vectors("image")[1]
    encoder = HashEncoder({"image": "2"})
    encoder.interrupt_after = 1
    assert migrate(catalog, encoder, batch_size=2).interrupted
    np.testing.assert_array_equal(catalog.vectors("image")[1], before)
    catalog.check_fingerprint(HashEncoder().fingerprints())
    with pytest.raises(FingerprintMismatchError):
        catalog.check_fingerprint(encoder.fingerprints())
    again = HashEncoder({"image": "2"})
    assert migrate(catalog, again, batch_size=2).encoded == 4
    assert sum(again.batches) == 2  # the other two were staged before
    same_as_fresh(catalog, media, again, tmp_path / "fresh.catalog")


def test_migrate_another_target_forgets_what_was_staged(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    encoder = HashEncoder({"image": "2"})
    encoder.interrupt_after = 1
    migrate(catalog, encoder, batch_size=2)
    other = HashEncoder({"image": "3"})
    migrate(catalog, other)
    assert sum(other.batches) == 4
    same_as_fresh(catalog, media, other, tmp_path / "fresh.catalog")


def test_migrate_drops_what_is_gone_or_changed(catalog: Catalog, media: Path) -> None:
    (media / "0.png").unlink()
    (media / "1.png").write_bytes(b"another")
    report = migrate(catalog, HashEncoder({"image": "2"}))
    assert sorted(Path(failure.uri).name for failure in report.failed) == ["0.png", "1.png"]
    assert (report.encoded, report.removed) == (2, 2)
    assert catalog.verify(files=False).ok and len(catalog) == 8


def test_migrate_refuses_to_lose_everything(catalog: Catalog, media: Path) -> None:
    media.rename(media.with_name("unmounted"))
    with pytest.raises(InputError, match="nothing was changed"):
        migrate(catalog, HashEncoder({"image": "2"}))
    assert len(catalog.vectors("image")[0]) == 4


def test_migrate_of_a_file_that_is_rewritten_while_it_is_read(catalog: Catalog, media: Path) -> None:
    class Rewriting(HashEncoder):
        def decode(self, source: object, kind: str, *, as_modality: str | None = None) -> Decoded:
            if source == media / "1.png":
                (media / "1.png").write_bytes(b"picture 9")
            return super().decode(source, kind, as_modality=as_modality)

    report = migrate(catalog, Rewriting({"image": "2"}))
    assert [failure.uri for failure in report.failed] == [str(media / "1.png")]
    assert "changed since it was indexed" in report.failed[0].reason
    assert len(catalog.vectors("image")[0]) == 3


def test_migrate_sees_what_was_added_meanwhile(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    class Meanwhile(HashEncoder):
        def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
            if not self.batches:
                (media / "late.png").write_bytes(b"picture late")
                with Catalog.open(catalog.path) as other:
                    ingest(other, [media / "late.png"], HashEncoder())
            return super().encode_decoded(items)

    encoder = Meanwhile({"image": "2"})
    report = migrate(catalog, encoder)
    assert (report.encoded, report.removed, report.failed) == (5, 0, [])
    same_as_fresh(catalog, media, HashEncoder({"image": "2"}), tmp_path / "fresh.catalog")


def test_an_ingest_that_outlives_a_migration_stops(catalog: Catalog, media: Path) -> None:
    class Migrated(HashEncoder):
        def encode_decoded(self, items: list[Decoded]) -> list[list[Segment]]:
            if not self.batches:
                with Catalog.open(catalog.path) as other:
                    migrate(other, wider_encoder())
            return super().encode_decoded(items)

    (media / "late.png").write_bytes(b"picture late")
    with pytest.raises(FingerprintMismatchError, match="come from another encoder"):
        ingest(catalog, [media], Migrated())
    assert catalog.embed_dim == 24 and catalog.verify().ok and len(catalog) == 10


# -- another length of vectors ---------------------------------------------------------------------------------------


def test_migrate_to_another_length_encodes_everything(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    catalog.optimize()
    with Catalog.open(catalog.path) as reader:  # another process, which searches before and after
        query = HashEncoder().query("image", b"picture 2")
        assert Path(reader.search(query, query_modality="image", k=1)[0][0].uri).name == "2.png"
        encoder = wider_encoder()
        report = migrate(catalog, encoder)
        assert report.modalities == ("audio", "image", "speech", "text")
        assert (report.encoded, report.kept, report.removed, report.failed) == (10, 0, 0, [])
        for opened in (catalog, reader):
            assert opened.embed_dim == opened.info().embed_dim == 24
            hits = opened.search(encoder.query("image", b"picture 2"), query_modality="image", k=3)[0]
            assert Path(hits[0].uri).name == "2.png" and hits[0].score > 0.999
            with pytest.raises(InputError, match="expected \\(Q, 24\\)"):
                opened.search(query, query_modality="image")
        reader.add([CatalogItem("new", "image", [Segment("image", unit("new", 24))])])
        with pytest.raises(InputError, match="a vector of length 16; this catalog holds 24"):
            reader.add([CatalogItem("old", "image", [Segment("image", unit("old"))])])
        reader.remove(uris=["new"])
    same_as_fresh(catalog, media, encoder, tmp_path / "fresh.catalog")
    with Catalog.open(catalog.path) as again:
        assert again.embed_dim == 24 and again.verify().ok
    assert migrate(catalog, encoder).modalities == ()


def test_migrate_to_another_length_replaces_the_calibration(tmp_path: Path) -> None:
    calibration = Calibration({"text": unit("mean")}, {"text>text": PairCalibration()}).to_json()
    versions = HashEncoder().fingerprints()
    with Catalog.create(
        tmp_path / "c.catalog", embed_dim=EMBED_DIM, fingerprints=versions, calibration_json=calibration
    ) as catalog:
        content = content_hash("tall grass", "text")
        segment = Segment("text", unit("tall grass"))
        catalog.add([CatalogItem("t", "text", [segment], content_hash=content, content="tall grass")])
        assert catalog.search(unit("q"), query_modality="text")[0][0].probability is not None
        migrate(catalog, wider_encoder())
        assert catalog.search(unit("q", 24), query_modality="text")[0][0].probability is None
        assert set(catalog.fingerprints.values()) == set(wider_encoder().fingerprints().values())


def test_migrate_to_another_length_without_a_modality(catalog: Catalog, media: Path) -> None:
    class Deaf(HashEncoder):
        """Knows no speech: recordings have their sound alone."""

        def fingerprints(self) -> Mapping[str, str]:
            return {name: digest for name, digest in super().fingerprints().items() if name != "speech"}

        def decode(self, source: Any, kind: str, *, as_modality: str | None = None) -> Decoded:
            return super().decode(source, kind, as_modality="audio" if kind == "audio" else as_modality)

    report = migrate(catalog, Deaf(dict.fromkeys(MODALITIES, "wide"), embed_dim=24))
    assert (report.encoded, report.failed) == (10, [])
    assert catalog.info().segments == {"audio": 4, "image": 4, "text": 6}
    assert "speech" not in catalog.fingerprints and catalog.verify().ok


def test_migrate_to_another_length_interrupted_changes_nothing(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    before = catalog.vectors()
    encoder = wider_encoder()
    encoder.interrupt_after = 2
    assert migrate(catalog, encoder, batch_size=2).interrupted
    assert catalog.embed_dim == EMBED_DIM and catalog.verify().ok
    np.testing.assert_array_equal(catalog.vectors()[1], before[1])
    again = wider_encoder()
    assert migrate(catalog, again, batch_size=2).encoded == 10
    assert 0 < sum(again.batches) < 10  # the others were staged before
    same_as_fresh(catalog, media, again, tmp_path / "fresh.catalog")


def test_migrate_to_another_length_that_fails_for_all_changes_nothing(catalog: Catalog, media: Path) -> None:
    media.rename(media.with_name("unmounted"))
    catalog.remove("kind = 'text'")  # which needs no file
    with pytest.raises(InputError, match="nothing was changed"):
        migrate(catalog, wider_encoder())
    assert catalog.embed_dim == EMBED_DIM and len(catalog.vectors("image")[0]) == 4


def test_migrate_killed_at_any_moment_leaves_the_old_catalog_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number:03}.png").write_bytes(b"picture %d" % number)
    path = tmp_path / "killed.catalog"
    with new_catalog(path) as catalog:
        ingest(catalog, [folder], HashEncoder())
    staged = [0]
    for wait in (0.0, 0.05, 0.1):
        command = [sys.executable, "-m", "tests.support.catalog_encoder", str(path), "migrate", "0.03"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 60
        with Catalog.open(path, read_only=True) as reader:
            while count_staged(reader) == staged[-1] and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Catalog.open(path) as catalog:
            staged.append(count_staged(catalog))
            assert catalog.embed_dim == EMBED_DIM and len(catalog) == 120 and catalog.verify().ok
            hit = catalog.search(HashEncoder().query("image", b"picture 7"), query_modality="image", k=1)[0][0]
            assert Path(hit.uri).name == "007.png" and hit.score > 0.999
    assert 0 < staged[1] < staged[3] < 120
    with Catalog.open(path) as catalog:
        encoder = wider_encoder()
        assert migrate(catalog, encoder).encoded == 120
        assert sum(encoder.batches) == 120 - staged[3]
        assert catalog.embed_dim == 24 and catalog.verify().ok
        assert count_staged(catalog) == 0


def count_staged(catalog: Catalog) -> int:
    return int(catalog.store.rows("SELECT count(*) FROM staged")[0][0])
