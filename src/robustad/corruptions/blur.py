"""ImageNet-C, blur. Lengths were published for 224 x 224 pixels and follow the image's size."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from robustad.corruptions._filters import disk, filtered, trail
from robustad.corruptions._published import canvas_size, fitted, level, pixel_scale
from robustad.corruptions._warps import displaced, magnified
from robustad.ops.smoothing import gaussian_smooth


def defocus_blur(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """A disk of confusion: the lens is out of focus.

    Differs: the disk's edge lies between pixels where the radius is not whole; no further Gaussian softens it.
    """
    del random
    return filtered(image, disk(level(strength, (3, 4, 6, 8, 10)) * pixel_scale(image)))


def glass_blur(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Frosted glass: pixels swap places with neighbours, between two slight blurs.

    Differs: pixels move all at once instead of one after the other, by the sum of one uniform draw per published round
    and partner, and to places between pixels. The grain is a published pixel, or the image's where that is larger.
    """
    sigma, reach, rounds = level(strength, ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)))
    scale = pixel_scale(image)
    grain = canvas_size(image) if scale > 1 else (image.shape[1], image.shape[2])
    draws = torch.rand(2 * rounds, 2, *grain, generator=random)
    shifts = scale * fitted(reach * (2 * draws - 1).sum(0), image)
    taps = math.ceil(4 * sigma * scale)
    image = gaussian_smooth(image, sigma=sigma * scale, radius=taps)
    return gaussian_smooth(displaced(image, shifts), sigma=sigma * scale, radius=taps)


def motion_blur(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The camera moves, up to 45 degrees from the level."""
    radius, sigma = level(strength, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)))
    angle = math.radians(90 * float(torch.rand(1, generator=random)) - 45)
    scale = pixel_scale(image)
    return filtered(image, trail(2 * radius * scale, sigma * scale, angle))


def zoom_blur(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The camera comes closer during the exposure."""
    del random
    end, step = level(strength, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)))
    factors = np.arange(1, end, step)
    total = image.clone()
    for factor in factors:
        total += magnified(image, float(factor))
    return total / (len(factors) + 1)
