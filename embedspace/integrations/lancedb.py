"""A space as an embedding function of LanceDB: texts, pictures, sounds or speech in the table, words or media to ask.

    function = get_registry().get("embedspace").create(modality="image")

Import this module before a table is opened that was made with it: LanceDB finds the function by its name.

Source: https://docs.lancedb.com/embedding (0.40)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError, MediaError, MissingExtraError, UnknownModalityError
from embedspace.integrations.spaces import check_revision, opened_space, revision
from embedspace.media.source import one_line
from embedspace.space import EmbeddingSpace

try:
    from lancedb.embeddings import EmbeddingFunction, register
    from pydantic import PrivateAttr
except ImportError as error:
    raise MissingExtraError(
        f"lancedb is not installed ({one_line(error)}): pip install 'embedspace[lancedb]'"
    ) from error

__all__ = ["EmbedspaceEmbeddings"]

_log = logging.getLogger(__name__)


@register("embedspace")
class EmbedspaceEmbeddings(EmbeddingFunction):
    """Encodes the source column of a table, and what the table is asked with.

    The table keeps the space's name and a digest of its weights; with other weights it is refused. Rows that cannot be
    decoded have no vector: LanceDB's `on_bad_vectors` says what becomes of them, the log says why.

    Attributes:
        space: Folder or preset of a space; None is the space that ships.
        modality: What the source column holds: "text", or "image", "audio", "speech" as paths of files on this machine
            or as the bytes of files. Nothing is fetched.
        device: Where the networks run.
        batch_size: Rows encoded together.
        revision: Digest of the space that made the vectors; set by the table.
        max_retries: LanceDB's; nothing here gets better by being tried again.
    """

    space: str | None = None
    modality: str = "text"
    device: str = "cpu"
    batch_size: int = 32
    revision: str = ""
    max_retries: int = 0
    _opened: EmbeddingSpace = PrivateAttr()

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - the attributes
        super().__init__(**options)
        self._opened = opened_space(self.space, self.device)
        if not self._opened.supports(self.modality):
            known = ", ".join(self._opened.modalities)
            raise UnknownModalityError(f"modality {self.modality!r}: this space takes {known}")
        check_revision(self._opened, self.revision, "this table")

    def ndims(self) -> int:
        """Return the length of the vectors."""
        return self._opened.embed_dim

    def safe_model_dump(self) -> dict[str, Any]:
        """Return what the table keeps of the function."""
        return {**super().safe_model_dump(), "revision": revision(self._opened)}

    def compute_source_embeddings(self, items: Any, *_: Any, **__: Any) -> list[NDArray[np.float32] | None]:  # noqa: ANN401
        """Return a unit row for each value of the source column, None for one that cannot be decoded."""
        values = self.sanitize_input([items] if isinstance(items, bytes) else items)
        found: list[NDArray[np.float32] | None] = []
        for start in range(0, len(values), self.batch_size):
            found += self._rows([self._item(value) for value in values[start : start + self.batch_size]])
        return found

    def compute_query_embeddings(self, query: Any, *_: Any, **__: Any) -> list[NDArray[np.float32]]:  # noqa: ANN401
        """Return the unit row of a query.

        Args:
            query: A `str` is words, never a path; a `Path` or bytes is a file of the column's modality; a picture of
                PIL is itself.

        Raises:
            MediaError: If it cannot be decoded.
        """
        if isinstance(query, str):
            item = {"text": query}
        elif isinstance(query, Path | bytes):
            item = self._item(query)
        else:
            item = {"image": query}
        return [self._opened.encode_query([item])[0]]

    def _item(self, value: Any) -> Any:  # noqa: ANN401
        """Return a value of the column as `encode` takes it."""
        if value is None or self.modality == "text":
            return {"text": "" if value is None else str(value)}
        if isinstance(value, str):
            if "://" in value:
                raise InputError(f"{value}: no address is fetched; give the path of a file on this machine, or bytes")
            return {self.modality: Path(value)}
        return {self.modality: value}

    def _rows(self, items: Sequence[Any]) -> Iterable[NDArray[np.float32] | None]:
        try:
            return list(self._opened.encode_document(items, batch_size=self.batch_size))
        except MediaError as error:
            if len(items) > 1:  # which of them, and the others all the same
                return [row for item in items for row in self._rows([item])]
            _log.warning("no vector: %s", error)
            return [None]
