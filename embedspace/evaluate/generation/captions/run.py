"""Measure captions and speech: do captions name what is there, and is what is said understood; beside baselines.

Baselines of captions: the nearest training caption; the caption of another item (shuffled condition); a caption of no
condition. Of speech: what people say of the same kind, and another item's caption.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedspace.calibration.centring import centre
from embedspace.errors import WeightsError
from embedspace.evaluate.generation.captions.report import markdown
from embedspace.evaluate.generation.captions.speech import speech_rows
from embedspace.evaluate.generation.captions.suite import CaptionSuite, load_caption_suite
from embedspace.evaluate.generation.measures.clusters import clustered_mean
from embedspace.evaluate.generation.measures.words import names_all, names_any
from embedspace.evaluate.generation.session import Kind, Outcome, Session
from embedspace.evaluate.items import EvalItem
from embedspace.generate import Request, generate
from embedspace.generate.captions.decoder import PAD, sample
from embedspace.generate.conditioning import Condition
from embedspace.modality import Modality
from embedspace.space import EmbeddingSpace

__all__ = ["KIND", "measure"]

_EXAMPLES = 12


def measure(session: Session[CaptionSuite]) -> Outcome:
    """Return the rows of captions and of speech.

    Raises:
        WeightsError: If the space has no generator of captions, or no vocabulary.
    """
    suite = session.suite
    captions = [row for name in suite.targets for row in _caption_rows(session, name)]
    speech = speech_rows(session, suite.speech) if suite.speech else []
    targets = tuple(target for target in ("text", "speech") if target in session.space.generators.targets)
    return Outcome(targets, {"judge": suite.judge, "captions": captions, "speech": speech})


def _caption_rows(session: Session[CaptionSuite], name: str) -> list[dict[str, Any]]:
    """Return a row for each system that captions a set."""
    suite, items = session.suite, session.items[name]
    modality = suite.sets[name].modality
    vectors = session.encoder.encode(items, modality)
    names = [[str(c) for c in item.row.get("captions", ())] or [str(item.row.get("concept", ""))] for item in items]
    captions = _captions(session, name, vectors, modality)
    systems = {
        "generated": captions,
        "nearest training caption": [[text] for text in _nearest_captions(session.space, vectors, modality)],
        "shuffled condition": [*captions[1:], captions[0]],
        "no condition": [[text] for text in _unconditional(session.space, len(items))],
    }
    concepts = [_concept(item) for item in items]

    def share(is_named: Callable[[str, list[str]], bool], said: list[list[str]]) -> list[float]:
        hits = [float(np.mean([is_named(text, own) for text in texts])) for own, texts in zip(names, said, strict=True)]
        return clustered_mean(hits, concepts, resamples=suite.resamples)

    shown = [k for k in range(len(items)) if np.isfinite(vectors[k]).all()][:_EXAMPLES]
    examples = [{"item": items[k].id, "names": names[k][:2], "caption": captions[k][0]} for k in shown]
    return [
        {
            "from": name,
            "modality": modality,
            "system": system,
            "items": len(items),
            "concepts": len(set(concepts)),
            "names_any": share(names_any, said),
            "names_all": share(names_all, said),
            **({"examples": examples} if system == "generated" else {}),
        }
        for system, said in systems.items()
    ]


def _concept(item: EvalItem) -> str:
    """Return what an item shows or says; items of one concept are drawn together where intervals are estimated."""
    captions = item.row.get("captions") or [item.id]
    return str(item.row.get("concept") or captions[0])


def _captions(
    session: Session[CaptionSuite], name: str, vectors: NDArray[np.float32], modality: str
) -> list[list[str]]:
    """Return a caption of each seed for every vector (N, embed_dim); empty ones for a vector that is not there."""
    seeds, captions = session.suite.seeds, []
    for done, vector in enumerate(vectors, 1):
        there = bool(np.isfinite(vector).all())
        captions.append([_caption(session.space, vector, modality, seed) if there else "" for seed in seeds])
        session.tell(f"caption {name}", done, len(vectors))
    return captions


def _caption(space: EmbeddingSpace, vector: NDArray[np.float32], modality: str, seed: int) -> str:
    (samples,) = generate(space, vector, to=Modality.TEXT, modality=modality, request=Request(seed=seed), force=True)
    return samples[0].text


def _nearest_captions(space: EmbeddingSpace, vectors: NDArray[np.float32], modality: str) -> list[str]:
    """Return for every vector (N, embed_dim) the nearest caption of a training item; "" for one that is not there."""
    vocabulary = space.generators.vocabulary
    if vocabulary is None:
        raise WeightsError(f"{space.generators.folder}: no vocabulary there, so no nearest caption to compare with")
    nearest = []
    for vector in vectors:
        there = bool(np.isfinite(vector).all())
        centred = centre(vector[None], modality, space.calibration.means)[0] if there else vector
        nearest.append(vocabulary.neighbours(centred, 1)[0].caption if there else "")
    return nearest


def _unconditional(space: EmbeddingSpace, count: int) -> list[str]:
    """Return captions of no condition."""
    generator: Any = space.generators[Modality.TEXT]
    nothing = Condition(torch.zeros(count, space.embed_dim), torch.zeros(count))
    sources = [torch.Generator().manual_seed(seed) for seed in range(count)]
    steps = generator.decoder.config.max_pieces
    rows = sample(generator.decoder, nothing, num_steps=steps, guidance_scale=1.0, generator=sources)
    return [generator.tokenizer.decode([piece for piece in row if piece != PAD]) for row in rows.tolist()]


KIND = Kind(load_caption_suite, measure, markdown)
