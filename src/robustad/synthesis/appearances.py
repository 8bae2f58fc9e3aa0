"""What a pseudo-anomaly looks like: another content for the region, made from the same image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustad.synthesis.draws import Draws

_GREY = 2 / 255  # channels of a monochrome camera's picture differ by no more than this
Appearance = Callable[[Tensor, Draws], Tensor]
# columns of `Draws.uniform` that appearances read: 11, 12 shift; 13 turn; 14 strength; 15 sign; 16 gain or offset;
# 17-19 colour; 20 grey or colour


def _column(draws: Draws, number: int) -> Tensor:
    return draws.uniform[:, number, None, None, None]


def strength(draws: Draws) -> Tensor:
    """Strength of a change, log-uniform from 0.06 to 0.7, ``(N, 1, 1, 1)``."""
    return 0.06 * (0.7 / 0.06) ** _column(draws, 14)


def light(images: Tensor, draws: Draws) -> Tensor:
    """Darker (70 %) or brighter, by a gain or by an offset."""
    change = strength(draws) * torch.where(_column(draws, 15) < 0.7, -1.0, 1.0)
    return torch.where(_column(draws, 16) < 0.5, images * (1 + change), images + 0.6 * change)


def moved(images: Tensor, draws: Draws) -> Tensor:
    """The image itself, shifted around its borders and possibly transposed (CutPaste)."""
    height, width = images.shape[-2:]
    rows = (draws.uniform[:, 11] * height).long()[:, None]
    columns = (draws.uniform[:, 12] * width).long()[:, None]
    y = (torch.arange(height) + rows) % height  # (N, H)
    x = (torch.arange(width) + columns) % width  # (N, W)
    batch = torch.arange(len(images))[:, None, None]
    shifted = images.permute(0, 2, 3, 1)[batch, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)
    if height != width:
        return shifted
    return torch.where(_column(draws, 13) < 0.5, shifted.transpose(2, 3), shifted)


def texture(images: Tensor, draws: Draws) -> Tensor:
    """The image with smooth noise on it."""
    return images + 0.5 * strength(draws) * draws.texture()[:, None]


def tint(images: Tensor, draws: Draws) -> Tensor:
    """Mostly one random colour, grey in 70 % of the cases, and always in grey images: colour would give it away."""
    colour = draws.uniform[:, 17:20, None, None]
    is_grey = ((images.amax(1) - images.amin(1)).flatten(1).amax(1) <= _GREY)[:, None, None, None]
    colour = torch.where(is_grey | (_column(draws, 20) < 0.7), colour[:, :1], colour)
    return 0.3 * images + 0.7 * colour


APPEARANCES: dict[str, Appearance] = {"light": light, "moved": moved, "texture": texture, "tint": tint}
