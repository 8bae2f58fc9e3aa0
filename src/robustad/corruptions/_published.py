"""Published parameters: tables by severity, and lengths that were chosen for images of 224 x 224 pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor
from torch.nn import functional as F

SIDE = 224
Parameter = TypeVar("Parameter")


def level(strength: float, values: Sequence[Parameter]) -> Parameter:
    """The one of five ``values`` that belongs to a strength of 1/5, 2/5, ... 1."""
    return values[round(5 * strength) - 1]


def pixel_scale(image: Tensor) -> float:
    """How many pixels of the image ``(3, H, W)`` one published pixel is."""
    return math.sqrt(image.shape[1] * image.shape[2]) / SIDE


def canvas_size(image: Tensor) -> tuple[int, int]:
    """Height and width of the image in published pixels, at least 2 each."""
    scale = pixel_scale(image)
    return max(2, round(image.shape[1] / scale)), max(2, round(image.shape[2] / scale))


def fitted(layers: Tensor, image: Tensor) -> Tensor:
    """Layers ``(C, h, w)`` of `canvas_size`, resized to ``(C, H, W)``; finer grain than a pixel is averaged."""
    size = (image.shape[1], image.shape[2])
    return F.interpolate(layers[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0].to(image)
