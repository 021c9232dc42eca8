"""What `--prune` forgets: only what is surely gone, and never most of a source without being told so."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedspace.catalog import Catalog, IngestReport, Loss
from embedspace.catalog.ingest.ingest import ingest
from embedspace.catalog.ingest.prune import FEW
from tests.support.catalog_encoder import HashEncoder, new_catalog
from tests.support.unprivileged import unprivileged

COUNT = 4 * FEW


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    for number in range(COUNT):
        place = folder / "sub" if number % 2 else folder
        (place / f"{number}.png").write_bytes(b"picture %d" % number)
    return folder


@pytest.fixture
def catalog(tmp_path: Path, media: Path) -> Iterator[Catalog]:
    with new_catalog(tmp_path / "media.catalog") as opened:
        ingest(opened, [media], HashEncoder())
        yield opened


def pruned(catalog: Catalog, *sources: Path, sure: bool | None = None) -> IngestReport:
    """Index again with --prune; `sure` answers the question, if there is one."""
    confirm = None if sure is None else lambda loss: bool(sure)
    return ingest(catalog, sources, HashEncoder(), prune=True, confirm_loss=confirm)


def test_prune_forgets_what_is_gone(catalog: Catalog, media: Path) -> None:
    for number in range(0, COUNT, 4):
        (media / f"{number}.png").unlink()
    report = pruned(catalog, media)
    assert (report.removed, report.kept) == (COUNT // 4, [])
    assert catalog.verify().ok


@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_prune_keeps_what_it_may_not_look_at(catalog: Catalog, media: Path, mode: int) -> None:
    (media / "0.png").unlink()
    with unprivileged():
        (media / "sub").chmod(mode)
        try:
            report = pruned(catalog, media, sure=True)
            problems = catalog.verify().problems
        finally:
            (media / "sub").chmod(0o700)
    assert report.removed == 1 and len(catalog) == COUNT - 1
    (loss,) = report.kept
    assert (loss.source, loss.places, loss.known, loss.sure) == (str(media), COUNT // 2, COUNT, False)
    assert "Permission denied" in loss.reason
    assert len(problems) == COUNT // 2 and all("Permission denied" in problem.detail for problem in problems)
    assert pruned(catalog, media).removed == 0 and catalog.verify().ok


def test_prune_of_a_folder_that_may_not_be_listed(catalog: Catalog, media: Path) -> None:
    with unprivileged():
        media.chmod(0o000)
        try:
            report = pruned(catalog, media, sure=True)
        finally:
            media.chmod(0o700)
    assert (report.removed, len(catalog)) == (0, COUNT)
    assert [(loss.places, loss.sure) for loss in report.kept] == [(COUNT, False)]


def test_prune_keeps_what_lies_behind_a_link_to_nowhere(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    (media / "sub").rename(tmp_path / "drive")
    (media / "sub").symlink_to(tmp_path / "drive")
    (tmp_path / "drive").rename(tmp_path / "not mounted")
    report = pruned(catalog, media, sure=True)
    assert (report.removed, len(catalog)) == (0, COUNT)
    assert "link whose target is missing" in report.kept[0].reason
    (tmp_path / "not mounted").rename(tmp_path / "drive")
    assert pruned(catalog, media).unchanged == COUNT


def test_prune_of_an_empty_folder_asks(catalog: Catalog, media: Path) -> None:
    shutil.rmtree(media)
    media.mkdir()  # as where a drive is not mounted
    for sure in (None, False):
        report = pruned(catalog, media, sure=sure)
        assert report.removed == 0
        assert report.kept == [Loss(str(media), COUNT, COUNT, "the folder is empty (is its drive mounted?)", sure=True)]
    assert len(catalog) == COUNT
    report = pruned(catalog, media, sure=True)
    assert (report.removed, report.kept, len(catalog)) == (COUNT, [], 0)


def test_prune_of_most_of_a_folder_asks(catalog: Catalog, media: Path) -> None:
    shutil.rmtree(media / "sub")
    (media / "0.png").unlink()
    asked: list[Loss] = []
    report = ingest(catalog, [media], HashEncoder(), prune=True, confirm_loss=lambda loss: bool(asked.append(loss)))
    assert report.removed == 0 and report.kept == asked
    assert asked == [Loss(str(media), COUNT // 2 + 1, COUNT, "that is more than 50%", sure=True)]
    (media / "0.png").write_bytes(b"picture 0")
    assert pruned(catalog, media).removed == COUNT // 2  # no more than half


def test_prune_of_a_few_asks_nothing(catalog: Catalog, media: Path) -> None:
    shutil.rmtree(media / "sub")
    assert pruned(catalog, media).removed == COUNT // 2
    for file in sorted(media.glob("*.png"))[FEW:]:
        file.unlink()
    assert pruned(catalog, media).removed == COUNT // 2 - FEW
    for file in sorted(media.glob("*.png"))[1:]:
        file.unlink()
    assert pruned(catalog, media).removed == FEW - 1


def test_prune_asks_about_each_source_for_itself(catalog: Catalog, media: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.png").write_bytes(b"another picture")
    ingest(catalog, [other], HashEncoder())
    (other / "x.png").unlink()
    (media / "0.png").unlink()
    report = pruned(catalog, other, media)
    assert report.removed == 1
    assert [loss.source for loss in report.kept] == [str(other)]


# -- manifests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path: Path, catalog: Catalog) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("id,text\n" + "".join(f"r{number},text {number}\n" for number in range(COUNT)), encoding="utf-8")
    ingest(catalog, [path], HashEncoder())
    return path


@pytest.mark.parametrize(
    ("content", "places", "reason"),
    [
        ("", COUNT, "the table has no rows"),
        ("id,text\n", COUNT, "the table has no rows"),
        ("id,text\nr0,text 0\n", COUNT - 1, "that is more than 50%"),
        (
            "id,text\n" + "".join(f"r{n},text {n}\n" for n in range(COUNT - 1)) + "r,a,b\n",
            1,
            "cannot be read",
        ),
    ],
)
def test_prune_of_a_manifest_asks(catalog: Catalog, manifest: Path, content: str, places: int, reason: str) -> None:
    manifest.write_text(content, encoding="utf-8")
    report = pruned(catalog, manifest)
    assert (report.removed, len(catalog)) == (0, 2 * COUNT)
    (loss,) = report.kept
    assert (loss.places, loss.known, loss.sure) == (places, COUNT, True) and reason in loss.reason
    assert pruned(catalog, manifest, sure=True).removed == places


def test_prune_of_a_manifest_forgets_rows_and_files_that_are_gone(
    catalog: Catalog, media: Path, tmp_path: Path
) -> None:
    path = tmp_path / "files.csv"
    path.write_text("path,n\n" + "".join(f"media/{number}.png,1\n" for number in range(0, COUNT, 2)), encoding="utf-8")
    ingest(catalog, [path], HashEncoder())
    (media / "0.png").unlink()
    assert pruned(catalog, path).removed == 1
    assert catalog.verify().ok


def test_prune_of_a_folder_forgets_rows_of_a_manifest_that_is_gone(catalog: Catalog, media: Path) -> None:
    (media / "rows.csv").write_text("id,text\n1,one\n2,two\n", encoding="utf-8")
    ingest(catalog, [media / "rows.csv"], HashEncoder())
    assert pruned(catalog, media).removed == 0
    (media / "rows.csv").unlink()
    assert pruned(catalog, media).removed == 2
