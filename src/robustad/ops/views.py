"""Augmented views of images, as contrastive learning uses them: jittered colours, grey, and a crop.

Source: COBRA (SimCLR's augmentation as in CSI), released ``transform_layers.py``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from robustad._devices import to_device
from robustad.ops.colour import change_contrast, jitter_hsv, to_grey
from robustad.ops.geometry import mirror, resized_crop

_TRIES = 10  # candidate boxes per image
TRAINING_CROP = (0.08, 1.0)
SCORING_CROP = (0.54, 0.54)
_RATIO = (3 / 4, 4 / 3)


def crop_boxes(
    random: np.random.RandomState, count: int, size: int, scale: tuple[float, float] = TRAINING_CROP
) -> np.ndarray:
    """Boxes ``(count, 4)`` for `resized_crop`: area within ``scale``, aspect within 3/4 to 4/3, whole pixels.

    Args:
        random: Source of numbers; candidates of all boxes are drawn together, in the released order.
        count: Number of boxes.
        size: Side of the images, pixels.
        scale: Smallest and largest area, in image areas.
    """
    area = random.uniform(*scale, count * _TRIES) * size * size
    aspect = np.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), count * _TRIES))
    width, height = np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    width, height = width[fits][:count], height[fits][:count]
    missing = count - len(width)  # those get the whole image
    width, height = (np.concatenate([side, np.full(missing, size)]) for side in (width, height))
    free = [(size - side).astype(np.int64) for side in (width, height)]  # pixels that a box may be moved by
    sideways, downwards = (random.randint(-room, room + 1) / size for room in free)
    return np.column_stack([width / size, height / size, sideways, downwards])


def flipped(images: Tensor, random: np.random.RandomState, *, alike: bool = False) -> Tensor:
    """Mirror each image with probability 1/2; ``alike``: all of them or none."""
    count = 1 if alike else len(images)
    mirrored = to_device(torch.from_numpy(random.uniform(size=count) < 0.5), images.device)
    return mirror(images, mirrored.expand(len(images)))


def _like(values: np.ndarray, images: Tensor) -> Tensor:
    return to_device(torch.from_numpy(values).to(images.dtype), images.device)


def augmented(
    images: Tensor,
    random: np.random.RandomState,
    *,
    crop: tuple[float, float] | None = TRAINING_CROP,
    jitter: float = 1.0,
    alike: bool = False,
) -> Tensor:
    """Views ``(N, 3, S, S)``: colours jittered (80 %), grey (20 %), then a crop resized to the whole.

    Args:
        images: ``(N, 3, S, S)`` in [0, 1].
        random: Source of numbers.
        crop: Smallest and largest area of the crop; None = no crop.
        jitter: How far contrast, hue, saturation and brightness go, as a share of what is published.
        alike: One draw for all images, so that a view of an image never depends on its batch.
    """
    count = 1 if alike else len(images)
    u = _like(random.uniform(size=(6, count)), images).expand(-1, len(images))
    factors = 1 + jitter * 0.8 * (u - 0.5)
    contrasted = change_contrast(images, factors[0])
    jittered = jitter_hsv(contrasted, jitter * 0.2 * (u[1] - 0.5), factors[2], factors[3])
    images = torch.where((u[4] < 0.8)[:, None, None, None], jittered, images)
    images = torch.where((u[5] < 0.2)[:, None, None, None], to_grey(images), images)
    if crop is None:
        return images
    boxes = _like(crop_boxes(random, count, images.shape[-1], crop), images)
    return resized_crop(images, boxes.expand(len(images), -1), images.shape[-1])
