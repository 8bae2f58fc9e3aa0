"""Gaussian smoothing of maps, as separable convolutions that gradients pass through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._checks import check_at_least
from robustad._devices import to_device


def gaussian_smooth(maps: Tensor, *, sigma: float, radius: int) -> Tensor:
    """Smooth each map with a truncated, normalised Gaussian; borders mirror with the edge pixel repeated.

    Args:
        maps: Maps ``(N, H, W)``.
        sigma: Standard deviation, pixels; 0 returns the maps as they are.
        radius: Half width of the kernel, pixels (``2 * radius + 1`` taps).

    Returns:
        Maps ``(N, H, W)``.

    Raises:
        ValueError: If ``sigma`` or ``radius`` is negative.
    """
    check_at_least("sigma", sigma, 0)
    check_at_least("radius", radius, 0)
    if sigma == 0:
        return maps
    if torch.is_autocast_enabled(maps.device.type):  # autocast would round maps to eight bits and make ties
        with torch.autocast(maps.device.type, enabled=False):
            return gaussian_smooth(maps, sigma=sigma, radius=radius)
    taps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = to_device((kernel / kernel.sum()).to(maps.dtype), maps.device)
    x = _pad_rows(maps, radius)[:, None]  # (N, 1, H + 2r, W)
    x = F.conv2d(x, kernel[None, None, :, None])
    x = _pad_rows(x[:, 0].transpose(1, 2), radius)[:, None]  # (N, 1, W + 2r, H)
    x = F.conv2d(x, kernel[None, None, :, None])
    return x[:, 0].transpose(1, 2)


def _pad_rows(maps: Tensor, radius: int) -> Tensor:
    """Extend rows ``(N, R, C)`` by mirroring with the edge row repeated, also where the map is smaller than that."""
    rows = maps.shape[1]
    period = 2 * rows
    index = torch.arange(-radius, rows + radius, device=maps.device) % period
    index = torch.where(index >= rows, period - 1 - index, index)
    return maps[:, index]
