"""Smooth random fields: the raw material of irregular shapes, textures and warps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def value_noise(grids: list[Tensor], size: tuple[int, int], weights: Tensor | None = None) -> Tensor:
    """Sum of smoothly upsampled random grids (octaves of value noise), standardised per field.

    Args:
        grids: One tensor ``(N, C, g, g)`` per octave, any resolution, any distribution.
        size: Height and width of the result, pixels.
        weights: Share of each octave per image ``(N, octaves)``; halved from octave to octave when omitted.

    Returns:
        Fields ``(N, C, H, W)`` with mean 0 and standard deviation 1 over each field's pixels.
    """
    if weights is None:
        halves = [0.5**octave for octave in range(len(grids))]
        weights = torch.tensor(halves, dtype=grids[0].dtype).expand(grids[0].shape[0], -1)
    total = torch.zeros((), dtype=grids[0].dtype)
    for octave, grid in enumerate(grids):
        fine = F.interpolate(grid, size=size, mode="bicubic", align_corners=True)
        total = total + weights[:, octave, None, None, None] * fine
    centred = total - total.mean(dim=(-2, -1), keepdim=True)
    return centred / centred.std(dim=(-2, -1), keepdim=True).clamp_min(1e-6)


def pixel_grid(size: tuple[int, int], *, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pixel-centre coordinates ``(H, W)`` of rows and columns, in (0, 1) over the image; of the type of ``like``."""
    like = torch.zeros(0) if like is None else like
    rows, columns = ((torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side for side in size)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return y, x
