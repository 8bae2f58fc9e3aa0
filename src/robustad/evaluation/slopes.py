"""Whether a gradient is the slope of what it claims to be the gradient of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MAX_FD_ERROR = 0.01
"""Largest median relative error between a gradient and finite differences."""


def slope_errors(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    gradient: Tensor,
    generator: torch.Generator,
    *,
    step: float = 1e-5,
) -> Tensor:
    """Relative errors ``(N,)`` of the slope that a gradient claims, along one random direction at each image.

    Args:
        score: Images ``(N, 3, S, S)`` to scores ``(N,)``, in float64.
        images: Where to look, float64.
        gradient: Of the scores at the images, of their shape.
        generator: Source of the directions.
        step: Length of the step to both sides.
    """
    slope, claimed = slopes(score, images, gradient, generator, step=step)
    return (slope - claimed).abs() / torch.maximum(slope.abs(), claimed.abs()).clamp_min(1e-30)


def slopes(
    score: Callable[[Tensor], Tensor], images: Tensor, gradient: Tensor, generator: torch.Generator, *, step: float
) -> tuple[Tensor, Tensor]:
    """The slope ``(N,)`` along one random direction at each image, and what the gradient claims; see `slope_errors`."""
    direction = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    direction /= direction.flatten(1).norm(dim=1)[:, None, None, None]
    with torch.no_grad():
        slope = (score(images + step * direction) - score(images - step * direction)) / (2 * step)
    return slope, (gradient * direction).flatten(1).sum(dim=1)
