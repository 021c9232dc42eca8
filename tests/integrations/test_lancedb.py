"""A space in LanceDB: real tables on disk, opened again by another process."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from PIL import Image

from embedspace import EmbeddingSpace
from embedspace.errors import FingerprintMismatchError, MissingExtraError, UnknownModalityError
from embedspace.integrations.lancedb import EmbedspaceEmbeddings

TEXTS = ["a dog barks at the postman", "a red tulip in the garden", "rain on a tin roof"]

pytestmark = [pytest.mark.filterwarnings("default::DeprecationWarning")]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


def schema_of(function: EmbedspaceEmbeddings, source: type = str) -> type[LanceModel]:
    class Row(LanceModel):
        media: source = function.SourceField()  # type: ignore[valid-type]
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    return Row


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 48), colour).save(file, "PNG")
    return file.getvalue()


def test_texts_in_a_table_that_is_opened_again(space: EmbeddingSpace, tmp_path: Path) -> None:
    function = get_registry().get("embedspace").create()
    table = lancedb.connect(tmp_path).create_table("notes", schema=schema_of(function))
    table.add([{"media": text} for text in TEXTS])
    found = table.search("a flower").distance_type("cosine").to_list()
    expected = 1 - space.similarity(space.encode_text("a flower"), space.encode_text(TEXTS))[0]
    assert [row["media"] for row in found] == [TEXTS[k] for k in np.argsort(expected)]
    np.testing.assert_allclose([row["_distance"] for row in found], np.sort(expected), atol=1e-5)
    code = (
        "import lancedb, embedspace.integrations.lancedb\n"
        f"table = lancedb.connect({str(tmp_path)!r}).open_table('notes')\n"
        "print(table.search('a flower').limit(1).to_list()[0]['media'])"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == TEXTS[1]


def test_pictures_by_path_and_by_bytes(space: EmbeddingSpace, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    function = EmbedspaceEmbeddings.create(modality="image")
    by_path, by_bytes = function.compute_source_embeddings([str(tmp_path / "red.png"), png("red")])
    np.testing.assert_allclose(by_path, space.encode_image(tmp_path / "red.png")[0], atol=1e-6)
    np.testing.assert_allclose(by_bytes, by_path, atol=1e-6)
    table = lancedb.connect(tmp_path / "db").create_table("pictures", schema=schema_of(function, bytes))
    table.add([{"media": png(colour)} for colour in ("red", "blue")])
    for query in (Image.new("RGB", (48, 48), "blue"), png("blue")):
        asked = function.compute_query_embeddings(query)[0]
        nearest = table.search(asked).limit(1).to_list()[0]
        assert nearest["media"] == png("blue") and nearest["_distance"] == pytest.approx(0, abs=1e-4)
    words = function.compute_query_embeddings(str(tmp_path / "red.png"))[0]  # a str is words, whatever it names
    np.testing.assert_allclose(words, space.encode_text(str(tmp_path / "red.png"))[0], atol=1e-6)
    file = function.compute_query_embeddings(tmp_path / "red.png")[0]
    np.testing.assert_allclose(file, by_path, atol=1e-6)


def test_rows_that_cannot_be_decoded_have_no_vector(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    function = EmbedspaceEmbeddings.create(modality="image")
    table = lancedb.connect(tmp_path).create_table("pictures", schema=schema_of(function, bytes))
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "embedspace"):
        table.add([{"media": png("red")}, {"media": b"no picture"}], on_bad_vectors="drop")
    assert time.monotonic() - started < 10  # LanceDB's own default tries seven times, for minutes
    assert table.count_rows() == 1 and table.to_arrow()["media"][0].as_py() == png("red")
    assert "no vector: <10 bytes>" in caplog.text
    texts = EmbedspaceEmbeddings.create().compute_source_embeddings(["a dog", "", None])
    assert texts[0] is not None and texts[1] is None and texts[2] is None


def test_no_address_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was reached")

    monkeypatch.setattr("socket.getaddrinfo", reached)
    function = EmbedspaceEmbeddings.create(modality="image")
    with pytest.raises(Exception, match=r"https://example\.org/a\.png: no address is fetched"):
        function.compute_source_embeddings_with_retry(["https://example.org/a.png"])


def test_other_weights_are_refused(tiny_space_folder: Path, tmp_path: Path) -> None:
    from tests.support.spaces import write_space

    folder = write_space(tmp_path / "space")
    function = EmbedspaceEmbeddings.create(space=str(folder))
    table = lancedb.connect(tmp_path / "db").create_table("notes", schema=schema_of(function))
    table.add([{"media": "a dog"}])
    write_space(folder, seed=7)
    with pytest.raises(FingerprintMismatchError, match="this table: its vectors were made by space") as raised:
        lancedb.connect(tmp_path / "db").open_table("notes").search("a dog").limit(1).to_list()
    assert "\n" not in str(raised.value)
    with pytest.raises(UnknownModalityError, match="modality 'smell': this space takes"):
        EmbedspaceEmbeddings.create(modality="smell")


def test_without_the_library_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "embedspace.integrations.lancedb")
    monkeypatch.setitem(sys.modules, "lancedb.embeddings", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedspace\[lancedb\]'"):
        import embedspace.integrations.lancedb  # noqa: F401
