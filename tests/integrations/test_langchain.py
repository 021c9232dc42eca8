"""A space in LangChain: its own vector store, its own retriever interface."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image

from embedspace import Catalog, CatalogNotFoundError, EmbeddingSpace, FingerprintMismatchError
from embedspace.catalog import CatalogItem
from embedspace.errors import EmptyMediaError, InputError, MediaError, MissingExtraError
from embedspace.integrations.langchain import CatalogRetriever, EmbedspaceEmbeddings

TEXTS = ["a dog barks at the postman", "a red tulip in the garden", "rain on a tin roof"]


@pytest.fixture(scope="module")
def space() -> EmbeddingSpace:
    return EmbeddingSpace.from_pretrained()


@pytest.fixture(scope="module")
def catalog(space: EmbeddingSpace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("langchain") / "media.catalog"
    made = Catalog.create(
        path,
        embed_dim=space.embed_dim,
        fingerprints=space.fingerprints(),
        calibration_json=space.calibration_json(),
    )
    with made as opened:
        decoded = [space.decode(text, "text") for text in TEXTS]
        rows = zip(TEXTS, space.encode_decoded(decoded), strict=True)
        opened.add(CatalogItem(f"note:{k}", "text", found, {"page": k}) for k, (_, found) in enumerate(rows))
        red = space.encode_decoded([space.decode(Image.new("RGB", (64, 64), "red"), "image")])[0]
        opened.add([CatalogItem("/media/red.png", "image", red, {"licence": "CC0-1.0"})])
    return path


def test_vector_store_finds_by_meaning(space: EmbeddingSpace) -> None:
    store = InMemoryVectorStore(EmbedspaceEmbeddings(space))
    store.add_texts(TEXTS, metadatas=[{"n": k} for k in range(3)])
    found = store.similarity_search_with_score("a flower", k=3)
    expected = space.similarity(space.encode_text("a flower"), space.encode_text(TEXTS))[0]
    assert [document.metadata["n"] for document, _ in found] == list(np.argsort(-expected))
    np.testing.assert_allclose([score for _, score in found], np.sort(expected)[::-1], atol=1e-5)
    assert found[0][0].page_content == TEXTS[1]


def test_text_that_names_a_file_stays_a_text(
    space: EmbeddingSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "blue").save("blue.png")
    embeddings = EmbedspaceEmbeddings(space)
    words = space.encode_text("blue.png")[0]
    np.testing.assert_allclose(embeddings.embed_query("blue.png"), words, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_documents(["blue.png"])[0], words, atol=1e-6)
    (picture,) = embeddings.embed_image(["blue.png"])
    np.testing.assert_allclose(picture, space.encode_image("blue.png")[0], atol=1e-6)
    assert not np.allclose(picture, words, atol=0.1)
    with pytest.raises(MediaError, match=r"none\.png: no such file"):
        embeddings.embed_image(["none.png"])
    with pytest.raises(EmptyMediaError, match="no words"):
        embeddings.embed_documents(["a dog", " "])


def test_retriever_answers_from_a_catalog(space: EmbeddingSpace, catalog: Path) -> None:
    retriever = CatalogRetriever.from_catalog(catalog, space, k=2, to=["text"])
    documents = retriever.invoke("a flower")
    assert documents[0].page_content == TEXTS[1] and len(documents) == 2
    about = documents[0].metadata
    assert (about["uri"], about["page"], about["modality"], about["rank"]) == ("note:1", 1, "text", 1)
    with Catalog.open(catalog, read_only=True) as opened:
        hit = opened.search(space.encode_text("a flower"), query_modality="text", k=1, to="text")[0][0]
    assert about["probability"] == pytest.approx(hit.probability) and documents[0].id == hit.id
    assert asyncio.run(retriever.ainvoke("a flower")) == documents


def test_retriever_filters_and_finds_pictures(space: EmbeddingSpace, catalog: Path) -> None:
    retriever = CatalogRetriever.from_catalog(catalog, space, where="licence = 'CC0-1.0'")
    (document,) = retriever.invoke("red")
    assert document.page_content == "/media/red.png" and document.metadata["kind"] == "image"
    assert CatalogRetriever.from_catalog(catalog, space, min_probability=1.0).invoke("zebra") == []


def test_retriever_never_takes_words_for_a_file(
    space: EmbeddingSpace, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    retriever = CatalogRetriever.from_catalog(catalog, space)
    before = [(d.id, d.metadata["score"]) for d in retriever.invoke("./flower.png - grass")]
    Image.new("RGB", (32, 32), "red").save("flower.png")
    assert [(d.id, d.metadata["score"]) for d in retriever.invoke("./flower.png - grass")] == before


def test_mistakes_are_one_line(
    space: EmbeddingSpace, catalog: Path, tiny_space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CatalogNotFoundError):
        CatalogRetriever.from_catalog(tmp_path / "none.catalog", space)
    with pytest.raises(FingerprintMismatchError):
        CatalogRetriever.from_catalog(catalog, tiny_space)
    with pytest.raises(InputError, match="a retriever has no top_k; it has: k, to, where, min_probability"):
        CatalogRetriever.from_catalog(catalog, space, top_k=3)
    monkeypatch.delitem(sys.modules, "embedspace.integrations.langchain")
    monkeypatch.setitem(sys.modules, "langchain_core.callbacks", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'embedspace\[langchain\]'") as raised:
        import embedspace.integrations.langchain  # noqa: F401
    assert "\n" not in str(raised.value)
