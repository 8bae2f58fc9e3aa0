"""Corruptions: changes that nobody intends, at severities 1 to 5; deterministic for each image and seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor

from robustad._checks import check_choice, check_images
from robustad._random import torch_generator
from robustad.corruptions.imagenet_c import IMAGENET_C
from robustad.corruptions.industrial import INDUSTRIAL, Corruption

CORRUPTIONS: dict[str, Corruption] = INDUSTRIAL | IMAGENET_C
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(CORRUPTIONS),
    "industrial": tuple(INDUSTRIAL),
    "imagenet-c": tuple(IMAGENET_C),
}
"""Several corruptions by one name."""
SEVERITIES = (1, 2, 3, 4, 5)

__all__ = ["CORRUPTIONS", "GROUPS", "IMAGENET_C", "INDUSTRIAL", "SEVERITIES", "Corruption", "choose", "corrupt"]


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """Corruptions by name, with groups spelt out, each once.

    Raises:
        ValueError: If a name is neither a key of `CORRUPTIONS` nor one of `GROUPS`.
    """
    known = {name: (name,) for name in CORRUPTIONS} | GROUPS
    chosen = (part for name in names for part in known[check_choice("corruptions", name, known)])
    return tuple(dict.fromkeys(chosen))


def corrupt(images: Tensor, name: str, severity: int, *, seed: int = 0) -> Tensor:
    """Corrupted images ``(N, 3, H, W)`` in [0, 1].

    What an image becomes depends on the image, the corruption and the seed, not on its batch; at a higher severity the
    same draws are stronger, wherever as many are needed.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        name: A key of `CORRUPTIONS`.
        severity: 1 (slight) to 5 (severe).
        seed: Of all draws.

    Raises:
        ValueError: If there is no such corruption or severity.
    """
    check_images(images)
    change = CORRUPTIONS[check_choice("corruption", name, CORRUPTIONS)]
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` must be a whole number from 1 to 5, got {severity!r}")
    if len(images) == 0:
        return images.clone()
    changed = []
    for image in images.detach():
        content = zlib.crc32(image.cpu().to(torch.float32).numpy().tobytes())
        changed.append(change(image, severity / 5, torch_generator(seed, "corruption", name, content)).clamp(0, 1))
    return torch.stack(changed)
