"""Plasma: a rough surface, made by halving the distance between known points again and again."""

from __future__ import annotations

import torch
from torch import Tensor


def plasma(rounds: int, decay: float, random: torch.Generator) -> Tensor:
    """A periodic surface in [0, 1] of ``2**rounds`` points a side, by the diamond-square algorithm.

    Args:
        rounds: How often the points are doubled.
        decay: The amplitude of new points falls by its square from round to round.
        random: Source of the draws.
    """
    known = torch.zeros(1, 1)
    for number in range(rounds):
        side = len(known)
        centre, top, left = (2 * torch.rand(3, side, side, generator=random) - 1) * decay ** (-2 * number)
        below, right = known.roll(-1, 0), known.roll(-1, 1)
        centre += (known + below + right + below.roll(-1, 1)) / 4
        top += (known + right + centre + centre.roll(1, 0)) / 4
        left += (known + below + centre + centre.roll(1, 1)) / 4
        pairs = torch.stack([torch.stack([known, top], -1), torch.stack([left, centre], -1)], 1)  # (side, 2, side, 2)
        known = pairs.reshape(2 * side, 2 * side)
    return (known - known.min()) / (known.max() - known.min()).clamp_min(1e-6)
