"""The generator of captions: words from a vector, ranked by the space itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedspace.calibration.centring import centre
from embedspace.encoders.base import load_module
from embedspace.errors import WeightsError
from embedspace.generate.base import Generator, GeneratorSpace, Request, Sample, random_sources
from embedspace.generate.captions.decoder import (
    BEGIN,
    END,
    PAD,
    CaptionDecoder,
    DecoderConfig,
    beam_search,
    sample,
)
from embedspace.generate.conditioning import Condition
from embedspace.generate.registry import register_generator
from embedspace.generate.targets import option_names
from embedspace.modality import Modality
from embedspace.vocabulary import Vocabulary, vocabulary_of

__all__ = ["CaptionGenerator", "CaptionOptions", "without_open_bracket"]


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """How captions are drawn and ranked; chosen on the validation split.

    Attributes:
        beams: Width of the beam search.
        draws: Captions sampled besides.
        temperature: Temperature of the sampling.
        guidance_scale: Weight of the guidance of both.
        projection: Temperature of the projection onto the vocabulary (DeCap), from which a second beam starts; 0 for
            none.
        projected_sigma: Noise assumed in a projected vector.
        likelihood: Weight of a caption's log-probability a piece beside its cosine with the condition.
        retrieved: So many captions of training items that lie nearest compete with the decoder's; 0 for none.
    """

    beams: int = 5
    draws: int = 8
    temperature: float = 0.8
    guidance_scale: float = 1.5
    projection: float = 0.05
    projected_sigma: float = 0.5
    likelihood: float = 0.02
    retrieved: int = 3


class CaptionGenerator(Generator):
    """A caption decoder whose hypotheses are encoded again, so that the space says which fits best."""

    modality = Modality.TEXT.value
    options = option_names("text")
    families = ("autoregressive",)

    def __init__(
        self,
        decoder: CaptionDecoder,
        tokenizer: Tokenizer,
        space: GeneratorSpace,
        sigma: Mapping[str, float],
        vocabulary: Vocabulary | None = None,
        sampling: CaptionOptions | None = None,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.sigma = sigma
        self.vocabulary = vocabulary
        self.sampling = sampling or CaptionOptions()
        self._space = space

    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return for each vector its best captions, the rest of the ranking as the first one's alternatives."""
        out: list[list[Sample]] = []
        for row, noise in zip(vectors, sigma, strict=True):
            known = self.retrieve(row)
            ranked = self.rank(row, list(dict.fromkeys([*known, *self.candidates(row, float(noise), request)])))
            while len(ranked) < request.num_samples:  # fewer different captions than asked for: the last one again
                ranked.append(ranked[-1])
            alternatives = tuple(ranked[request.num_samples :])
            out.append(
                [
                    Sample(
                        Modality.TEXT.value,
                        text,
                        request.seed,
                        text=text,
                        score=score,
                        alternatives=alternatives if number == 0 else (),
                        provenance={"retrieved": known[text]} if text in known else {},
                    )
                    for number, (text, score) in enumerate(ranked[: request.num_samples])
                ]
            )
        return out

    def retrieve(self, vector: NDArray[np.float32]) -> dict[str, str]:
        """Return the captions of the training items nearest to a centred vector (embed_dim,), with an item of each.

        A decoder this small spells what it has rarely seen wrongly; a caption that people wrote does not. A sample says
        when its words are such a one's.

        Source: Ramos et al. 2023 (SmallCap, https://arxiv.org/abs/2209.15323), section 3, for retrieved captions.
        """
        if self.vocabulary is None or not self.sampling.retrieved:
            return {}
        return {n.caption: n.item for n in self.vocabulary.neighbours(vector, self.sampling.retrieved)}

    @torch.inference_mode()
    def candidates(self, vector: NDArray[np.float32], sigma: float, request: Request) -> list[str]:
        """Return different captions of one centred vector (embed_dim,): two beams' and as many draws."""
        options = self.sampling
        steps = request.num_steps or self.decoder.config.max_pieces
        scale = options.guidance_scale if request.guidance_scale is None else request.guidance_scale
        starts = [(torch.from_numpy(vector[None]), torch.tensor([sigma]))]
        if self.vocabulary is not None and options.projection > 0 and sigma > options.projected_sigma:
            projected = self.vocabulary.project(vector[None], options.projection)
            starts.append((torch.from_numpy(projected), torch.tensor([options.projected_sigma])))
        found: list[list[int]] = []
        for given, noise in starts:
            hypotheses = beam_search(
                self.decoder,
                Condition(given, noise),
                num_steps=steps,
                guidance_scale=scale,
                beams=max(options.beams, min(request.num_samples, 32)),
            )
            found += [pieces for pieces, _ in hypotheses]
        draws = max(options.draws, request.num_samples)
        given, noise = starts[-1]
        drawn = sample(
            self.decoder,
            Condition(given.expand(draws, -1), noise.expand(draws)),
            num_steps=steps,
            guidance_scale=scale,
            generator=random_sources(request, 0, draws),
            temperature=options.temperature,
        )
        found += [[piece for piece in row if piece != PAD] for row in drawn.tolist()]
        texts = [" ".join(self.tokenizer.decode(pieces).split()) for pieces in found]
        return [text for text in dict.fromkeys(map(without_open_bracket, texts)) if text] or ["nothing"]

    @torch.inference_mode()
    def rank(self, vector: NDArray[np.float32], texts: list[str]) -> list[tuple[str, float]]:
        """Return captions with their scores for a centred vector (embed_dim,), best first.

        A score is the cosine with the vector plus how likely the decoder holds the caption, by a small weight, which
        keeps a word that merely lies close from winning.
        """
        rows = centre(self._space.encode_text(texts), Modality.TEXT, self._space.calibration.means)
        scores = rows @ vector + self.sampling.likelihood * self.likelihoods(vector, texts)
        return [(texts[i], float(scores[i])) for i in np.argsort(-scores, kind="stable")]

    @torch.inference_mode()
    def likelihoods(self, vector: NDArray[np.float32], texts: list[str]) -> NDArray[np.float32]:
        """Return (N,) mean log-probability a piece of captions given a centred vector (embed_dim,)."""
        longest = self.decoder.config.max_pieces
        coded = [[BEGIN, *e.ids[: longest - 1], END] for e in self.tokenizer.encode_batch(texts)]
        ids = torch.full((len(coded), max(map(len, coded))), PAD)
        for row, pieces in zip(ids, coded, strict=True):
            row[: len(pieces)] = torch.tensor(pieces)
        given = torch.from_numpy(vector)[None].expand(len(ids), -1)
        condition = Condition(given, torch.full((len(ids),), self.noise_of("mixed")))
        chances = self.decoder(ids[:, :-1], condition).log_softmax(dim=2)
        own = chances.gather(2, ids[:, 1:, None]).squeeze(2)  # (N, T)
        mask = ids[:, 1:] != PAD
        means: NDArray[np.float32] = ((own * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
        return means


def without_open_bracket(text: str) -> str:
    """Return a caption without what was cut off in the middle: an open bracket and all behind it."""
    depth, opened = 0, len(text)
    for place, letter in enumerate(text):
        if letter == "(":
            opened = place if depth == 0 else opened
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
    return text[:opened].rstrip(" ,;:-") if depth else text


@register_generator("text")
def _create(config: Mapping[str, Any], folder: Path, space: GeneratorSpace) -> CaptionGenerator:
    parsed, path = DecoderConfig(**config["decoder"]), folder / "decoder.safetensors"
    decoder = load_module(lambda: CaptionDecoder(parsed), path)
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise WeightsError(f"{folder / 'tokenizer.json'}: not a tokenizer: {error}") from error
    known = {field.name for field in dataclasses.fields(CaptionOptions)}
    given = config.get("options", {})
    if set(given) - known:
        raise KeyError(f"options {sorted(set(given) - known)}")
    vocabulary = vocabulary_of(folder.parent)
    return CaptionGenerator(decoder, tokenizer, space, config["sigma"], vocabulary, CaptionOptions(**given))
