"""A space as an embedding function of Chroma: documents and pictures in one collection, found by either.

    collection = client.create_collection("media", embedding_function=EmbedspaceEmbeddingFunction())

Import this module before a collection is opened that was made with it: Chroma finds the function by its name.

Source: https://docs.trychroma.com/docs/embeddings/embedding-functions (1.5)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedspace.errors import InputError, MissingExtraError
from embedspace.integrations.spaces import check_revision, opened_space, revision
from embedspace.media.source import one_line
from embedspace.space import EmbeddingSpace

try:
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise MissingExtraError(
        f"chromadb is not installed ({one_line(error)}): pip install 'embedspace[chroma]'"
    ) from error

__all__ = ["EmbedspaceEmbeddingFunction"]


@register_embedding_function
class EmbedspaceEmbeddingFunction(EmbeddingFunction):
    """Encodes documents (texts, never read as paths) and images (arrays, as Chroma's data loaders give them).

    The collection keeps the space's name and a digest of its weights; with other weights it is refused.

    Args:
        space: A space, or the folder or preset of one; None is the space that ships. A collection remembers a space
            that is given as an object by its folder.
        device: Where the networks of a space that is opened here run.
        batch_size: Items encoded together.
    """

    def __init__(self, space: EmbeddingSpace | str | None = None, device: str = "cpu", batch_size: int = 32) -> None:
        self.space = opened_space(space, device)
        self._name = str(space.folder) if isinstance(space, EmbeddingSpace) else space
        self._device, self._batch_size = device, batch_size

    def __call__(self, input: Any) -> list[NDArray[np.float32]]:  # noqa: A002, ANN401 - Chroma calls it so
        """Return one unit row per document or (H, W, 3) picture.

        Raises:
            EmptyMediaError: If a document has no words.
        """
        return list(self.space.encode_document([_item(one) for one in input], batch_size=self._batch_size))

    def embed_query(self, input: Any) -> list[NDArray[np.float32]]:  # noqa: A002, ANN401 - Chroma calls it so
        """Return one unit row per text or picture that is searched with."""
        return list(self.space.encode_query([_item(one) for one in input], batch_size=self._batch_size))

    @staticmethod
    def name() -> str:
        """Return the name that Chroma knows the function by."""
        return "embedspace"

    def default_space(self) -> str:
        """Return the distance that unit rows are compared by."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """Return what the collection keeps of the function."""
        return {"space": self._name, "device": self._device, "revision": revision(self.space)}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbedspaceEmbeddingFunction:
        """Make the function that a collection was made with.

        Raises:
            FingerprintMismatchError: If the space's weights are others by now.
        """
        made = EmbedspaceEmbeddingFunction(config.get("space"), config.get("device", "cpu"))
        check_revision(made.space, config.get("revision", ""), "this collection")
        return made

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuse to change the space under vectors that are there.

        Raises:
            FingerprintMismatchError: If the weights differ.
        """
        check_revision(self.space, new_config.get("revision", ""), "this collection")
        check_revision(self.space, old_config.get("revision", ""), "this collection")


def _item(one: Any) -> dict[str, Any]:  # noqa: ANN401
    if isinstance(one, str):
        return {"text": one}
    if isinstance(one, np.ndarray):
        return {"image": one if one.dtype == np.uint8 else one.astype(np.uint8)}
    raise InputError(f"Chroma gave {type(one).__name__}; a document is a text, a picture an array (H, W, 3)")
