"""ImageNet-C, noise: every pixel and channel for itself."""

from __future__ import annotations

import torch
from torch import Tensor

from robustad.corruptions._published import level


def gaussian_noise(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Normal noise: low light."""
    scale = level(strength, (0.08, 0.12, 0.18, 0.26, 0.38))
    return image + scale * torch.randn(image.shape, generator=random).to(image)


def shot_noise(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Poisson noise: light comes in quanta."""
    photons = level(strength, (60, 25, 12, 5, 3))
    return (torch.poisson(image.clamp(0, 1).cpu() * photons, generator=random) / photons).to(image)


def impulse_noise(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Salt and pepper: values that are lost."""
    amount = level(strength, (0.03, 0.06, 0.09, 0.17, 0.27))
    lost, salt = torch.rand(2, *image.shape, generator=random).to(image)
    return torch.where(lost < amount, (salt < 0.5).to(image), image)
