"""Makers of pseudo-anomalies with one call, whichever generator the config names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustad.synthesis import PseudoAnomalies
from robustad.training import Generator

if TYPE_CHECKING:
    from robustad.workflows.fit import FitConfig


def make_generator(config: FitConfig) -> Generator:
    """``generator(images, foreground, seeds=...) -> (anomalous images, masks)`` of a config."""
    if config.generator == "default":
        return PseudoAnomalies(config.pseudo)
    return _published(config)


def _published(config: FitConfig) -> Generator:
    from robustad.synthesis.published import PublishedConfig, PublishedGenerator, PublishedRandom, bounds_for

    lower, upper = bounds_for(
        config.data.data, config.data.category or "", config.model.image_size, published=config.model.image_size == 224
    )
    make = PublishedGenerator(PublishedConfig(lower=lower, upper=upper, empty_foreground_is_full=True))

    def generate(images: Tensor, foreground: Tensor, *, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        randoms = [PublishedRandom.from_seed(seed % 2**32) for seed in seeds]
        made, masks = make(pixels, foreground.cpu().numpy(), randoms)
        return made.to(images), masks.to(images.device)

    return generate
