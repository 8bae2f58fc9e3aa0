"""Geometric changes of whole batches: turns, swaps, flips, crops."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

QUARTERS, SWAPS = 4, 4


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Turn square images ``(N, C, S, S)`` by ``turns`` ``(N,)`` quarters, counter-clockwise."""
    result = images
    for number in range(1, QUARTERS):  # all are turned, and some taken: to pick those would make a GPU wait
        result = torch.where((turns == number)[:, None, None, None], torch.rot90(images, number, (2, 3)), result)
    return result


def swap_halves(images: Tensor, kinds: Tensor) -> Tensor:
    """Swap halves of images ``(N, C, H, W)``: kind 0 = none, 1 = left and right, 2 = top and bottom, 3 = both."""
    height, width = images.shape[-2:]
    sideways = torch.where((kinds == 1) | (kinds == 3), 1, 0)[:, None, None, None].bool()
    upright = torch.where(kinds >= 2, 1, 0)[:, None, None, None].bool()
    images = torch.where(sideways, images.roll(width // 2, 3), images)
    return torch.where(upright, images.roll(height // 2, 2), images)


def mirror(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror left and right where ``mirrored`` ``(N,)`` bool."""
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def resized_crop(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Bilinear crops, resized to the images' own size, then averaged to ``size``; outside, images mirror.

    Args:
        images: ``(N, C, H, W)``.
        boxes: ``(N, 4)``: width and height as shares of the image, then the centre's offset from the image's centre
            sideways and downwards, in half images.
        size: Side of the result, pixels.

    Source: COBRA, released ``transform_layers.py`` (RandomResizedCropLayer).
    """
    theta = boxes.new_zeros(len(boxes), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = boxes[:, 0], boxes[:, 1]
    theta[:, 0, 2], theta[:, 1, 2] = boxes[:, 2], boxes[:, 3]
    grid = F.affine_grid(theta.to(images.dtype), list(images.shape), align_corners=False)
    crops = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return F.adaptive_avg_pool2d(crops, size)
