"""The default generator of pseudo-anomalies: image by image, every one from its own seed.

Deviates from PatchGuard's released generator (`robustad.synthesis.published`), each for a reason: regions have the
shapes and sizes of real defects up to the whole object, not only rotated rectangles of the same image; a change is
never weaker than ``min_change``, since what an attack can undo must not be learned as anomalous.

Only the pixels of a region are computed, one image at a time: they stay in the processor's cache, where whole batches
as tensors do not.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_fraction, check_images
from robustad._random import derive_seed
from robustad.synthesis.appearances import APPEARANCES
from robustad.synthesis.draws import Floats, draw
from robustad.synthesis.regions import Region
from robustad.synthesis.shapes import SHAPES, Cover


def _default_shapes() -> dict[str, float]:
    return {"blob": 0.25, "rectangle": 0.2, "stroke": 0.25, "band": 0.15, "whole": 0.15}


def _default_appearances() -> dict[str, float]:
    return {"light": 0.45, "moved": 0.25, "texture": 0.15, "tint": 0.15}


WHOLE_FACTOR = 2.5  # augmentation alone moves a bright normal image by up to 15/255


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoAnomalyConfig:
    """Which pseudo-anomalies are made, and how often.

    Attributes:
        shapes: Weight of each shape: blob, rectangle, stroke, band, strip, whole; what is not named is not made.
        appearances: Weight of each appearance of `APPEARANCES`; the shape ``whole`` always changes the light.
        half_sizes: Half axes of blobs and rectangles, log-uniform from the first to the second, in image sides.
        max_regions: Regions per image, uniformly from 1 to this number.
        min_change: Mean absolute change inside a region, in pixel units of [0, 1], below which it is amplified; where
            that does not help (nothing to amplify, or saturated), the light is stepped instead. The shape ``whole``
            changes by `WHOLE_FACTOR` times as much: the light of normal images varies as well.
    """

    shapes: Mapping[str, float] = dataclasses.field(default_factory=_default_shapes)
    appearances: Mapping[str, float] = dataclasses.field(default_factory=_default_appearances)
    half_sizes: tuple[float, float] = (0.06, 0.5)
    max_regions: int = 1
    min_change: float = 12 / 255

    def __post_init__(self) -> None:
        for name, weights, known in (("shapes", self.shapes, SHAPES), ("appearances", self.appearances, APPEARANCES)):
            for key in weights:
                check_choice(name, key, known)
            if not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0:
                raise ValueError(
                    f"`{name}` needs at least one positive weight and no negative one, got {dict(weights)}"
                )
        smallest, largest = self.half_sizes
        if not 0 < smallest <= largest <= 1:
            raise ValueError(
                f"`half_sizes` must be two shares of the image side, rising, in (0, 1], got {self.half_sizes}"
            )
        check_at_least("max_regions", self.max_regions, 1)
        check_fraction("min_change", self.min_change)


class PseudoAnomalies:
    """Turns normal images into anomalous ones, with masks.

    Args:
        config: See `PseudoAnomalyConfig`.
    """

    def __init__(self, config: PseudoAnomalyConfig | None = None) -> None:
        self.config = config or PseudoAnomalyConfig()
        self._shapes, self._appearances = _Choice.of(self.config.shapes), _Choice.of(self.config.appearances)

    def __call__(self, images: Tensor, foreground: Tensor, *, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Anomalous images ``(N, 3, H, W)`` in [0, 1], and where they were changed, ``(N, H, W)`` bool.

        Args:
            images: Normal images ``(N, 3, H, W)`` in [0, 1].
            foreground: Where anomalies may lie, ``(N, H, W)`` bool; an image without any foreground is used whole.
            seeds: One per image; the same image, seed and config give the same result in any batch.

        Raises:
            ValueError: If the numbers of images, masks and seeds differ.
        """
        check_images(images)
        if not len(images) == len(foreground) == len(seeds):
            raise ValueError(
                f"`foreground` and `seeds` need one entry per image, got {len(images)} images, {len(foreground)} masks "
                f"and {len(seeds)} seeds"
            )
        # made on the CPU, in float32: the same numbers on every machine
        given, areas = images.detach().to("cpu", torch.float32), foreground.cpu().numpy()
        made = torch.empty(given.shape)
        masks = np.zeros(areas.shape, dtype=bool)
        for image, result, area, mask, seed in zip(given, made, areas, masks, seeds, strict=True):
            result.copy_(image)
            self._change(result.numpy().reshape(3, -1), area if area.any() else ~area, mask.reshape(-1), seed)
        return made.to(images), torch.from_numpy(masks).to(images.device)

    def _change(self, image: Floats, area: NDArray[np.bool_], mask: NDArray[np.bool_], seed: int) -> None:
        """Write regions within ``area`` ``(H, W)`` into one image ``(3, H * W)`` and into its mask ``(H * W,)``."""
        most, everywhere = self.config.max_regions, bool(area.all())
        for number in range(1 if most == 1 else 1 + derive_seed(seed, "regions") % most):
            draws = draw(derive_seed(seed, "region", number), area, self.config.half_sizes)
            shape, kind = self._shapes.name(draws.uniform[9]), self._appearances.name(draws.uniform[21])
            cover = SHAPES[shape](draws)
            if not everywhere:
                cover.alpha[~area[cover.window.slices]] = 0
            if cover.alpha.max() <= 0.5:  # outside the foreground or below a pixel: take all of it instead
                cover, kind = Cover(draws.everything, area.astype(np.float32)), "light"
            elif shape == "whole":
                kind = "light"
            region = Region.of_cover(image, draws.size, cover)
            least = self.config.min_change * (WHOLE_FACTOR if shape == "whole" else 1)
            inside = region.alpha > 0.5
            region.put(_changed(region, APPEARANCES[kind](region, draws), inside, least))
            mask[region.index] |= inside


class _Choice(NamedTuple):
    """Names, and where the shares of their weights end."""

    names: list[str]
    edges: list[float]

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> _Choice:
        return cls(list(weights), list(accumulate(weights.values())))

    def name(self, uniform: float) -> str:
        """The name whose share a uniform number falls into."""
        return self.names[bisect(self.edges, uniform * self.edges[-1], hi=len(self.edges) - 1)]


def _changed(region: Region, content: Floats, inside: NDArray[np.bool_], least: float) -> Floats:
    """Colours ``(3, K)`` of a region moved towards ``content``, by ``least`` on average over the pixels ``inside``.

    A weaker change is amplified up to six times. Where that comes to nothing, the light is stepped instead: black made
    darker, grey moved onto the same grey.

    Args:
        region: What to change.
        content: New colours ``(3, K)``, clamped here; written to.
        inside: The pixels that count ``(K,)``.
        least: Mean absolute change, in pixel units of [0, 1].
    """
    before, alpha = region.before, region.alpha
    change = np.clip(content, 0, 1, out=content)
    change -= before
    change *= alpha
    mean = _mean(np.abs(change), inside)
    if mean < least:
        change *= min(least / max(mean, 1e-4), 6.0)
    change += before
    if mean >= least:  # between two colours: nothing to clamp, nothing to check
        return change
    after = np.clip(change, 0, 1, out=change)
    if _mean(np.abs(after - before), inside) >= 0.99 * least:
        return after
    away = 1.5 * least if _mean(before, inside) < 0.5 else -1.5 * least
    return (before + away * (alpha / np.maximum(alpha, 0.5))).clip(0, 1)


def _mean(values: Floats, inside: NDArray[np.bool_]) -> float:
    """Mean of ``(3, K)`` over the channels and the pixels ``inside`` ``(K,)``, at least one."""
    return float((values.sum(axis=0) * inside).sum()) / (3 * int(np.count_nonzero(inside)))
