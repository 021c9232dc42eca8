"""A space in Chroma: real collections, texts and pictures in one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings
from chromadb.utils.data_loaders import ImageLoader
from PIL import Image

from embedspace import EmbeddingSpace
from embedspace.errors import EmptyMediaError, InputError, MissingExtraError
from embedspace.integrations.chroma import EmbedspaceEmbeddingFunction

TEXTS = ["a dog barks at the postman", "a red tulip in the garden", "rain on a tin roof"]

pytestmark = [pytest.mark.filterwarnings("default::DeprecationWarning")]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


def client_of(folder: Path) -> Any:
    return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))


def test_texts_and_pictures_in_one_collection(space: EmbeddingSpace, tmp_path: Path) -> None:
    function = EmbedspaceEmbeddingFunction(space)
    collection = client_of(tmp_path).create_collection("media", embedding_function=function)
    collection.add(ids=["t0", "t1", "t2"], documents=TEXTS)
    red = np.full((48, 48, 3), (255, 0, 0), np.uint8)
    collection.add(ids=["red"], images=[red])
    found = collection.query(query_texts=["a flower"], n_results=4)
    rows = np.concatenate([space.encode_text(TEXTS), space.encode_image([red])])
    expected = 1 - space.similarity(space.encode_text("a flower"), rows)[0]
    assert found["ids"][0] == [["t0", "t1", "t2", "red"][k] for k in np.argsort(expected)]
    np.testing.assert_allclose(found["distances"][0], np.sort(expected), atol=1e-4)  # cosine: its default space
    nearest = collection.query(query_images=[red.astype(np.int64)], n_results=1)
    assert nearest["ids"] == [["red"]] and nearest["distances"][0][0] == pytest.approx(0, abs=1e-4)


def test_pictures_by_uri_through_its_own_loader(space: EmbeddingSpace, tmp_path: Path) -> None:
    Image.new("RGB", (48, 48), "blue").save(tmp_path / "blue.png")
    collection = client_of(tmp_path / "db").create_collection(
        "media", embedding_function=EmbedspaceEmbeddingFunction(space), data_loader=ImageLoader(1)
    )
    collection.add(ids=["blue"], uris=[str(tmp_path / "blue.png")])
    kept = collection.get(include=["embeddings"])["embeddings"][0]
    np.testing.assert_allclose(kept, space.encode_image(tmp_path / "blue.png")[0], atol=1e-6)


def test_text_that_names_a_file_stays_a_text(space: EmbeddingSpace, tmp_path: Path) -> None:
    Image.new("RGB", (48, 48), "blue").save(tmp_path / "blue.png")
    name = str(tmp_path / "blue.png")
    function = EmbedspaceEmbeddingFunction(space)
    for rows in (function([name]), function.embed_query([name])):
        np.testing.assert_allclose(rows[0], space.encode_text(name)[0], atol=1e-6)


def test_collection_remembers_the_space(tmp_path: Path) -> None:
    from tests.support.spaces import EMBED_DIM, write_space

    folder = write_space(tmp_path / "space")
    function = EmbedspaceEmbeddingFunction(str(folder))
    client_of(tmp_path / "db").create_collection("notes", embedding_function=function).add(["1"], documents=["a dog"])
    chromadb.api.client.SharedSystemClient.clear_system_cache()
    again = client_of(tmp_path / "db").get_collection("notes")
    assert again.query(query_texts=["a dog"], include=["embeddings"])["embeddings"][0].shape == (1, EMBED_DIM)
    write_space(folder, seed=7)
    chromadb.api.client.SharedSystemClient.clear_system_cache()
    with pytest.raises(ValueError, match="this collection: its vectors were made by space"):
        client_of(tmp_path / "db").get_collection("notes").query(query_texts=["a dog"])


def test_mistakes_are_one_line(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    function = EmbedspaceEmbeddingFunction(space)
    with pytest.raises(EmptyMediaError, match="no words"):
        function([""])
    with pytest.raises(InputError, match="Chroma gave bytes; a document is a text"):
        function([b"abc"])
    monkeypatch.delitem(sys.modules, "embedspace.integrations.chroma")
    monkeypatch.setitem(sys.modules, "chromadb.api.types", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedspace\[chroma\]'"):
        import embedspace.integrations.chroma  # noqa: F401
