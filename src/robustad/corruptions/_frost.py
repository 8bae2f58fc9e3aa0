"""Ice on a window, drawn: needles that grow in patches and over each other, thicker here and thinner there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustad.corruptions._filters import filtered, trail
from robustad.ops.noise import value_noise

_DIRECTIONS, _LENGTH = 7, 20
_TINT = (0.88, 1.02, 1.10)  # as far from grey as the published photographs are, on average


def ice(size: tuple[int, int], random: torch.Generator) -> Tensor:
    """A picture of ice ``(3, H, W)``; its mean and spread vary like those of the published photographs."""
    grain = torch.randn(1, *(side + 2 * _LENGTH for side in size), generator=random).abs()
    turns = math.pi * (torch.arange(_DIRECTIONS) + torch.rand(1, generator=random)) / _DIRECTIONS
    grown = torch.cat([filtered(grain, trail(_LENGTH, 9, turn)) for turn in turns.tolist()])
    needles = _standard(grown[:, _LENGTH:-_LENGTH, _LENGTH:-_LENGTH])  # away from the borders, which repeat
    patches = value_noise([torch.randn(1, _DIRECTIONS, side, side, generator=random) for side in (7, 14)], size)[0]
    crystals = _standard((needles + patches).amax(0))
    thickness = value_noise([torch.randn(1, 1, side, side, generator=random) for side in (3, 6, 12)], size)[0, 0]
    mean, spread = torch.rand(2, generator=random).tolist()
    grey: Tensor = 0.35 + 0.5 * mean + (0.07 + 0.1 * spread) * (0.75 * crystals + 0.65 * thickness)
    return (grey * torch.tensor(_TINT)[:, None, None]).clamp(0, 1)


def _standard(fields: Tensor) -> Tensor:
    """With mean 0 and standard deviation 1 over all pixels."""
    return (fields - fields.mean()) / fields.std().clamp_min(1e-6)
