"""Several processes that train one model, as `torchrun` starts them; one process is the world of size 1.

Every process draws the same batch and takes its share of it; rows are gathered, so that the loss is that of the whole
batch, and gradients are averaged. What one process alone would have computed comes out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from embedspace.space.devices import require_device

__all__ = ["World", "join_world"]


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes:
        rank: Number of this one; the first writes files and reports.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of `count` rows; parts differ by one row at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """Join the parts of all processes.

        Args:
            rows: This process's part, as `share` divides `count` rows.
            count: Rows of all.

        Returns:
            (count, ...) rows; this process's own carry their gradient.
        """
        if self.size == 1:
            return rows
        joined: Tensor = _Gather.apply(rows, self, count)  # type: ignore[no-untyped-call]
        return joined

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by the mean over all processes."""
        if self.size == 1:
            return
        found = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in found])
        dist.all_reduce(flat)
        for grad, part in zip(found, torch.split(flat.div_(self.size), [g.numel() for g in found]), strict=True):
            grad.copy_(part.view_as(grad))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; all must ask."""
        if self.size == 1:
            return flag
        told = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told.item())

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


class _Gather(torch.autograd.Function):
    """All processes' rows; backward, each takes its own part, times the processes: averaging divides by them again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, world: World, count: int) -> Tensor:  # noqa: ANN401
        ctx.world, ctx.count = world, count
        most = -(-count // world.size)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(world.size)]
        dist.all_gather(parts, padded)
        ends = [count * (rank + 1) // world.size - count * rank // world.size for rank in range(world.size)]
        return torch.cat([part[:end] for part, end in zip(parts, ends, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        own: Tensor = gradient[ctx.world.share(ctx.count)] * ctx.world.size
        return own, None, None


@contextlib.contextmanager
def join_world(device: str = "cpu") -> Iterator[World]:
    """Join the processes that torchrun started, if it did, and leave them at the end.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps"; with several processes "cuda" is the one of this process.

    Raises:
        ArgumentError: If there is no such device.
    """
    require_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=torch.device(device))
        return
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device == "cuda" else torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, where)
    finally:
        dist.destroy_process_group()
