"""Makers of pseudo-anomalies with one call, ours and the published one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustad.synthesis import PseudoAnomalies, PseudoAnomalyConfig

Generator = Callable[..., tuple[Tensor, Tensor]]
"""``generator(images, foreground, seeds=...) -> (anomalous images, masks)``."""


def default_generator(config: PseudoAnomalyConfig) -> Generator:
    """Ours."""
    return PseudoAnomalies(config)


def published_generator(data: str | None, category: str | None, image_size: int) -> Generator:
    """The released one, with the bounds of its table for a data set; they are pixels at 224 pixels image size."""
    from robustad.synthesis.published import PublishedConfig, PublishedGenerator, PublishedRandom, bounds_for

    lower, upper = bounds_for(data or "", category or "", image_size, published=image_size == 224)
    make = PublishedGenerator(PublishedConfig(lower=lower, upper=upper, empty_foreground_is_full=True))

    def generate(images: Tensor, foreground: Tensor, *, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        randoms = [PublishedRandom.from_seed(seed % 2**32) for seed in seeds]
        made, masks = make(pixels, foreground.cpu().numpy(), randoms)
        return made.to(images), masks.to(images.device)

    return generate
