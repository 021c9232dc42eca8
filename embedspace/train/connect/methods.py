"""The methods of `fit_connector`: each makes a connector of centred texts and chooses its settings on held-out ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedspace.encoders.connectors import Connector, ConnectorConfig
from embedspace.train.connect.maps import negatives_outside, procrustes, ridge
from embedspace.train.connect.settings import ConnectSettings
from embedspace.train.connect.texts import Pairs, nearness
from embedspace.train.loop import FitConfig, FitProgress, fit
from embedspace.train.losses import info_nce
from embedspace.train.ranks import target_ranks

__all__ = ["FITTERS", "Start", "Tried"]


@dataclass(frozen=True)
class Tried:
    """A fit, with the settings narrowed to what was chosen."""

    connector: Connector
    settings: ConnectSettings
    chosen: Mapping[str, float]

    def ranks(self, held: Pairs) -> Tensor:
        """Return the rank of each held-out text's own target vector among all held-out ones, (H,)."""
        with torch.no_grad():
            return _ranks(self.connector.mapped(self.connector.centred(held.x)), self.connector, held)


def _ranks(mapped: Tensor, connector: Connector, held: Pairs) -> Tensor:
    targets = F.normalize(held.y - connector.target_centre, dim=-1)
    return target_ranks(mapped @ targets.T, torch.arange(len(mapped)))


class Start:
    """One fit on some texts: both spaces centred, and the start of every method's connector."""

    def __init__(
        self,
        pairs: Pairs,
        media: Mapping[str, Tensor],
        settings: ConnectSettings,
        callback: Callable[[FitProgress], None] | None,
    ) -> None:
        self.settings, self.callback = settings, callback
        self.modalities = ("text", *media)
        self.weights = _weights(pairs.x, media, settings.focus)
        self.centres = torch.stack([self._mean(pairs.x), *(rows.mean(dim=0) for rows in media.values())])
        self.target_centre = self._mean(pairs.y)
        self.target_scale = (pairs.y - self.target_centre).norm(dim=1).mean()
        self.x = F.normalize(pairs.x - self.centres[0], dim=-1)
        self.y = F.normalize(pairs.y - self.target_centre, dim=-1)

    def _mean(self, rows: Tensor) -> Tensor:
        return (self.weights[:, None] * rows).mean(dim=0)

    def connector(self, linear: Tensor | None = None, **sizes: int) -> Connector:
        """Return a connector of the settings' method with its centres and, where there is one, its linear map."""
        config = ConnectorConfig(self.settings.method, self.x.shape[1], self.y.shape[1], self.modalities, **sizes)
        made = Connector(config)
        made.centres.copy_(self.centres)
        made.target_centre.copy_(self.target_centre)
        made.target_scale.copy_(self.target_scale)
        if linear is not None and made.linear is not None:
            made.linear.weight.data.copy_(linear.T)
        return made

    def anchored(self, linear: Tensor | None) -> Connector:
        """Return a connector that keeps all texts."""
        count = len(self.x)
        near = self.settings.atoms if self.settings.method == "sparse" else self.settings.neighbours
        made = self.connector(linear, anchors=count, neighbours=min(near, count))
        made.keys.copy_(self.x)
        made.values.copy_(self.y)
        return made


def _weights(x: Tensor, media: Mapping[str, Tensor], focus: float) -> Tensor:
    """Return how much each text counts, (N,), 1 on average."""
    if not media or not focus:
        return torch.ones(len(x))
    near = nearness(x, media)
    weights = ((near - near.max()) / focus).exp()
    return weights / weights.mean()


def _quality(ranks: Tensor) -> float:
    """Return the mean reciprocal rank, by which settings are chosen."""
    return float((1 / ranks.double()).mean())


def _fit_procrustes(trial: Start, held: Pairs | None) -> Tried:
    return Tried(trial.connector(procrustes(trial.x, trial.y, trial.weights)), trial.settings, {})


def _fit_ridge(trial: Start, held: Pairs | None) -> Tried:
    tried = [
        Tried(
            trial.connector(ridge(trial.x, trial.y, strength, trial.weights)),
            dataclasses.replace(trial.settings, strengths=(strength,)),
            {"strength": strength},
        )
        for strength in trial.settings.strengths
    ]
    return tried[0] if held is None else max(tried, key=lambda one: _quality(one.ranks(held)))


@torch.no_grad()
def _fit_anchored(trial: Start, held: Pairs | None, linear: Tensor | None, shares: Sequence[float]) -> Tried:
    """Choose temperature and share, unless there is nothing to choose on."""
    made, given = trial.anchored(linear), trial.settings
    best = (-1.0, given.temperatures[0], shares[0])
    for temperature in given.temperatures if held is not None else ():
        assert held is not None
        made.config = dataclasses.replace(made.config, temperature=temperature)
        x = made.centred(held.x)
        base, read = made.base(x), made.from_anchors(x)
        for share in shares:
            quality = _quality(_ranks((1 - share) * base + share * read, made, held))
            best = max(best, (quality, temperature, share))
    _, temperature, share = best
    made.config = dataclasses.replace(made.config, temperature=temperature, share=share)
    narrowed = dataclasses.replace(given, temperatures=(temperature,), shares=(share,))
    return Tried(made, narrowed, {"temperature": temperature, "share": share})


def _fit_anchors(trial: Start, held: Pairs | None) -> Tried:
    found = _fit_anchored(trial, held, None, (1.0,))
    return dataclasses.replace(found, chosen={"temperature": found.chosen["temperature"]})


def _fit_blend(trial: Start, held: Pairs | None) -> Tried:
    return _fit_anchored(trial, held, procrustes(trial.x, trial.y, trial.weights), trial.settings.shares)


@torch.no_grad()
def _fit_sparse(trial: Start, held: Pairs | None) -> Tried:
    """Choose penalty and share, unless there is nothing to choose on: each penalty is solved once."""
    made, given = trial.anchored(procrustes(trial.x, trial.y, trial.weights)), trial.settings
    assert made.linear is not None
    best = (-1.0, given.penalties[0], given.rest_shares[0])
    for penalty in given.penalties if held is not None else ():
        assert held is not None
        made.config = dataclasses.replace(made.config, penalty=penalty)
        read, left = made.combined(made.centred(held.x))
        rotated = made.linear(left)
        for share in given.rest_shares:
            mapped = F.normalize(read + share * rotated, dim=-1)
            best = max(best, (_quality(_ranks(mapped, made, held)), penalty, share))
    _, penalty, share = best
    made.config = dataclasses.replace(made.config, penalty=penalty, share=share)
    narrowed = dataclasses.replace(given, penalties=(penalty,), rest_shares=(share,))
    return Tried(made, narrowed, {"penalty": penalty, "share": share})


def _fit_mlp(trial: Start, held: Pairs | None) -> Tried:
    """Train a rotation and the MLP beside it, which starts at nothing."""
    settings = trial.settings
    torch.manual_seed(settings.seed)
    made = trial.connector(procrustes(trial.x, trial.y, trial.weights), hidden_dim=settings.hidden_dim)
    assert made.mlp is not None
    last = made.mlp[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    scale = torch.tensor(1 / settings.loss_temperature)

    def loss_of_step(module: nn.Module, generator: torch.Generator) -> Tensor:
        assert isinstance(module, Connector)
        picked = torch.multinomial(trial.weights, min(settings.batch_size, len(trial.x)), generator=generator)
        x, y = trial.x[picked], trial.y[picked]
        if settings.noise:
            x = x + settings.noise * F.normalize(torch.randn(x.shape, generator=generator), dim=-1)
        out = module.mapped(F.normalize(x, dim=-1))
        ignored = negatives_outside((out @ y.T).detach(), settings.window)
        return info_nce(out, y, scale, ignored=ignored)

    config = FitConfig(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=min(100, settings.steps // 10),
        minutes=1e6,
        seed=settings.seed,
    )
    fit(made, loss_of_step, config, stage="connect", callback=trial.callback)
    return Tried(made, settings, {})


FITTERS: Mapping[str, Callable[[Start, Pairs | None], Tried]] = {
    "procrustes": _fit_procrustes,
    "ridge": _fit_ridge,
    "anchors": _fit_anchors,
    "blend": _fit_blend,
    "sparse": _fit_sparse,
    "mlp": _fit_mlp,
}
"""Method -> its fit; without held-out texts it takes the first of what there is to choose from."""
