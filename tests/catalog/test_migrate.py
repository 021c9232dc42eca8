"""Migration: encodes again only what must be, resumes, and switches all at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedspace.catalog import Catalog
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.migrate import migrate
from embedspace.errors import FingerprintMismatchError, InputError
from embedspace.segment import Decoded
from tests.support.catalog_encoder import HashEncoder, new_catalog


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


def test_migrate_refuses_another_length(catalog: Catalog) -> None:
    encoder = HashEncoder({"image": "2"})
    encoder.embed_dim = 99
    with pytest.raises(InputError, match="index into a new catalog"):
        migrate(catalog, encoder)


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
