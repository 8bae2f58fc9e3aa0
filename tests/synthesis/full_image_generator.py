"""The default generator as plainly as possible: every field over the whole image, all images at once, nothing left out.

What `PseudoAnomalies` makes with much less work must be the same, pixel by pixel.
"""

from __future__ import annotations

import math

import torch

from robustad._random import derive_seed
from robustad.ops.noise import pixel_grid, value_noise
from robustad.synthesis.pseudo import WHOLE_FACTOR, PseudoAnomalyConfig

COARSE, FINE = (4, 8, 16), (3, 6, 12, 24)


def field(numbers, sides, size):
    grids = numbers.split([side * side for side in sides])
    return value_noise([g.view(1, 1, s, s) for g, s in zip(grids, sides, strict=True)], size)[0, 0]


def shape(name, u, warp, size, half_sizes):
    rows, columns = pixel_grid(size)
    x, y, angle = columns - u[1], rows - u[0], u[2] * math.pi
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    half = half_sizes[0] * (half_sizes[1] / half_sizes[0]) ** u[3]
    aspect = 3 ** (u[4] - 0.5)
    if name == "blob":
        radius = (along / (half * aspect)).square() + (across / (half / aspect)).square()
        return torch.sigmoid((1 - radius + 0.7 * warp) / 0.15)
    if name == "rectangle":
        return ((along.abs() < 0.7 * half * aspect) & (across.abs() < 0.7 * half / aspect)).float()
    if name == "stroke":
        bent = (across + 0.06 * u[7] * warp).abs()
        ends = torch.sigmoid((0.1 + 0.6 * u[6] - along.abs()) / 0.01)
        return torch.sigmoid((0.006 + 0.03 * u[5] ** 2 - bent) / 0.004) * ends
    if name == "band":
        inner, depth = across + 0.05 * u[7] * warp, 0.2 + 0.8 * u[8] - across
        return torch.sigmoid(inner / 0.01) * torch.sigmoid(depth / 0.01)
    if name == "strip":
        tilt = 0.1 * (u[5] - 0.5) * ((columns if u[2] < 0.5 else rows) - 0.5)
        inner = (y if u[2] < 0.5 else x) * (1 if u[6] < 0.5 else -1) + tilt + 0.03 * u[7] * warp
        return torch.sigmoid(inner / 0.01) * torch.sigmoid((0.1 + 0.9 * u[8] - inner) / 0.01)
    return torch.ones(size)


def appearance(name, image, u, texture):
    strength = 0.06 * (0.7 / 0.06) ** u[14]
    if name == "light":
        change = strength if u[15] >= 0.7 else -strength
        return image * (1 + change) if u[16] < 0.5 else image + 0.6 * change
    if name == "moved":
        shifts = (-int(u[11] * image.shape[1]), -int(u[12] * image.shape[2]))
        rolled = torch.roll(image, shifts, dims=(1, 2))
        return rolled.transpose(1, 2) if image.shape[1] == image.shape[2] and u[13] < 0.5 else rolled
    if name == "texture":
        return image + 0.5 * strength * texture
    grey = bool((image.amax(0) - image.amin(0)).max() <= 2 / 255) or u[20] < 0.7
    colour = u[17:18].expand(3) if grey else u[17:20]
    return 0.3 * image + 0.7 * colour[:, None, None]


def choose(uniform, weights):
    edges = torch.tensor(list(weights.values()), dtype=torch.float64).cumsum(0)
    return list(weights)[int((uniform.double() * edges[-1] >= edges[:-1]).sum())]


def one_region(image, area, seed, config):
    size = image.shape[1:]
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(32, generator=generator)
    normal = torch.randn(336 + 765, generator=generator)
    pixels = area.nonzero()
    u[:2] = (pixels[int(u[10] * len(pixels))] + u[:2]) / torch.tensor(size)
    name = choose(u[9], config.shapes)
    alpha = shape(name, u, field(normal[:336], COARSE, size), size, config.half_sizes) * area
    bare = alpha.max() <= 0.5
    alpha = area.float() if bare else alpha
    kind = "light" if bare or name == "whole" else choose(u[21], config.appearances)
    content = appearance(kind, image, u, field(normal[336:], FINE, size)).clamp(0, 1)
    mask, least = alpha > 0.5, config.min_change * (WHOLE_FACTOR if name == "whole" else 1)
    change = (content - image) * alpha
    gain = float(least / change.abs()[:, mask].mean().clamp_min(1e-4))
    changed = (image + change * min(max(gain, 1), 6)).clamp(0, 1)
    if (changed - image).abs()[:, mask].mean() < 0.99 * least:
        away = 1.5 * least * (1 if image[:, mask].mean() < 0.5 else -1)
        changed = (image + away * alpha / alpha.clamp_min(0.5)).clamp(0, 1)
    return changed, mask


def generate(images, foreground, seeds, config: PseudoAnomalyConfig):
    """Anomalous images and masks, as `PseudoAnomalies`."""
    made, masks = images.clone(), torch.zeros_like(foreground)
    for i, seed in enumerate(seeds):
        area = foreground[i] if foreground[i].any() else torch.ones_like(foreground[i])
        for number in range(1 + derive_seed(seed, "regions") % config.max_regions):
            made[i], mask = one_region(made[i], area, derive_seed(seed, "region", number), config)
            masks[i] |= mask
    return made, masks
