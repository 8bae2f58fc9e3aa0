"""ImageNet-C, weather. Layers are drawn at the published 224 x 224 pixels and fitted to the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad.corruptions._filters import filtered, trail
from robustad.corruptions._frost import ice
from robustad.corruptions._plasma import plasma
from robustad.corruptions._published import SIDE, canvas_size, fitted, level
from robustad.ops.colour import to_grey


def snow(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Flakes in the wind, from two sides; the picture fades."""
    loc, scale, zoom, threshold, radius, sigma, weight = level(
        strength,
        (
            (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    )
    size = canvas_size(image)
    grain = loc + scale * torch.randn(*size, generator=random)
    part = [math.ceil(side / zoom) for side in size]
    top, left = ((side - inner) // 2 for side, inner in zip(size, part, strict=True))
    grain = grain[top : top + part[0], left : left + part[1]]
    flakes = F.interpolate(grain[None, None], size=size, mode="bilinear", align_corners=True)[0]
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    angle = math.radians(-135 + 90 * float(torch.rand(1, generator=random)))
    flakes = filtered(flakes, trail(2 * radius, sigma, angle))
    faded = weight * image + (1 - weight) * torch.maximum(image, 1.5 * to_grey(image[None])[0] + 0.5)
    return faded + fitted(flakes + flakes.rot90(2, (1, 2)), image)


def frost(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Ice on the window before the camera.

    Differs: the ice is drawn, with the range of brightness and colour of the published photographs, which are not
    shipped: it is not known who took them.
    """
    clear, frozen = level(strength, ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)))
    return clear * image + frozen * fitted(ice(canvas_size(image), random), image)


def fog(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Clouds before the camera, from coarse to fine."""
    density, decay = level(strength, ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)))
    cloud = plasma(8, decay, random)[None, :SIDE, :SIDE]
    brightest = image.max()
    return (image + density * fitted(cloud, image)) * brightest / (brightest + density)


def brightness(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """More light: the value rises, hue and saturation stay."""
    del random
    value = image.amax(0)
    raised = (value + level(strength, (0.1, 0.2, 0.3, 0.4, 0.5))).clamp(max=1)
    return torch.where(value > 0, image * (raised / value.clamp_min(1e-6)), raised)
