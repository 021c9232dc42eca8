"""Contrastive losses over a batch of pairs, as free functions: `(B, embed_dim)` unit rows in, a scalar out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["info_nce", "mixup_pairs", "siglip", "soft_targets"]


def soft_targets(similarity: Tensor, *, positive_above: float, ignore_above: float) -> tuple[Tensor, Tensor]:
    """Turn the similarity of the captions of a batch into multi-positive targets and a mask.

    Two items whose captions say nearly the same thing are positives of each other; items whose captions are only
    close are neither positives nor honest negatives, so they are left out of the denominator.

    Args:
        similarity: (B, B) cosine of the frozen text features of the captions.
        positive_above: Cosine from which a pair counts as positive.
        ignore_above: Cosine from which a pair that is not positive is left out.

    Returns:
        (B, B) row-stochastic targets, and a (B, B) boolean mask that is True where a pair is left out.
    """
    positive = similarity >= positive_above
    positive.fill_diagonal_(True)
    weight = torch.where(positive, similarity.clamp(min=0), torch.zeros_like(similarity))
    ignored = (similarity >= ignore_above) & ~positive
    return weight / weight.sum(dim=1, keepdim=True), ignored


def info_nce(
    a: Tensor, b: Tensor, logit_scale: Tensor, targets: Tensor | None = None, ignored: Tensor | None = None
) -> Tensor:
    """Return the symmetric InfoNCE loss.

    Args:
        a: (B, embed_dim) unit rows.
        b: (B, embed_dim) unit rows; row i belongs to row i of `a`.
        logit_scale: Scalar, 1 / temperature (already exponentiated).
        targets: (B, B) row-stochastic soft targets; the identity where None.
        ignored: (B, B) boolean, True where a pair takes no part.

    Returns:
        Scalar loss in nats.

    Source:
        van den Oord et al. 2018, eq. 4; Radford et al. 2021 (CLIP), figure 3.
    """
    logits = logit_scale * a @ b.T
    if ignored is not None:
        logits = logits.masked_fill(ignored, float("-inf"))
    if targets is None:
        labels = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    return (_soft_cross_entropy(logits, targets) + _soft_cross_entropy(logits.T, targets.T)) / 2


def _soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    targets = targets / targets.sum(dim=1, keepdim=True)
    log_prob = F.log_softmax(logits, dim=1)
    # 0 * -inf is nan: a left-out pair has target 0 and log-probability -inf
    return -(targets * log_prob.masked_fill(targets == 0, 0.0)).sum(dim=1).mean()


def siglip(
    a: Tensor,
    b: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    positive: Tensor | None = None,
    ignored: Tensor | None = None,
    *,
    chunk: int = 0,
) -> Tensor:
    """Return the pairwise sigmoid loss.

    Args:
        a: (B, embed_dim) unit rows.
        b: (B, embed_dim) unit rows.
        logit_scale: Scalar, 1 / temperature.
        logit_bias: Scalar added to every logit.
        positive: (B, B) boolean; the identity where None.
        ignored: (B, B) boolean, True where a pair takes no part.
        chunk: Rows of `a` that are compared at once, 0 for all: the (B, B) logits are then never held, not even for
            the gradient, which computes them again.

    Returns:
        Scalar loss: summed over pairs, divided by B.

    Source:
        Zhai et al. 2023 (SigLIP), algorithm 1.
    """

    def total(start: int, end: int) -> Tensor:
        logits = logit_scale * a[start:end] @ b.T + logit_bias
        if positive is None:
            sign = torch.full_like(logits, -1.0)
            sign[torch.arange(end - start), torch.arange(start, end)] = 1.0
        else:
            sign = positive[start:end].to(logits.dtype) * 2 - 1
        loss = -F.logsigmoid(sign * logits)
        if ignored is not None:
            loss = loss.masked_fill(ignored[start:end], 0.0)
        return loss.sum()

    if not chunk or chunk >= len(a):
        return total(0, len(a)) / len(a)
    parts = [
        checkpoint(total, start, min(start + chunk, len(a)), use_reentrant=False) for start in range(0, len(a), chunk)
    ]
    summed: Tensor = torch.stack(parts).sum()
    return summed / len(a)


def mixup_pairs(features: Tensor, text: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix each pair with another of the batch by the same coefficient on both sides (cross-modal mixup).

    Args:
        features: (B, feature_dim) or (B, T, feature_dim) of the first modality.
        text: (B, text_dim) of the second.
        alpha: Beta(alpha, alpha) of the coefficient; 0 changes nothing.
        generator: Source of randomness.

    Returns:
        The mixed pair of tensors; the coefficient is at least 1/2, so row i still belongs to item i first.

    Source:
        Zhang et al. 2018 (mixup), eq. 1; So et al. 2023 (geodesic multi-modal mixup) for doing it on both sides.
    """
    if alpha <= 0:
        return features, text
    gamma = torch._standard_gamma(torch.full((2, len(text)), alpha), generator=generator)
    mix = gamma[0] / gamma.sum(dim=0)
    mix = torch.maximum(mix, 1 - mix)
    other = torch.randperm(len(text), generator=generator)
    shape = (-1,) + (1,) * (features.ndim - 1)
    mixed = mix.view(shape) * features + (1 - mix.view(shape)) * features[other]
    return mixed, mix[:, None] * text + (1 - mix[:, None]) * text[other]
