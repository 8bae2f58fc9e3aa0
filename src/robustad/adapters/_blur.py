"""anomalib's blur of anomaly maps, one axis after the other: the same to rounding, with fewer operations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOLERANCE = 1e-6
"""Largest difference, as a share of the highest value, between a kernel and the product of its two axes."""


def separate_blurs(model: nn.Module) -> int:
    """Let every Gaussian blur of a model of anomalib go along columns, then along rows; weights stay as they are.

    Returns:
        How many there are. Blurs whose kernel is no product of two axes are left alone.
    """
    found = [part for part in model.modules() if type(part).__name__ == "GaussianBlur2d" and _is_product(part)]
    for part in found:
        part.forward = partial(_blurred, part)
    return len(found)


def _axes(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """``(C, 1, h, w)`` as ``(C, 1, h, 1)`` and ``(C, 1, 1, w)``."""
    rows = kernel.sum(dim=2, keepdim=True)
    return kernel.sum(dim=3, keepdim=True), rows / rows.sum(dim=3, keepdim=True)


def _is_product(blur: Any) -> bool:
    kernel = getattr(blur, "kernel", None)
    if not isinstance(kernel, Tensor) or kernel.ndim != 4:
        return False
    column, row = _axes(kernel.double())
    return bool(torch.allclose(column * row, kernel.double(), rtol=0, atol=TOLERANCE * float(kernel.abs().max())))


def _blurred(blur: Any, images: Tensor) -> Tensor:
    column, row = _axes(blur.kernel)
    if blur.padding == "same":
        images = F.pad(images, blur.padding_shape, mode=blur.border_type)
    return F.conv2d(F.conv2d(images, column, groups=blur.channels), row, groups=blur.channels)
