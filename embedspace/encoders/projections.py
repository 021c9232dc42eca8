"""Trained projections: frozen backbone features in, unit rows of the shared space out.

Every projection maps to `(B, embed_dim)` float32 unit rows. An encoder may hold several members that differ by seed
only: their unit outputs are averaged (a deep ensemble, Lakshminarayanan et al. 2017), which is worth more than one
wider projection on corpora this small.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_QUERIES = 4
"""Attention distributions over the frames: a caption has about so many content words."""
_FAR = 5.0
"""Standard deviations."""

__all__ = [
    "AttentionPoolProjection",
    "KernelProjection",
    "LinearProjection",
    "MLPProjection",
    "NamedProjections",
    "class_mixture",
    "ensemble_normalize",
    "fuse",
]


def ensemble_normalize(outputs: list[Tensor]) -> Tensor:
    """Return the unit-norm mean of the members' unit outputs, (B, embed_dim)."""
    return F.normalize(torch.stack([F.normalize(o, dim=-1) for o in outputs]).mean(dim=0), dim=-1)


def fuse(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return unit rows between those of two ways into the space, both (B, embed_dim); the second has the share."""
    return F.normalize((1 - share) * first + share * second, dim=-1)


def class_mixture(logits: Tensor, classes: Tensor, temperature: float, top_k: int) -> Tensor:
    """Mix class-name vectors by the classes' probabilities.

    Args:
        logits: (B, C) class scores.
        classes: (C, D) unit vectors of the class names.
        temperature: Divides the logits.
        top_k: Classes that take part.

    Returns:
        (B, D) unit rows.

    Source:
        Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ConSE), eq. 3.
    """
    values, indices = (logits / temperature).topk(top_k, dim=1)
    mixed = (values.softmax(dim=1)[..., None] * classes[indices]).sum(dim=1)
    return F.normalize(mixed, dim=-1)


class LinearProjection(nn.Module):
    """Text features -> shared space: a linear map plus a small residual, frozen once trained.

    Args:
        feature_dim: Width of the text backbone.
        embed_dim: Width of the shared space.
        hidden_dim: Width of the residual branch; 0 leaves the linear map alone.
    """

    def __init__(self, feature_dim: int, embed_dim: int, hidden_dim: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        self.linear = nn.Linear(feature_dim, embed_dim)
        if not self.linear.weight.is_meta:  # see `embedspace.encoders.sizes`
            nn.init.orthogonal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.residual: nn.Sequential | None = None
        if hidden_dim:
            last = nn.Linear(hidden_dim, embed_dim)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.residual = nn.Sequential(nn.Linear(feature_dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), last)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, feature_dim) unit rows to (B, embed_dim) unit rows."""
        out = self.linear(features)
        if self.residual is not None:
            out = out + self.residual(features)
        return F.normalize(out, dim=-1)


class MLPProjection(nn.Module):
    """Pooled features -> shared space, with an optional vector that is already there as a starting point.

    Args:
        feature_dim: Width of the (standardised) features.
        embed_dim: Width of the shared space.
        hidden_dim: Width of the hidden layer.
        dropout: On the features and on the hidden layer.
        with_prior: Whether `forward` takes a prior (B, embed_dim), such as the ConSE vector of class names.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, feature_dim: int, embed_dim: int, hidden_dim: int = 512, dropout: float = 0.3, with_prior: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(feature_dim + (embed_dim if with_prior else 0), hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.out = nn.Linear(hidden_dim, embed_dim)
        self.prior_gain = nn.Parameter(torch.tensor(1.0)) if with_prior else None

    def forward(self, features: Tensor, prior: Tensor | None = None) -> Tensor:
        """Map (B, feature_dim) raw features to (B, embed_dim) unit rows."""
        x = self.dropout((features - self.mean) * self.scale)
        if self.prior_gain is not None:
            assert prior is not None
            # times sqrt(D) so that the prior's entries have the variance of standardised features
            x = torch.cat([x, prior * prior.shape[-1] ** 0.5], dim=-1)
        out = self.out(self.dropout(F.gelu(self.norm(self.hidden(x)))))
        if self.prior_gain is not None and prior is not None:
            out = F.normalize(out, dim=-1) + self.prior_gain * prior
        return F.normalize(out, dim=-1)


class NamedProjections(nn.Module):
    """Some projections that start from the names of classes, mixed by the scores that a backbone gives these.

    Args:
        classes: How many classes have names; `classes` holds the names' vectors in the space.
        feature_dim: Width of the features.
        embed_dim: Width of the shared space.
        hidden_dim: Width of each projection's hidden layer.
        members: How many projections.
    """

    classes: Tensor

    def __init__(self, classes: int, feature_dim: int, embed_dim: int, hidden_dim: int, members: int) -> None:
        super().__init__()
        self.register_buffer("classes", torch.zeros(classes, embed_dim))
        self.members = nn.ModuleList(
            MLPProjection(feature_dim, embed_dim, hidden_dim, with_prior=True) for _ in range(members)
        )


class KernelProjection(nn.Module):
    """Pooled features -> shared space by what is remembered: kernel ridge regression on the training items.

    A thousand items of hundreds of concepts are too few to train a network on; this has one solution, found without
    steps.

    Args:
        feature_dim: Width of the features.
        embed_dim: Width of the shared space.
        basis_dim: Principal directions that the features are compared in.
        items: Remembered items.
        bandwidth: Bandwidth of the kernel exp(bandwidth * (cosine - 1)).
        prior_share: Weight of the prior beside the unit vector that is read out.

    Source:
        Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, eq. 2.25 (mean of the prediction).
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    keys: Tensor
    values: Tensor

    def __init__(
        self,
        feature_dim: int,
        embed_dim: int,
        basis_dim: int,
        items: int,
        *,
        bandwidth: float = 2.0,
        prior_share: float = 0.0,
    ) -> None:
        super().__init__()
        self.bandwidth, self.prior_share = bandwidth, prior_share
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("scale", torch.ones(feature_dim))
        self.register_buffer("basis", torch.zeros(basis_dim, feature_dim))
        self.register_buffer("keys", torch.zeros(items, basis_dim))
        self.register_buffer("values", torch.zeros(items, embed_dim))

    def standardise(self, features: Tensor) -> Tensor:
        """Map (B, feature_dim) raw features to as many deviations from the mean, limited."""
        # an entry far outside of what training had says nothing but "far outside"
        return ((features - self.mean) * self.scale).clamp(-_FAR, _FAR)

    def coordinates(self, features: Tensor) -> Tensor:
        """Map (B, feature_dim) raw features to (B, basis_dim) unit rows, in which items are compared."""
        return F.normalize(self.standardise(features) @ self.basis.T, dim=-1)

    def kernel(self, coordinates: Tensor) -> Tensor:
        """Compare (B, basis_dim) unit rows with what is remembered, (B, items) in (0, 1]."""
        return torch.exp(self.bandwidth * (coordinates @ self.keys.T - 1))

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """Map (B, feature_dim) raw features, with a prior (B, embed_dim), to (B, embed_dim) unit rows."""
        out = F.normalize(self.kernel(self.coordinates(features)) @ self.values, dim=-1)
        return F.normalize(out + self.prior_share * prior, dim=-1)


class AttentionPoolProjection(nn.Module):
    """A sequence of features -> one vector: a small transformer, then learned-query attention pooling.

    Args:
        feature_dim: Width of the sequence's features.
        out_dim: Width of the result.
        hidden_dim: Width of the transformer.
        num_layers: Transformer layers before the pooling.
        num_heads: Attention heads.
        stack: Neighbouring frames that are joined into one before anything else; nothing is averaged away.

    Source:
        Duquenne et al. 2023 (SONAR) for pooling a speech encoder into a text-space vector; Khurana et al. 2022
        (SAMU-XLSR) for regressing a frozen sentence encoder from speech.
    """

    def __init__(
        self,
        feature_dim: int,
        out_dim: int,
        hidden_dim: int = 256,
        num_layers: int = 1,
        num_heads: int = 4,
        dropout: float = 0.1,
        stack: int = 2,
    ) -> None:
        super().__init__()
        self.stack = stack
        self.norm_in = nn.LayerNorm(feature_dim)
        self.project = nn.Linear(feature_dim * stack, hidden_dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                hidden_dim, num_heads, hidden_dim * 3, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_dim)
        self.score = nn.Linear(hidden_dim, _QUERIES)
        self.out = nn.Sequential(
            nn.Linear(_QUERIES * hidden_dim, 2 * hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden_dim, out_dim),
        )

    def forward(self, sequence: Tensor, padding: Tensor | None = None) -> Tensor:
        """Map (B, T, feature_dim), with padding (B, T) True where there is none, to (B, out_dim) unit rows."""
        x = self.norm_in(sequence)
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        x = F.pad(x, (0, 0, 0, -x.shape[1] % self.stack))
        x = self.project(x.reshape(len(x), -1, self.stack * x.shape[2]))  # (B, T, C) -> (B, T / stack, hidden)
        mask = None
        if padding is not None:
            # a stacked frame is padding only if all its frames are
            mask = (
                F.pad(padding, (0, -padding.shape[1] % self.stack), value=True).view(len(x), -1, self.stack).all(dim=2)
            )
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=mask)
        x = self.norm(x)
        scores = self.score(x)  # (B, T / stack, queries)
        if mask is not None:
            scores = scores.masked_fill(mask[..., None], float("-inf"))
        pooled = scores.softmax(dim=1).transpose(1, 2) @ x  # (B, queries, hidden)
        return F.normalize(self.out(pooled.flatten(1)), dim=-1)
