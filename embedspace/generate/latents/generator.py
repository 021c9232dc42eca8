"""What generators on latents share, whatever the latents mean: neighbours, condition, sampler, decoder."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedspace.errors import ArgumentError
from embedspace.generate.base import Generator, Request, Sample
from embedspace.generate.candidates.drawn import BATCH, Drawn, batches, best_of, candidate_seeds, sources_of
from embedspace.generate.conditioning import Condition
from embedspace.generate.editing import Edit
from embedspace.generate.families.registry import families_that, family_names
from embedspace.generate.latents.autoencoder import DOWN
from embedspace.generate.latents.edits import (
    EditedLatents,
    ability_name,
    cells_that_differ,
    draws_anew,
    needed_abilities,
    options_for,
    refuse_untold,
)
from embedspace.generate.latents.files import FamilyNetwork, LatentParts
from embedspace.generate.latents.maps import to_cells
from embedspace.vocabulary import Neighbour

__all__ = ["LatentGenerator"]

_EARLIER_START = 0.8
"""A near copy is drawn again from a start so much earlier."""

Draw = Callable[[Condition, list[torch.Generator], float], Tensor]
"""Condition, sources of noise, start -> latents (B, C, H, W)."""


class LatentGenerator(Generator):
    """An autoencoder, networks that draw its latents, and the training items that neighbours come from.

    Args:
        parts: From `load_parts`.
    """

    def __init__(self, parts: LatentParts) -> None:
        super().__init__()
        self.autoencoder = parts.autoencoder
        self.networks = parts.networks
        self.modules_by_name = nn.ModuleDict({name: network.module for name, network in parts.networks.items()})
        self.families = tuple(parts.networks)
        self.neighbours = parts.neighbours
        self.sigma = parts.sigma
        self.sampling = parts.options
        self.vocabulary = parts.vocabulary
        self.translators = parts.translators

    @abstractmethod
    def to_media(self, decoded: Tensor, request: Request) -> list[tuple[NDArray[Any], int]]:
        """Turn decoded items (B, in_channels, H, W) into (content, sample_rate)."""

    @abstractmethod
    def to_input(self, edit: Edit) -> Tensor:
        """Return what is edited as the autoencoder takes it, (1, in_channels, H, W)."""

    @abstractmethod
    def changed_cells(self, edit: Edit) -> Tensor:
        """Return the cells (1, 1, h, w) of latents that the mask of an edit touches."""

    @abstractmethod
    def merged(self, made: NDArray[Any], edit: Edit, cells: NDArray[np.bool_] | None, request: Request) -> NDArray[Any]:
        """Put what was made into what is edited; `cells` (h, w) are those that may change, where any stay."""

    def own_condition(self, edit: Edit) -> tuple[NDArray[np.float32], float]:
        """Return the centred vector (embed_dim,) of what is edited, and the noise assumed in it.

        Raises:
            ArgumentError: If this generator cannot tell.
        """
        del edit
        raise ArgumentError(
            "init", f"the generator of {self.modality} cannot tell what it is: name a mask yourself, and no style"
        )

    def family_of(self, request: Request) -> str:
        """Return which of the networks is asked for.

        Raises:
            ArgumentError: If there is no such, or it cannot do what is asked.
        """
        request, family = self.without_translation(request), request.family
        if family and family not in self.families and family in family_names():
            raise ArgumentError(
                "family",
                f"{family!r}: the generator of {self.modality} has {', '.join(self.families)}; to add one: embedspace "
                f"train generator RECIPE --family {family}",
            )
        family = super().family_of(request)
        for option, value, ability in needed_abilities(request):
            if ability in self.networks[family].family.can:
                continue
            able = [name for name, network in self.networks.items() if ability in network.family.can]
            others = f"families that do: {', '.join(able or families_that(ability))}"
            raise ArgumentError(option, f"{value}: the family {family!r} has no {ability_name(ability)}; {others}")
        refuse_untold(request, family, self.networks[family], self.translators)
        return family

    def without_translation(self, request: Request) -> Request:
        """Return a request as the families are asked: of a style that a translator draws they know nothing."""
        return dataclasses.replace(request, style=None, edit=None) if request.style in self.translators else request

    def redrawn_styles(self, request: Request) -> Sequence[str]:
        """Return the styles of the translators, and those that the family was told in training if it can redraw."""
        network = self.networks[self.family_of(dataclasses.replace(request, style=None))]
        return [*self.translators, *(network.config.styles if "redraw" in network.family.can else ())]

    def told(self, family: str, request: Request, count: int) -> dict[str, Tensor]:
        """Return what `count` conditions say beside their vectors: the style and the map that are asked for."""
        found: dict[str, Tensor] = {}
        if request.style is not None:
            number = self.networks[family].config.styles.index(request.style) + 1
            found["style"] = torch.full((count,), number)
        if request.drawing is not None:
            height = self.neighbours.latents.shape[2] * DOWN
            drawn = torch.from_numpy(request.drawing.padded(height))
            found["map"] = to_cells(drawn[None]).expand(count, -1, -1, -1)
        return found

    @torch.inference_mode()
    def generate(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32], request: Request
    ) -> list[list[Sample]]:
        """Return `request.num_samples` samples of each vector."""
        family = self.family_of(request)
        translator, request = self.translators.get(request.style or ""), self.without_translation(request)
        aims, (vectors, sigma) = vectors, self.conditions(vectors, sigma)
        if not draws_anew(request, self.networks[family]):
            aims = vectors
        count, each = request.num_samples, request.candidates or self.sampling.candidates
        each = each if self.chooses else 1
        request = dataclasses.replace(request, candidates=each)
        drawn, edited = self._draw(vectors, sigma, request, family, candidate_seeds(request.seed, count, each))
        if translator is not None:
            drawn = dataclasses.replace(drawn, latents=translator(drawn.latents))
        flat = self._decode(drawn, request, edited) if each == 1 else self._chosen(drawn, aims, request, edited)
        return [flat[first : first + count] for first in range(0, len(flat), count)]

    def _chosen(
        self, drawn: Drawn, vectors: NDArray[np.float32], request: Request, edited: EditedLatents | None
    ) -> list[Sample]:
        """Return the best candidate of each sample, under the seed that was asked for."""
        each, made = request.candidates or 1, self._decode(drawn, request, edited)
        own = len(made) // len(vectors)
        known = [self.fits(row, made[n * own : (n + 1) * own]) for n, row in enumerate(vectors)]
        fits = torch.tensor([fit for fitting in known for fit in fitting])
        best = best_of(fits, drawn.copies, self.sampling.copy_similarity, each)
        seeds = range(request.seed, request.seed + request.num_samples)
        return [
            dataclasses.replace(sample, seed=seeds[k % len(seeds)], score=float(fit))
            for k, (sample, fit) in enumerate((made[n], fits[n]) for n in best.tolist())
        ]

    def conditions(
        self, vectors: NDArray[np.float32], sigma: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what the networks are given for centred vectors (N, embed_dim) and their noise (N,)."""
        if self.vocabulary is None:
            return vectors, sigma
        return self.vocabulary.project_noisy(vectors, sigma, self.sampling.projection, self.sampling.projected_sigma)

    @property
    def chooses(self) -> bool:
        """Whether it can tell which of several candidates fits best."""
        return False

    def fits(self, vector: NDArray[np.float32], samples: Sequence[Sample]) -> list[float]:
        """Return how well each sample's own vector fits a centred vector (embed_dim,), where it can tell."""
        raise NotImplementedError(f"a generator of {self.modality} cannot tell candidates apart")

    def _draw(
        self,
        vectors: NDArray[np.float32],
        sigma: NDArray[np.float32],
        request: Request,
        family: str,
        seeds: Sequence[int],
    ) -> tuple[Drawn, EditedLatents | None]:
        """Draw latents of every vector with every seed, and say what of them stays where something is edited."""
        network = self.networks[family]
        rows = torch.from_numpy(np.asarray(vectors, np.float32))
        noise = torch.from_numpy(np.asarray(sigma, np.float32))
        wanted = 0 if draws_anew(request, network) else network.config.neighbours
        pool, spread = self.sampling.pool, self.sampling.spread
        by_looks = self.sampling.looks or ((request.candidates or 1) > 1 and request.start != 0)
        near = torch.stack(
            [
                self.neighbours.draw(row, sources_of(seeds), wanted, pool=pool, spread=spread, by_looks=by_looks)
                for row in rows
            ]
        )
        edited = self._edited(network, Condition(rows, noise, self.neighbours.latents[near[:, 0]]), request)
        count = len(seeds)
        owner = torch.arange(len(rows)).repeat_interleave(count)
        # (N, ...) -> (N * count, ...): samples of different vectors share a pass through the network
        vector, size, context = rows.repeat_interleave(count, 0), noise.repeat_interleave(count), near.flatten(0, 1)
        sources = [source for _ in rows for source in sources_of(seeds)]
        usual = options_for(request, network, self.sampling)
        made = vector.new_zeros(len(vector), *self.neighbours.latents.shape[1:])
        copies: dict[int, Neighbour] = {}
        nearer = self.sampling.nearer if edited is None else 0.0
        for part, start in batches(len(vector), request.candidates or 1, usual.start, nearer):
            chosen = context[part]
            told = self.told(family, request, len(chosen))
            beside = self.neighbours.latents[chosen]
            beside = beside if edited is None else edited.context(beside)
            condition = Condition(vector[part], size[part], beside, **told)
            options = usual if edited is None else edited.options(usual, condition, owner[part])
            draw, own = partial(network.draw_from, options), [sources[k] for k in part.tolist()]
            latents = draw(condition, [source.clone_state() for source in own], start)
            if edited is None:
                alike = self._redraw_copies(draw, latents, condition, own, start)
            else:
                alike = self.neighbours.nearest_output(latents)
            copies |= dict(zip(part.tolist(), alike, strict=True))
            made[part] = latents
        return Drawn(made, context, owner, [*seeds] * len(rows), [copies[k] for k in range(len(made))]), edited

    def _edited(self, network: FamilyNetwork, wanted: Condition, request: Request) -> EditedLatents | None:
        """Return what is edited and where it stays, for each of the wanted items."""
        edit = request.edit
        if edit is None:
            return None
        init, count, rows = self.autoencoder.encode(self.to_input(edit)), network.config.neighbours, len(wanted.vector)
        keep = None if edit.mask is None else ~self.changed_cells(edit).expand(rows, -1, -1, -1)
        if draws_anew(request, network):
            given = self._given(edit, init[:, None].expand(-1, count, -1, -1, -1))
            return EditedLatents(init, keep, whole=True, given=given)
        if edit.auto:
            given = self._given(edit, None, max(1, count))
            keep = ~cells_that_differ(network, init, given, wanted)
        return EditedLatents(init, keep, whole=keep is None or edit.strength is not None)

    def _given(self, edit: Edit, context: Tensor | None, neighbours: int = 0) -> Condition:
        """Return what is edited as one condition, with a context or so many neighbours."""
        vector, sigma = self.own_condition(edit)
        own = torch.from_numpy(vector)[None]
        if context is None:
            context = self.neighbours.latents[self.neighbours.nearest(own, neighbours)[0]]
        return Condition(own, torch.tensor([sigma], dtype=torch.float32), context)

    def _redraw_copies(
        self, draw: Draw, latents: Tensor, condition: Condition, sources: list[torch.Generator], start: float
    ) -> list[Neighbour]:
        """Draw near copies of training items again, with the same noise and less of the neighbour to begin from.

        Changes `latents` in place, and returns the training item that each is then most like.
        """
        copies = self.neighbours.nearest_output(latents)
        for _ in range(self.sampling.redraws if start else 0):
            alike = torch.tensor([copy.similarity for copy in copies])
            rows = (alike >= self.sampling.copy_similarity).nonzero().flatten()
            if not len(rows):
                break
            start *= _EARLIER_START
            latents[rows] = draw(condition.rows(rows), [sources[k].clone_state() for k in rows.tolist()], start)
            for row, copy in zip(rows.tolist(), self.neighbours.nearest_output(latents[rows]), strict=True):
                copies[row] = copy
        return copies

    def _decode(self, drawn: Drawn, request: Request, edited: EditedLatents | None) -> list[Sample]:
        """Decode latents, and say what they were made from and which training item they are most like."""
        samples: list[Sample] = []
        for first in range(0, len(drawn), BATCH):
            part = drawn.rows(torch.arange(first, min(first + BATCH, len(drawn))))
            media = self.to_media(self.autoencoder.decode(part.latents), request)
            made = zip(media, part.seeds, part.context.tolist(), part.copies, strict=True)
            samples += [self._sample(*one) for one in made]
        return self._merged(samples, request, edited, drawn.owner)

    def _sample(self, media: tuple[NDArray[Any], int], seed: int, near: list[int], copy: Neighbour) -> Sample:
        """Return what was decoded as a sample."""
        is_copy = copy.similarity >= self.sampling.copy_similarity
        return Sample(
            str(self.modality),
            media[0],
            seed,
            sample_rate=media[1],
            provenance={
                "context": [self.neighbours.items[i] for i in near],
                "nearest_output": {"item": copy.item, "similarity": round(copy.similarity, 4)},
                **({"near_copy": True} if is_copy else {}),
            },
            neighbours=(copy,),
        )

    def _merged(
        self, samples: list[Sample], request: Request, edited: EditedLatents | None, owner: Tensor
    ) -> list[Sample]:
        """Return samples within what is edited; `owner` (B,) says of which vector each is."""
        edit = request.edit
        if edit is None or edited is None:
            return samples
        cells = None if edited.keep is None else ~edited.keep[owner, 0].numpy()
        return [
            dataclasses.replace(
                sample,
                content=self.merged(np.asarray(sample.content), edit, None if cells is None else cells[row], request),
            )
            for row, sample in enumerate(samples)
        ]

    @torch.inference_mode()
    def neighbour_media(self, vector: NDArray[np.float32], k: int) -> list[tuple[Neighbour, NDArray[Any]]]:
        """Return the k nearest training items of a centred vector (embed_dim,), decoded from their latents."""
        rows, cosines = self.neighbours.nearest(torch.from_numpy(vector)[None], k)
        media = self.to_media(self.autoencoder.decode(self.neighbours.latents[rows[0]]), Request())
        return [
            (Neighbour(self.neighbours.items[i], self.neighbours.captions[i], value), content)
            for i, value, (content, _) in zip(rows[0].tolist(), cosines[0].tolist(), media, strict=True)
        ]

    @torch.inference_mode()
    def item_media(self, item: str) -> tuple[NDArray[Any], str]:
        """Return a training item, decoded from its latents, and what it is called.

        Raises:
            ValueError: If there is none of this id.
        """
        place = self.neighbours.items.index(item)
        ((content, _),) = self.to_media(self.autoencoder.decode(self.neighbours.latents[place : place + 1]), Request())
        return content, self.neighbours.captions[place]
