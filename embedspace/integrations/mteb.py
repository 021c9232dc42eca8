"""A space as a model of mteb: its retrieval and zero-shot tasks over text, pictures and sound.

    entry = evaluate_mteb(EmbeddingSpace.from_pretrained(), tasks_named(["Flickr30kI2TRetrieval"]))

Source: https://github.com/embeddings-benchmark/mteb (2.x)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.encoders.towers.adapters.files import offline
from embedspace.errors import EmptyMediaError, InputError, MissingExtraError, UnknownModalityError
from embedspace.integrations.spaces import revision
from embedspace.media.source import one_line

if TYPE_CHECKING:
    from embedspace.space import EmbeddingSpace

__all__ = ["SpaceEncoder", "evaluate_mteb", "tasks_named"]

_SOUNDS = ("audio", "speech")


class SpaceEncoder:
    """What mteb asks of a model, answered by a space.

    An item of several modalities, such as a picture with a text, is the mean of their unit rows. One that holds
    nothing (an empty text, silence) is a row of zeros: as far from all as a vector can be.

    Args:
        space: Encodes.
        name: What the results call it.
        sound: Which encoder hears sounds, "audio" or "speech"; None: what the space has, "audio" first.
    """

    def __init__(self, space: EmbeddingSpace, name: str = "embedspace", sound: str | None = None) -> None:
        known = [str(modality) for modality in space.modalities]
        hears = [modality for modality in _SOUNDS if modality in known]
        if sound is not None and sound not in hears:
            raise UnknownModalityError(f"sounds as {sound!r}: this space hears {', '.join(hears) or 'nothing'}")
        self._space, self._known = space, known
        self._sound = sound or (hears[0] if hears else None)
        meta = _library().models.ModelMeta
        given = {"name": name if "/" in name else f"embedspace/{name}", "revision": revision(space)}
        self.mteb_model_meta = meta.create_empty(overwrites={**given, "modalities": self._theirs(), "framework": []})

    def _theirs(self) -> list[str]:
        """Return mteb's names of what the space takes."""
        return [*(name for name in ("text", "image") if name in self._known), *(["audio"] if self._sound else [])]

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return (N, embed_dim) rows of what a data loader gives batch by batch."""
        query = str(getattr(prompt_type, "value", prompt_type)) == "query"
        rows = [self._rows(batch, query) for batch in inputs]
        return np.concatenate(rows) if rows else np.empty((0, self._space.embed_dim), np.float32)

    def _rows(self, batch: dict[str, Any], query: bool) -> NDArray[np.float32]:
        names = {"text": "text", "image": "image", "audio": self._sound}
        found = []
        for key, modality in names.items():
            if batch.get(key) is None:
                continue
            if modality is None or modality not in self._known:
                raise UnknownModalityError(f"this task holds {key}, which this space does not take")
            found.append(np.stack([self._row(modality, item, query) for item in batch[key]]))
        if not found:
            raise UnknownModalityError(f"this task holds {', '.join(sorted(batch))}: neither text, pictures nor sound")
        total: NDArray[np.float32] = np.sum(found, axis=0)
        norms = np.linalg.norm(total, axis=1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(total, norms, out=np.zeros_like(total), where=norms > 0)
        return unit

    def _row(self, modality: str, item: Any, query: bool) -> NDArray[np.float32]:  # noqa: ANN401
        if modality in _SOUNDS:
            item = (_mono(item["array"]), int(item["sampling_rate"]))
        elif modality == "image":
            item = item.convert("RGB")
        encode = self._space.encode_query if query and hasattr(self._space, "encode_query") else self._space.encode
        try:
            row: NDArray[np.float32] = encode([item], modality=modality)[0]
        except EmptyMediaError:
            row = np.zeros(self._space.embed_dim, np.float32)
        return row

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401 - torch tensors or arrays
        """Return (N, M) cosines of unit rows."""
        import torch

        return torch.as_tensor(embeddings1) @ torch.as_tensor(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401
        """Return (N,) cosines of unit rows, pair by pair."""
        import torch

        return (torch.as_tensor(embeddings1) * torch.as_tensor(embeddings2)).sum(dim=-1)


def _mono(array: Any) -> NDArray[np.float32]:  # noqa: ANN401
    wave = np.asarray(array, np.float32)
    return wave if wave.ndim == 1 else wave.mean(axis=int(wave.shape[0] > wave.shape[1]), dtype=np.float32)


def _library() -> Any:  # noqa: ANN401 - the library is optional
    try:
        importlib.import_module("mteb.models")
        return importlib.import_module("mteb")
    except ImportError as error:
        raise MissingExtraError(f"mteb is not installed ({one_line(error)}): pip install embedspace[mteb]") from error


def tasks_named(names: Sequence[str]) -> list[Any]:
    """Return mteb's tasks of these names.

    Raises:
        InputError: If mteb has none of a name.
        MissingExtraError: If mteb is not installed.
    """
    mteb = _library()
    found = []
    for name in names:
        try:
            found.append(mteb.get_task(name))
        except (KeyError, ValueError) as error:
            raise InputError(
                f"mteb has no task {name!r}; known are those of https://embeddings-benchmark.github.io/mteb/"
            ) from error
    return found


def evaluate_mteb(
    space: EmbeddingSpace,
    tasks: Iterable[Any],
    *,
    name: str = "embedspace",
    sound: str | None = None,
    batch_size: int = 32,
    download: bool = False,
    callback: Callable[[str, int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Run tasks on a space.

    Args:
        space: What is measured.
        tasks: As `tasks_named` returns them.
        name: What the results call the space.
        sound: As `SpaceEncoder` takes it.
        batch_size: Items that mteb hands over at once.
        download: Whether mteb may fetch the tasks' data; without it they must be on this machine.
        callback: Told (task, tasks done, tasks in all) before each.

    Returns:
        One record per task and split: task, type, split, metric, score, mteb, revision and all scores.

    Raises:
        InputError: If a task's data are not on this machine and may not be downloaded, or it cannot be run.
    """
    mteb = _library()
    model = SpaceEncoder(space, name, sound)
    chosen = list(tasks)
    records: list[dict[str, Any]] = []
    for done, task in enumerate(chosen):
        if callback is not None:
            callback(str(task.metadata.name), done, len(chosen))
        records += _run(mteb, model, task, batch_size, download)
    return records


def _run(mteb: Any, model: SpaceEncoder, task: Any, batch_size: int, download: bool) -> list[dict[str, Any]]:  # noqa: ANN401
    about = task.metadata
    try:
        with offline(not download):
            result = mteb.evaluate(
                model,
                [task],
                cache=None,
                co2_tracker=False,
                show_progress_bar=False,
                encode_kwargs={"batch_size": batch_size},
            )
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # of the hub, of datasets, of mteb
        hint = "" if download else "; its data must be on this machine, or allow download=True (--download)"
        raise InputError(f"task {about.name}: {one_line(error)}{hint}") from error
    records = []
    for found in result.task_results:
        for split, scores in found.scores.items():
            for entry in scores:
                records.append(
                    {
                        "task": found.task_name,
                        "type": str(about.type),
                        "split": split,
                        "subset": entry.get("hf_subset", "default"),
                        "metric": about.main_score,
                        "score": float(entry["main_score"]),
                        "mteb": mteb.__version__,
                        "revision": model.mteb_model_meta.revision,
                        "scores": {key: value for key, value in entry.items() if isinstance(value, int | float)},
                    }
                )
    return records
