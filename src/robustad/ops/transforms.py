"""Whole-batch transforms that make a normal image unusual: turns, swaps, holes, warps, scars.

Every transform takes images ``(N, 3, S, S)`` in [0, 1] and seeds, and gives images and masks ``(N, S, S)`` bool: what
an image becomes depends on itself and its own seed, never on the rest of the batch. Gradients pass through to pixels.

Source: COBRA, released ``transform_layers.py`` and its pseudo-anomaly settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._devices import to_device
from robustad._random import derive_seed, torch_generator
from robustad.ops.colour import change_contrast, jitter_hsv, to_grey
from robustad.ops.geometry import QUARTERS, SWAPS, mirror, quarter_turns, swap_halves
from robustad.ops.noise import pixel_grid
from robustad.ops.smoothing import gaussian_smooth

Transform = Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]]
_TRIES = 21  # places that a scar is offered
_UNIT = 224  # the released sizes of scars are pixels at this image size


def _drawn(seeds: Sequence[int], count: int) -> Tensor:
    """Uniform numbers in [0, 1), ``(N, count)``, a row from each seed, in memory."""
    return torch.stack([torch.rand(count, generator=torch_generator(seed, "transform")) for seed in seeds])


def _uniform(seeds: Sequence[int], count: int, like: Tensor) -> Tensor:
    """The same numbers where the images are."""
    return to_device(_drawn(seeds, count).to(like.dtype), like.device)


def _everywhere(images: Tensor) -> Tensor:
    return torch.ones(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)


def _pick(uniform: Tensor, count: int) -> Tensor:
    """Whole numbers from 1 to ``count - 1``."""
    return 1 + (uniform * (count - 1)).long().clamp_max(count - 2)


def rotation(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """One, two or three quarter turns."""
    return quarter_turns(images, _pick(_uniform(seeds, 1, images)[:, 0], QUARTERS)), _everywhere(images)


def cutperm(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Halves swapped sideways, upright, or both."""
    return swap_halves(images, _pick(_uniform(seeds, 1, images)[:, 0], SWAPS)), _everywhere(images)


def cutout(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A black box, each side from a sixth to a quarter of the image."""
    u = _uniform(seeds, 4, images)
    rows, columns = pixel_grid((images.shape[-2], images.shape[-1]), like=images)
    height, width = (1 / 6 + u[:, :2] / 12).T[:, :, None, None]
    top, left = u[:, 2, None, None] * (1 - height), u[:, 3, None, None] * (1 - width)
    masks = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return images * ~masks[:, None], masks


def elastic(images: Tensor, seeds: Sequence[int], *, alpha: float = 200.0, sigma: float = 7.0) -> tuple[Tensor, Tensor]:
    """A smooth random warp of ``alpha`` times smoothed noise, pixels, then perhaps mirrored."""
    size = images.shape[-1]
    fields = [torch.rand(2, size, size, generator=torch_generator(seed, "elastic")) * 2 - 1 for seed in seeds]
    noise = to_device(torch.stack(fields).to(images.dtype), images.device)
    smooth = gaussian_smooth(noise.flatten(0, 1), sigma=sigma, radius=min(size - 1, math.ceil(3 * sigma)))
    shift = alpha * smooth.view(-1, 2, size, size).permute(0, 2, 3, 1) * 2 / size
    warped = F.grid_sample(images, _grid(images) + shift, padding_mode="reflection", align_corners=False)
    mirrored = _uniform(seeds, 1, images)[:, 0] < 0.5
    return mirror(warped, mirrored), _everywhere(images)


def _grid(images: Tensor) -> Tensor:
    """Where each pixel lies, as `F.grid_sample` counts: ``(1, S, S, 2)``."""
    theta = torch.eye(2, 3, dtype=images.dtype, device=images.device)[None]
    return F.affine_grid(theta, [1, *images.shape[1:]], align_corners=False)


def scar(images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """A small patch of the image itself, turned, recoloured and blurred, pasted at a place that is not background.

    Sizes are the released pixels at 224 pixels image size, in proportion to other sizes. Deviates: the mask is the
    turned patch itself (the released code's paste leaves black corners); nothing is pasted outside of the image.
    """
    drawn, size = _drawn(seeds, 16 + 2 * _TRIES), images.shape[-1]
    u = to_device(drawn.to(images.dtype), images.device)
    side = max(size, 2) / _UNIT
    width = ((7 + 33 * u[:, 0]) * side).clamp_min(2) / size  # in image sides
    height = ((10 + 30 * u[:, 1]) * side).clamp_min(2) / size
    source = torch.stack([width / 2 + u[:, 2] * (1 - width), height / 2 + u[:, 3] * (1 - height)], dim=1)
    target = _bright_place(images, u[:, 16:].view(-1, _TRIES, 2))
    angle = 2 * math.pi * u[:, 4]
    rows, columns = pixel_grid((size, size), like=images)
    x, y = columns - target[:, 0, None, None], rows - target[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    masks = (along.abs() <= width[:, None, None] / 2) & (across.abs() <= height[:, None, None] / 2)
    along = torch.where((u[:, 5] < 0.5)[:, None, None], -along, along)
    place = torch.stack([along + source[:, 0, None, None], across + source[:, 1, None, None]], dim=-1)
    patch = F.grid_sample(images, 2 * place - 1, padding_mode="border", align_corners=False)
    sigmas = (0.1 + 4.9 * drawn[:, 11]) * size / _UNIT  # not from the device, which would have to be waited for
    patch = _recoloured(patch, u[:, 6:15], sigmas.tolist())
    return torch.where(masks[:, None], patch, images), masks


def _bright_place(images: Tensor, places: Tensor) -> Tensor:
    """The first of the places ``(N, T, 2)`` around which the image is neither black nor white; else the last."""
    blurred = F.avg_pool2d(images.detach().mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
    values = F.grid_sample(blurred, 2 * places[:, :, None] - 1, align_corners=False)[:, 0, :, 0]  # (N, T)
    good = (values > 0.15) & (values < 0.8)
    good[:, -1] = True
    first = good.int().argmax(dim=1)
    return places[torch.arange(len(places), device=places.device), first]


def _recoloured(patch: Tensor, u: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Brightness, contrast and saturation times 0.2 to 1.8, hue up to 0.2 turns, sometimes grey or black; blurred."""
    factors = 0.2 + 1.6 * u[:, :3]
    patch = (patch * factors[:, 0, None, None, None]).clamp(0, 1)
    patch = change_contrast(patch, factors[:, 1])
    patch = jitter_hsv(patch, 0.4 * (u[:, 3] - 0.5), factors[:, 2], torch.ones_like(factors[:, 2]))
    patch = torch.where((u[:, 4] < 0.1)[:, None, None, None], to_grey(patch), patch)
    blurred = [
        gaussian_smooth(image, sigma=width, radius=max(1, math.ceil(2 * width)))
        for image, width in zip(patch, sigmas, strict=True)
    ]
    patch = torch.stack(blurred)
    return torch.where((u[:, 6] < 0.15)[:, None, None, None], torch.zeros_like(patch), patch)


TRANSFORMS: dict[str, Transform] = {
    "rotation": rotation,
    "cutperm": cutperm,
    "cutout": cutout,
    "elastic": elastic,
    "scar": scar,
}


def transformed(images: Tensor, weights: dict[str, float], seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Each image changed by one transform, drawn by ``weights``; ``seeds`` has one number per image."""
    names = list(weights)
    edges = torch.tensor([weights[name] for name in names], dtype=torch.float64).cumsum(0)
    draws = torch.tensor([derive_seed(seed, "kind") / 2**63 for seed in seeds], dtype=torch.float64)
    kinds = torch.bucketize(draws * edges[-1], edges[:-1], right=True)
    result, masks = images.clone(), torch.zeros_like(_everywhere(images))
    for number, name in enumerate(names):
        index = (kinds == number).nonzero()[:, 0]
        if len(index):
            part = to_device(index, images.device)
            changed, mask = TRANSFORMS[name](images[part], [seeds[i] for i in index.tolist()])
            result, masks = result.index_copy(0, part, changed), masks.index_copy(0, part, mask)
    return result, masks
