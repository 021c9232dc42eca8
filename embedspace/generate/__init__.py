"""From vectors of the space to media: one head a modality, one way of calling them.

    condition   a vector, centred by its modality's mean, with the known size of the noise in it     conditioning.py
    memory      what the generators know: captions of the training split with their vectors          memory.py
    head        a trained generator of one modality, made by name from a folder of weights           base.py
    family      how a network is sampled, as a free function: flow, VAE, autoregressive              flow.py, ...
    generate    all of it together                                                                   generator.py

`EmbeddingSpace.generate` and `embedspace generate` stand on `generate`.
"""

from __future__ import annotations

from embedspace.generate.api import generate, heads_folder, interpolate, names_of, readings
from embedspace.generate.base import GeneratorHead, Neighbour, Request, Sample, create_head, register_head
from embedspace.generate.conditioning import Condition

__all__ = [
    "Condition",
    "GeneratorHead",
    "Neighbour",
    "Request",
    "Sample",
    "create_head",
    "generate",
    "heads_folder",
    "interpolate",
    "names_of",
    "readings",
    "register_head",
]
