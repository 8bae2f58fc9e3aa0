"""The default generator of pseudo-anomalies: whole batches as tensors, every image from its own seed.

Deviates from PatchGuard's released generator (`robustad.synthesis.published`), each for a reason: regions have the
shapes and sizes of real defects up to the whole object, not only rotated rectangles of the same image; a change is
never weaker than ``min_change``, since what an attack can undo must not be learned as anomalous; and nothing loops over
pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice, check_fraction, check_images
from robustad._random import derive_seed
from robustad.synthesis.appearances import APPEARANCES
from robustad.synthesis.draws import Draws, draw
from robustad.synthesis.shapes import SHAPES


def _default_shapes() -> dict[str, float]:
    return {"blob": 0.25, "rectangle": 0.2, "stroke": 0.25, "band": 0.15, "whole": 0.15}


def _default_appearances() -> dict[str, float]:
    return {"light": 0.45, "moved": 0.25, "texture": 0.15, "tint": 0.15}


WHOLE_FACTOR = 2.5  # augmentation alone moves a bright normal image by up to 15/255


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoAnomalyConfig:
    """Which pseudo-anomalies are made, and how often.

    Attributes:
        shapes: Weight of each shape of `SHAPES`.
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
        device = images.device  # made on the CPU: the same numbers on every machine
        images, foreground = images.cpu(), foreground.cpu()
        foreground = foreground | ~foreground.flatten(1).any(1)[:, None, None]
        masks = torch.zeros_like(foreground)
        count = torch.tensor([1 + derive_seed(seed, "regions") % self.config.max_regions for seed in seeds])
        for number in range(self.config.max_regions):
            active = (count > number).nonzero()[:, 0]
            if len(active) == 0:
                break
            region_seeds = [derive_seed(seeds[i], "region", number) for i in active.tolist()]
            changed, mask = self._one_region(images[active], foreground[active], region_seeds)
            images = images.index_copy(0, active, changed)
            masks = masks.index_copy(0, active, masks[active] | mask)
        return images.to(device), masks.to(device)

    def _one_region(self, images: Tensor, foreground: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        draws = draw(seeds, (images.shape[-2], images.shape[-1]))
        draws = dataclasses.replace(draws, half_sizes=self.config.half_sizes)
        draws = _centred(draws, foreground)
        shapes = _choose(draws.uniform[:, 9], self.config.shapes)
        alpha = _by_kind(shapes, draws, SHAPES) * foreground
        empty = alpha.flatten(1).amax(1) <= 0.5  # outside the foreground or below a pixel: take all of it instead
        alpha = torch.where(empty[:, None, None], foreground.to(alpha.dtype), alpha)
        kinds = _choose(draws.uniform[:, 21], self.config.appearances)
        kinds = [
            "light" if shape == "whole" or bare else kind
            for shape, kind, bare in zip(shapes, kinds, empty.tolist(), strict=True)
        ]
        content = _content(kinds, images, draws)
        mask = alpha > 0.5
        change = (content - images) * alpha[:, None]
        least = torch.tensor([self.config.min_change * (WHOLE_FACTOR if s == "whole" else 1) for s in shapes])
        changed = (images + change * _gain(change, mask, least)).clamp(0, 1)
        return _visible(images, changed, alpha[:, None], mask, least), mask


def _gain(change: Tensor, mask: Tensor, least: Tensor) -> Tensor:
    """Factor ``(N, 1, 1, 1)`` in [1, 6] that lifts the mean change inside the mask to ``least`` ``(N,)``."""
    mean = _mean_inside(change.abs(), mask)
    return (least / mean.clamp_min(1e-4)).clamp(1, 6)[:, None, None, None]


def _visible(images: Tensor, changed: Tensor, alpha: Tensor, mask: Tensor, least: Tensor) -> Tensor:
    """Step the light where the change came to nothing: black made darker, grey moved onto the same grey."""
    weak = _mean_inside((changed - images).abs(), mask) < 0.99 * least
    away = torch.where(_mean_inside(images, mask) < 0.5, 1.0, -1.0)
    step = (1.5 * least * away)[:, None, None, None] * alpha / alpha.clamp_min(0.5)
    return torch.where(weak[:, None, None, None], (images + step).clamp(0, 1), changed)


def _mean_inside(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the channels and pixels of ``mask``, ``(N,)``."""
    return (values.mean(1) * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def _centred(draws: Draws, foreground: Tensor) -> Draws:
    """Move the centre of each region onto a random foreground pixel (row-major list, chosen by columns 0 and 1)."""
    height, width = foreground.shape[-2:]
    flat = foreground.flatten(1)
    rank = (draws.uniform[:, 10] * flat.sum(1)).floor() + 1  # which foreground pixel, 1-based
    index = (flat.cumsum(1) < rank[:, None]).sum(1)
    uniform = draws.uniform.clone()
    jitter = draws.uniform[:, :2]  # where inside that pixel
    uniform[:, 0] = (index.div(width, rounding_mode="floor") + jitter[:, 0]) / height
    uniform[:, 1] = (index % width + jitter[:, 1]) / width
    return dataclasses.replace(draws, uniform=uniform)


def _choose(uniform: Tensor, weights: Mapping[str, float]) -> list[str]:
    names = list(weights)
    edges = torch.tensor([weights[name] for name in names], dtype=torch.float64).cumsum(0)
    index = torch.bucketize(uniform.double() * edges[-1], edges[:-1], right=True)
    return [names[i] for i in index.tolist()]


def _by_kind(kinds: Sequence[str], draws: Draws, table: Mapping[str, Callable[[Draws], Tensor]]) -> Tensor:
    """Each image's shape, computing each kind only for the images that have it."""
    result = draws.uniform.new_empty(len(draws.uniform), *draws.size)
    for kind in dict.fromkeys(kinds):
        index = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
        result[index] = table[kind](draws.select(index))
    return result


def _content(kinds: Sequence[str], images: Tensor, draws: Draws) -> Tensor:
    """Each image's new content, computing each kind only for the images that have it."""
    result = torch.empty_like(images)
    for kind in dict.fromkeys(kinds):
        index = torch.tensor([i for i, other in enumerate(kinds) if other == kind])
        result[index] = APPEARANCES[kind](images[index], draws.select(index)).clamp(0, 1)
    return result
