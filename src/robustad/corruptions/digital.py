"""ImageNet-C, digital: what software does to pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustad.corruptions._jpeg import recoded
from robustad.corruptions._published import SIDE, canvas_size, fitted, level, pixel_scale
from robustad.corruptions._warps import displaced
from robustad.ops.colour import change_contrast
from robustad.ops.smoothing import gaussian_smooth


def contrast(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Less contrast: every value comes closer to its channel's mean."""
    del random
    return change_contrast(image[None], image.new_tensor([level(strength, (0.4, 0.3, 0.2, 0.1, 0.05))]))[0]


def elastic_transform(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Small areas are stretched and squeezed.

    Differs: without the affine change of the first two published severities, as Michaelis et al. (2019) have it: parts
    stay where they are, and each severity changes more than the one before.
    """
    alpha = 250 * level(strength, (0.05, 0.065, 0.085, 0.1, 0.12))
    draws = 0.005 * SIDE * (2 * torch.rand(2, *canvas_size(image), generator=random) - 1)
    shifts = alpha * gaussian_smooth(draws, sigma=0.01 * SIDE, radius=round(0.03 * SIDE))
    return displaced(image, pixel_scale(image) * fitted(shifts, image))


def pixelate(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Fewer pixels, shown as squares."""
    del random
    share = level(strength, (0.6, 0.5, 0.4, 0.3, 0.25))
    height, width = image.shape[1:]
    size = (max(1, int(share * width)), max(1, int(share * height)))
    channels = [Image.fromarray(channel).resize(size, Image.Resampling.BOX) for channel in image.float().cpu().numpy()]
    squares = [np.asarray(channel.resize((width, height), Image.Resampling.NEAREST)) for channel in channels]
    return torch.from_numpy(np.stack(squares)).to(image)


def jpeg_compression(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Encoded with few bits."""
    del random
    return recoded(image, level(strength, (25, 18, 15, 10, 7)))
