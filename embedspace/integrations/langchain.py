"""A space as LangChain's embeddings, a catalog as its retriever.

    store = InMemoryVectorStore(EmbedspaceEmbeddings())
    retriever = CatalogRetriever.from_catalog("media.catalog", k=5, to=["image"])

Source: https://reference.langchain.com/python/langchain_core/ (1.x)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedspace.catalog import Catalog, Hit
from embedspace.errors import InputError, MissingExtraError
from embedspace.integrations.spaces import encode_words, opened_space
from embedspace.media.source import one_line
from embedspace.query import Source, embed_sources
from embedspace.space import EmbeddingSpace
from embedspace.space.fitting import fitted

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise MissingExtraError(
        f"langchain_core is not installed ({one_line(error)}): pip install 'embedspace[langchain]'"
    ) from error

__all__ = ["CatalogRetriever", "EmbedspaceEmbeddings"]


class EmbedspaceEmbeddings(Embeddings):
    """Texts and pictures as rows of one space, for any of LangChain's vector stores.

    Args:
        space: A space, or the folder or preset of one; None is the space that ships.
        batch_size: Items encoded together.
        device: Where the networks of a space that is opened here run.
    """

    def __init__(
        self, space: EmbeddingSpace | str | Path | None = None, *, batch_size: int = 32, device: str = "cpu"
    ) -> None:
        self.space = opened_space(space, device)
        self.batch_size = batch_size

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one unit row per text; a text is never read as a path.

        Raises:
            EmptyMediaError: If a text has no words.
        """
        rows: list[list[float]] = encode_words(self.space, texts, batch_size=self.batch_size).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """Return the unit row of what is searched with; a text is never read as a path.

        Raises:
            EmptyMediaError: If it has no words.
        """
        row: list[float] = encode_words(self.space, [text], is_query=True)[0].tolist()
        return row

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        """Return one unit row per picture, as the `add_images` of vector stores asks for.

        Args:
            uris: Files on this machine; nothing is fetched.

        Raises:
            MediaError: If a file cannot be decoded.
        """
        files = [{"image": Path(uri)} for uri in uris]
        rows: list[list[float]] = self.space.encode_document(files, batch_size=self.batch_size).tolist()
        return rows


class CatalogRetriever(BaseRetriever):
    """A catalog of pictures, sounds, speech and texts, asked in words; words are never read as a path.

    A document's content is what the hit says: a passage, recognised speech, else the item's uri. Its metadata are the
    item's own and those of the hit: uri, kind, modality, score, probability, start, end, label, rank.

    Attributes:
        catalog: An open catalog.
        space: The space that its vectors are of.
        k: Documents wanted.
        to: Modalities to find; all where None.
        where: A filter on the items' metadata.
        min_probability: Less likely matches are left out.
    """

    catalog: Any
    space: Any
    k: int = 10
    to: Sequence[str] | None = None
    where: str | None = None
    min_probability: float | None = None

    @classmethod
    def from_catalog(
        cls,
        path: str | Path,
        space: EmbeddingSpace | str | Path | None = None,
        **options: Any,  # noqa: ANN401 - the attributes
    ) -> CatalogRetriever:
        """Open a catalog for reading and return its retriever.

        Args:
            path: The catalog's folder.
            space: A space, or the folder or preset of one; None is the space that ships.
            options: Values of the attributes.

        Raises:
            CatalogNotFoundError: If there is no catalog.
            FingerprintMismatchError: If its vectors are of another space.
            InputError: If there is no such attribute.
        """
        unknown = sorted(set(options) - set(cls.model_fields))
        if unknown:
            raise InputError(f"a retriever has no {', '.join(unknown)}; it has: k, to, where, min_probability")
        opened, catalog = opened_space(space), Catalog.open(path, read_only=True)
        try:
            opened = fitted(opened, catalog.fingerprints)
            catalog.check_fingerprint(opened.fingerprints())
        except BaseException:
            catalog.close()
            raise
        return cls(catalog=catalog, space=opened, **options)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        ((vector, modality),) = embed_sources([Source(query, "text")], self.space)
        hits = self.catalog.search(
            vector,
            query_modality=modality,
            k=self.k,
            to=self.to,
            where=self.where,
            min_probability=self.min_probability,
        )[0]
        return [_document(hit) for hit in hits]


def _document(hit: Hit) -> Document:
    about = ("uri", "kind", "modality", "score", "probability", "start", "end", "label", "rank")
    return Document(
        id=hit.id,
        page_content=hit.text or hit.uri,
        metadata={**hit.metadata, **{name: getattr(hit, name) for name in about}},
    )
