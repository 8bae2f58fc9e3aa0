"""Colour changes that gradients pass through: HSV, contrast, grey."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)


def rgb_to_hsv(images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` in [0, 1] to hue, saturation and value, each in [0, 1]; grey has hue 0.

    The hue is the angle on the colour circle, as COBRA's released code has it; it differs by up to 1.2 degrees from the
    hexagonal one that `hsv_to_rgb` reads, also there.
    """
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    red, green, blue = images.unbind(1)
    coloured = chroma > 0  # the angle of grey is not differentiable
    one, zero = torch.ones_like(chroma), torch.zeros_like(chroma)
    across = torch.where(coloured, 3**0.5 * (green - blue), zero)
    hue = torch.atan2(across, torch.where(coloured, 2 * red - green - blue, one)) / (2 * math.pi) % 1
    saturation = chroma / torch.where(value > 0, value, one)
    return torch.stack([hue, saturation, value], dim=1)


def hsv_to_rgb(hsv: Tensor) -> Tensor:
    """Hue, saturation and value ``(N, 3, H, W)`` to images ``(N, 3, H, W)`` in [0, 1]; hue wraps around."""
    hue, saturation, value = hsv.unbind(1)
    channels = []
    for offset in (5.0, 3.0, 1.0):
        k = (offset + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def jitter_hsv(images: Tensor, shift: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Turn the hue and scale saturation and value, image by image; the results are clipped to [0, 1].

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        shift: Added to the hue ``(N,)``, in turns.
        saturation: Factors ``(N,)``.
        value: Factors ``(N,)``.
    """
    hue, s, v = rgb_to_hsv(images).unbind(1)
    hue = (hue + shift[:, None, None]) % 1
    s = (s * saturation[:, None, None]).clamp(0, 1)
    v = (v * value[:, None, None]).clamp(0, 1)
    return hsv_to_rgb(torch.stack([hue, s, v], dim=1))


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Scale ``(N,)`` the distance of pixels to their image's mean per channel; clipped to [0, 1]."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (mean + (images - mean) * factor[:, None, None, None]).clamp(0, 1)


def to_grey(images: Tensor) -> Tensor:
    """Luma in all three channels."""
    weights = images.new_tensor(_LUMA)[:, None, None]
    return (images * weights).sum(1, keepdim=True).expand_as(images)
