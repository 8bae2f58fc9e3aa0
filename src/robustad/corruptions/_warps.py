"""Images seen through a lens: pixels move, nothing is added."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad.ops.noise import pixel_grid


def displaced(image: Tensor, shifts: Tensor) -> Tensor:
    """Take every pixel of ``(3, H, W)`` from elsewhere, bilinearly; outside, the image mirrors.

    Args:
        image: ``(3, H, W)``.
        shifts: How far downwards and to the right, in pixels, ``(2, H, W)``.
    """
    height, width = image.shape[1:]
    rows, columns = pixel_grid((height, width), like=image)
    down, right = shifts.to(image)
    grid = torch.stack([2 * (columns + right / width) - 1, 2 * (rows + down / height) - 1], dim=-1)
    return F.grid_sample(image[None], grid[None], padding_mode="reflection", align_corners=False)[0]


def magnified(image: Tensor, factor: float) -> Tensor:
    """The centre of ``(3, H, W)``, enlarged to the same size."""
    theta = image.new_tensor([[1 / factor, 0, 0], [0, 1 / factor, 0]])
    grid = F.affine_grid(theta[None], [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
