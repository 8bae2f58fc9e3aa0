"""A few rows that stand for many: greedy k-centre selection, for the memories of detectors."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_points(pool: Tensor, count: int, *, project_to: int = 0) -> Tensor:
    """Numbers of ``count`` rows of ``pool (N, D)``: the first, then always the one farthest from all chosen.

    No row is farther from a chosen one than twice what the best choice of as many would allow. Deterministic.

    Args:
        pool: More rows than ``count``.
        count: Rows to choose, at least 1.
        project_to: Measure distances on a random projection to so many dimensions, for speed; 0 = on the rows.

    Source: Gonzalez, Theoretical Computer Science 1985.
    """
    if project_to:
        generator = torch.Generator().manual_seed(0)
        pool = pool @ torch.randn(pool.shape[1], project_to, generator=generator).to(pool)
    nearest = (pool - pool[0]).square().sum(1)
    chosen = [0]
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (pool - pool[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)
