"""Corruptions: changes that nobody intends, at severities 1 to 5; deterministic for each image and seed."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from robustad._checks import check_choice, check_images
from robustad._random import torch_generator
from robustad.corruptions.industrial import INDUSTRIAL, Corruption

SEVERITIES = (1, 2, 3, 4, 5)

__all__ = ["INDUSTRIAL", "SEVERITIES", "Corruption", "corrupt"]


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Corrupted images ``(N, 3, H, W)`` in [0, 1].

    What an image becomes depends on the image, the corruption and the seed, not on its batch; at a higher severity the
    same draw is stronger.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        name: A key of `INDUSTRIAL`.
        severity: 1 (slight) to 5 (severe).
        seed: Of all draws.

    Raises:
        ValueError: If there is no such corruption or severity.
    """
    check_images(images)
    change = INDUSTRIAL[check_choice("corruption", name, INDUSTRIAL)]
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` must be a whole number from 1 to 5, got {severity!r}")
    if len(images) == 0:
        return images.clone()
    changed = []
    for image in images.detach():
        content = zlib.crc32(image.cpu().to(torch.float32).numpy().tobytes())
        changed.append(change(image, severity / 5, torch_generator(seed, "corruption", name, content)).clamp(0, 1))
    return torch.stack(changed)
