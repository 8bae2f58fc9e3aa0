"""Linear filters with kernels of any shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_MANY_TAPS = 150  # from here on the Fourier transform is faster


def filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlation of ``(C, H, W)`` with a kernel ``(h, w)`` of odd sides, made to sum to one; borders repeat."""
    weights = (kernel / kernel.sum()).to(image)
    down, right = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = F.pad(image[None], (right, right, down, down), mode="replicate")
    if kernel.numel() < _MANY_TAPS:
        return F.conv2d(padded, weights.expand(image.shape[0], 1, -1, -1), groups=image.shape[0])[0]
    size = [padded.shape[2], padded.shape[3]]
    spectrum = torch.fft.rfft2(padded[0]) * torch.fft.rfft2(weights, s=size).conj()
    whole: Tensor = torch.fft.irfft2(spectrum, s=size)
    return whole[:, : image.shape[1], : image.shape[2]]


def disk(radius: float) -> Tensor:
    """Kernel of a disk; the radius need not be whole."""
    half = max(8, math.ceil(4 * radius))
    line = torch.arange(-half, half + 1) / half
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    inside = rows**2 + columns**2 <= 1
    return _kernel(radius * rows[inside], radius * columns[inside], torch.ones(int(inside.sum())))


def trail(length: float, sigma: float, angle: float) -> Tensor:
    """Kernel of a line from the centre outwards that fades like half a Gaussian; the angle is in radians."""
    way = torch.linspace(0, length, 2 * math.ceil(length) + 1)
    return _kernel(way * math.sin(angle), way * math.cos(angle), torch.exp(-0.5 * (way / sigma) ** 2))


def _kernel(rows: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
    """Points ``(P,)`` as a kernel of odd sides: each is shared by the four pixels around it."""
    shares = []
    for places in (rows, columns):
        reach = max(1, math.ceil(float(places.abs().max())))
        shares.append((1 - (places[:, None] - torch.arange(-reach, reach + 1)).abs()).clamp_min(0))  # (P, taps)
    return (shares[0] * weights[:, None]).T @ shares[1]
