"""Speech without its recogniser is a choice of the run that makes a catalog, and the catalog keeps to it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from embedspace.catalog import Catalog
from embedspace.cli.index import _set_for
from embedspace.cli.shared import space as seam
from embedspace.errors import ConfigError
from embedspace.integrations.collection import Collection
from embedspace.space import EmbeddingSpace
from embedspace.space.fitting import fitted
from tests.support.cli_media import Run, make_run


@pytest.fixture(scope="module")
def shipped() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return make_run(capsys, monkeypatch)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text: the encoder of words is the quickest, and any item ties a catalog to its encoders."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("a red bicycle")
    return folder


def speech_of(catalog: str) -> str:
    with Catalog.open(catalog, read_only=True) as opened:
        return opened.fingerprints["speech"]


def test_the_fingerprint_of_speech_alone_tells_the_choice(shipped: EmbeddingSpace) -> None:
    other = shipped.without_recogniser()
    with_it, without = shipped.fingerprints(), other.fingerprints()
    assert {name for name in with_it if with_it[name] != without[name]} == {"speech"}
    assert (shipped.has_recogniser, other.has_recogniser) == (True, False)
    assert shipped.without_recogniser() is other  # what one search has loaded the next one finds
    assert fitted(shipped, without) is other
    assert fitted(shipped, with_it) is shipped
    assert fitted(shipped, {**with_it, "speech": "0" * 64}) is shipped
    assert fitted(shipped, {}) is shipped
    voiced = fitted(shipped, {**with_it, "voice": "0" * 64, "motion": "1" * 64})
    assert {"voice", "motion", "onset"} < {*map(str, voiced.modalities)}
    assert voiced.has_recogniser
    assert not fitted(shipped, {**without, "voice": "0" * 64}).has_recogniser
    with pytest.raises(ConfigError, match="has no recogniser of speech that could be left out"):
        other.without_recogniser()


def test_a_catalog_keeps_to_the_choice(run: Run, texts: Path, shipped: EmbeddingSpace) -> None:
    command = functools.partial(run, space=shipped)
    without = shipped.without_recogniser().fingerprints()["speech"]
    assert command("index", texts, "--catalog", "c", "--no-recogniser").code == 0
    assert speech_of("c") == without
    (texts / "b.txt").write_text("two dogs in the snow")
    assert "1 added" in command("index", texts, "--catalog", "c").out  # read from the catalog
    (texts / "c.txt").write_text("a bell")
    assert "1 added" in command("index", texts, "--catalog", "c", "--no-recogniser").out
    assert command("catalog", "add", "c", "a cat on a table").code == 0
    found = command("search", "c", "dogs")
    assert (found.code, found.err) == (0, "")
    assert "b.txt" in found.out
    with Catalog.open("c", read_only=True) as opened:
        assert not Collection(opened, shipped).space.has_recogniser
    assert speech_of("c") == without


def test_the_other_choice_is_one_line_or_a_migration(run: Run, texts: Path, shipped: EmbeddingSpace) -> None:
    command = functools.partial(run, space=shipped)
    command("index", texts, "--catalog", "c")
    refused = command("index", texts, "--catalog", "c", "--no-recogniser")
    assert refused.code != 0
    assert refused.error == (
        "embedspace: --no-recogniser: c was made otherwise; leave the option off, index into a new catalog, or encode "
        "its speech again with: embedspace catalog migrate c --no-recogniser"
    )
    assert speech_of("c") == shipped.fingerprints()["speech"]
    assert command("catalog", "migrate", "c", "--no-recogniser").code == 0
    assert speech_of("c") == shipped.without_recogniser().fingerprints()["speech"]
    assert "1 unchanged" in command("index", texts, "--catalog", "c").out
    assert command("catalog", "migrate", "c").code == 0
    assert speech_of("c") == shipped.fingerprints()["speech"]


def test_half_precision_is_tried_and_told(run: Run, texts: Path, shipped: EmbeddingSpace) -> None:
    for number in range(9):
        (texts / f"{number}.txt").write_text(f"boat number {number} lies in the harbour")
    told = run("index", texts, "--catalog", "c", "--half-precision", space=shipped)
    assert told.code == 0
    assert re.search(r"^in (half|full) precision: text \(cosine at least 0?1?\.\d+ over \d+ rows, ", told.out, re.M)
    refused = run("index", texts, "--catalog", "d", "--half-precision", "--workers", "ray", space=shipped)
    assert refused.error.startswith("embedspace: --half-precision is for one process: ")
    assert not Path("d").exists()


def test_actors_open_the_space_that_the_catalog_has(run: Run, texts: Path, shipped: EmbeddingSpace) -> None:
    run("index", texts, "--catalog", "c", "--no-recogniser", space=shipped)
    load = functools.partial(seam.load_set_space, None, "cpu", False)
    for path, asked, has in (("c", False, False), ("new", True, False), ("new", False, True)):
        space, again = _set_for(Path(path), load, no_recogniser=asked)
        assert (space.has_recogniser, again().has_recogniser) == (has, has)
