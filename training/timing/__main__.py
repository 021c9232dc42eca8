"""Train the networks of timing: python -m training.timing (some 40 minutes of one core, rendering included).

    python -m training.timing --minutes 25 --resume         # build/runs/timing
    python -m training.timing --minutes 25 --resume --ship  # and into the package

What is seen and what is heard of one clip are brought together, those of other clips and of the same clip a moment
earlier or later apart (Korbar et al. 2018). Impacts are told to nobody. Settings are chosen on validation clips, whose
pictures, sounds and kind of motion are others than training's; test clips take no part.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from embedspace.encoders.backbones import WEIGHTS
from embedspace.encoders.timing.network import TimingNetwork
from embedspace.files import replacing
from training.timing.clips import Clips, load_clips

OUT = Path("build/runs/timing")


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained.

    Attributes:
        clips: Training clips.
        validation: Validation clips.
        batch: Clips per step.
        steps: At most.
        learning_rate: Of AdamW, after a warm-up, falling to nothing.
        weight_decay: Of it.
        shifts: Copies of each sound, moved by some steps, that its clip must not fit.
        slower: A clip is played up to so many times as slow: a part of it, so that nothing is to be filled in, which
            both networks would learn to see in place of the impacts.
        larger: And is made up to so many times as large, or as small.
        seed: Of all that is drawn.
    """

    clips: int = 1600
    validation: int = 128
    batch: int = 64
    steps: int = 350
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    shifts: int = 4
    slower: float = 1.5
    larger: float = 1.6
    seed: int = 0


class Trained(TimingNetwork):
    """The same networks while they learn."""

    def train(self, mode: bool = True) -> Trained:
        """Learn."""
        return nn.Module.train(self, mode)


def batch_of(clips: Clips, config: TrainConfig, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Draw rows, columns and bands of some clips, a part of each, slower, larger or smaller, mirrored, turned."""
    at = torch.randint(len(clips), (config.batch,), generator=generator)
    drawn = torch.rand((5, config.batch), generator=generator)
    speed = torch.exp(-drawn[0] * float(np.log(config.slower)))
    later = (2 * drawn[1] - 1) * (1 - speed)
    size = torch.exp((2 * drawn[2] - 1) * float(np.log(config.larger)))
    moved = (2 * drawn[3] - 1) * 0.3
    mirrored = torch.where(drawn[4] < 0.5, 1.0, -1.0)
    axes = [clips.rows[at].float(), clips.columns[at].float()]
    if float(torch.rand((), generator=generator)) < 0.5:  # a quarter turn: what falls then slides into a wall
        places = [axis.shape[2] for axis in axes]
        axes = [functional.interpolate(a, (to, a.shape[3])) for a, to in zip(reversed(axes), places, strict=True)]
    rows = _played(axes[0], size, moved, speed, later)
    columns = _played(axes[1], size * mirrored, 0 * moved, speed, later)
    bands = _played(clips.bands[at].float()[:, None] + 1, torch.ones_like(size), 0 * moved, speed, later)[:, 0] - 1
    return rows, columns, bands


def _played(
    media: torch.Tensor, size: torch.Tensor, moved: torch.Tensor, speed: torch.Tensor, later: torch.Tensor
) -> torch.Tensor:
    """Return (B, C, places, T) resampled along both axes; what is not there is zero."""
    zero = torch.zeros_like(size)
    ways = torch.stack([torch.stack([speed, zero, later], 1), torch.stack([zero, size, moved], 1)], 1)
    grid = functional.affine_grid(ways, list(media.shape), align_corners=False)
    return functional.grid_sample(media, grid, align_corners=False)


def loss_of(seen: torch.Tensor, heard: torch.Tensor, scale: torch.Tensor, shifts: list[int]) -> torch.Tensor:
    """Return the mean of both ways' cross entropy: the own one among all, and among its own moved ones.

    Source: Radford et al. 2021 (CLIP), figure 3; moved ones as hard negatives: Korbar et al. 2018, section 3.
    """
    logits = scale * seen @ heard.T
    moved = torch.stack([scale * (seen * heard.roll(by, 1)).sum(1) for by in shifts], 1)
    own = torch.arange(len(seen))
    ways = functional.cross_entropy(torch.cat([logits, moved], 1), own)
    return (ways + functional.cross_entropy(torch.cat([logits.T, moved], 1), own)) / 2


def recall(seen: torch.Tensor, heard: torch.Tensor, k: int = 10) -> tuple[float, float]:
    """Return the share of the clips whose own sound is among the k nearest, and of the sounds whose own clip is."""
    scores = seen @ heard.T
    own = scores.diagonal()
    ways = [(s >= own[:, None]).sum(1) for s in (scores, scores.T)]
    return float((ways[0] <= k).float().mean()), float((ways[1] <= k).float().mean())


@torch.inference_mode()
def encoded(network: TimingNetwork, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of what is seen and of what is heard in clips."""
    network.eval()
    parts = [slice(k, k + 64) for k in range(0, len(clips), 64)]
    seen = torch.cat([network.see(clips.rows[p].float(), clips.columns[p].float()) for p in parts])
    return seen, torch.cat([network.hear(clips.bands[p].float()) for p in parts])


def train(config: TrainConfig, minutes: float, resume: bool) -> TimingNetwork:
    """Train, and keep the state of the last step in `OUT`."""
    torch.manual_seed(config.seed)
    clips, held = load_clips("train", 0, config.clips), load_clips("val", 0, config.validation)
    network, scale = Trained("timing"), nn.Parameter(torch.tensor(2.5))
    network.requires_grad_(True)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), scale], lr=config.learning_rate, weight_decay=config.weight_decay
    )
    first, state = 0, OUT / "last.pt"
    if resume and state.is_file():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        scale.data, first = kept["scale"], int(kept["step"])
    began, total = time.monotonic(), 0.0
    for step in range(first, config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        share = min((step + 1) / 50, 0.5 * (1 + np.cos(np.pi * step / config.steps)))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * share
        network.train()
        rows, columns, bands = batch_of(clips, config, generator)
        shifts = (2 + torch.randperm(58, generator=generator)[: config.shifts] + 1).tolist()
        loss = loss_of(network.see(rows, columns), network.hear(bands), scale.exp().clamp(max=60), shifts)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        total += float(loss.detach())
        over = time.monotonic() - began > 60 * minutes
        if (step + 1) % 50 == 0 or over or step + 1 == config.steps:
            seen, heard = encoded(network, held)
            ways = recall(seen, heard)
            print(
                f"step {step + 1}: loss {total / (step % 50 + 1):.3f}, scale {float(scale.exp()):.1f}, validation "
                f"R@10 {100 * ways[0]:.1f} {100 * ways[1]:.1f} of {len(held)}, {time.monotonic() - began:.0f} s",
                flush=True,
            )
            total = 0.0
            OUT.mkdir(parents=True, exist_ok=True)
            parts = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**parts, "scale": scale.data, "step": step + 1}, state)
        if over:
            break
    return network


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description="Train the networks of timing on rendered clips.")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=TrainConfig.steps)
    parser.add_argument("--clips", type=int, default=TrainConfig.clips)
    parser.add_argument("--resume", action="store_true", help="go on where the last run stopped")
    parser.add_argument("--ship", action="store_true", help=f"write {WEIGHTS / 'timing.safetensors'}")
    given = parser.parse_args()
    config = TrainConfig(clips=given.clips, steps=given.steps)
    network = train(config, given.minutes, given.resume)
    about = {"backbone": "timing", "config": {"feature_dim": network.feature_dim}, "trained": asdict(config)}
    tensors = {name: tensor.half() for name, tensor in network.state_dict().items()}
    for path in (OUT / "timing.safetensors", *([WEIGHTS / "timing.safetensors"] if given.ship else [])):
        with replacing(path) as partial:
            save_file(tensors, partial, {"embedspace": json.dumps(about)})
            partial.chmod(0o644)


if __name__ == "__main__":
    main()
