"""What inspection lines meet: lamps that age, lenses that gather dust, belts that shake.

Every corruption takes one image ``(3, H, W)`` in [0, 1], a strength in (0, 1] and a source of random numbers, and gives
an image of the same size; `robustad.corruptions.corrupt` clips it. Lengths are shares of the image's side, so that a
severity means the same at any resolution. The strengths are ours: no standard names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad.corruptions._filters import filtered
from robustad.corruptions._jpeg import recoded
from robustad.ops.noise import pixel_grid, value_noise

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def brightness_drift(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The lamp is up to 45 % brighter or darker."""
    return image * (1 + _sign(random) * 0.45 * strength)


def colour_temperature(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The lamp is warmer or colder: red and blue move apart by up to 30 % each; a grey image gets a tint."""
    shift = _sign(random) * 0.3 * strength
    return image * image.new_tensor([1 + shift, 1.0, 1 - shift])[:, None, None]


def vignetting(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Corners are up to 70 % darker, around a centre that is a little off."""
    rows, columns = _grid(image)
    centre = 0.5 + 0.1 * (torch.rand(2, generator=random) - 0.5)
    distance = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / 0.5
    return image * (1 - 0.7 * strength * distance)


def defocus(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """A disk of confusion of up to 2.5 % of the side in radius."""
    del random
    radius = 0.025 * strength * image.shape[-1]
    reach = max(1, math.ceil(radius))
    taps = torch.arange(-reach, reach + 1, dtype=image.dtype)
    distance = (taps[:, None] ** 2 + taps[None] ** 2).sqrt()
    return filtered(image, (radius + 1 - distance).clamp(0, 1))


def belt_blur(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The part moves along the belt, sideways, by up to 8 % of the side during the exposure."""
    del random
    return filtered(image, _line(0.08 * strength * image.shape[-1], image)[None])


def sensor_noise(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Shot noise, which grows with the light, and read noise, up to 6 % of full scale."""
    shot, read = (torch.randn(image.shape, generator=random).to(image) for _ in range(2))
    return image + strength * (0.1 * image.clamp_min(0).sqrt() * shot + 0.06 * read)


def jpeg(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Encoded and decoded at a quality down to 8."""
    del random
    return recoded(image, round(70 - 62 * strength))


def dead_rows(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Up to 5 % of the sensor's rows are stuck, dark or bright."""
    height = image.shape[1]
    count = max(1, round(0.05 * strength * height))
    rows = torch.randperm(height, generator=random)[:count]
    changed = image.clone()
    changed[:, rows] = (torch.rand(count, generator=random) < 0.5).to(image)[None, :, None]
    return changed


def lens_dust(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Up to a dozen soft shadows, each up to 12 % of the side across, at half depth."""
    rows, columns = _grid(image)
    shade = torch.zeros_like(rows)
    for _ in range(max(1, round(12 * strength))):
        y, x, size, depth = torch.rand(4, generator=random).tolist()
        distance = ((rows - y) ** 2 + (columns - x) ** 2).sqrt() / (0.02 + 0.04 * size)
        shade = torch.maximum(shade, (0.25 + 0.35 * depth) * (1.5 - distance).clamp(0, 1))
    return image * (1 - shade)


def misplacement(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """The part lies up to 6 % aside, turned by up to 6 degrees, up to 6 % nearer or farther."""
    angle = _sign(random) * math.radians(6) * strength
    scale = 1 + _sign(random) * 0.06 * strength
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    shift = [2 * _sign(random) * 0.06 * strength for _ in range(2)]
    theta = torch.tensor([[*(scale * t for t in row), move] for row, move in zip(turn, shift, strict=True)])
    grid = F.affine_grid(theta[None].to(image), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="reflection", align_corners=False)[0]


def vibration(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Rows are read one after the other while the camera shakes sideways by up to 2.5 % of the side."""
    rows, columns = _grid(image)
    phase, waves = torch.rand(2, generator=random).tolist()
    shift = 0.025 * strength * torch.sin(2 * math.pi * ((3 + 5 * waves) * rows + phase))
    grid = torch.stack([2 * (columns + shift) - 1, 2 * rows - 1], dim=-1)
    return F.grid_sample(image[None], grid[None].to(image), padding_mode="reflection", align_corners=False)[0]


def uneven_light(image: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Reflections and shadows of the surroundings: a smooth field of up to 40 % at two standard deviations."""
    grids = [torch.randn(1, 1, size, size, generator=random) for size in (3, 5)]
    height, width = image.shape[1:]
    field = value_noise(grids, (max(2, height), max(2, width)))[0, :, :height, :width].to(image)
    return image * (1 + 0.2 * strength * field.clamp(-2, 2))


INDUSTRIAL: dict[str, Corruption] = {
    "brightness-drift": brightness_drift,
    "colour-temperature": colour_temperature,
    "uneven-light": uneven_light,
    "vignetting": vignetting,
    "defocus": defocus,
    "belt-blur": belt_blur,
    "sensor-noise": sensor_noise,
    "jpeg": jpeg,
    "dead-rows": dead_rows,
    "lens-dust": lens_dust,
    "misplacement": misplacement,
    "vibration": vibration,
}
"""Corruptions by name; one row each."""


def _sign(random: torch.Generator) -> int:
    return 1 if int(torch.randint(0, 2, (1,), generator=random)) else -1


def _grid(image: Tensor) -> tuple[Tensor, Tensor]:
    rows, columns = pixel_grid((image.shape[1], image.shape[2]))
    return rows.to(image), columns.to(image)


def _line(length: float, like: Tensor) -> Tensor:
    """Weights of a line of ``length + 1`` pixels, the ends in part."""
    reach = max(1, math.ceil(length / 2))
    taps = torch.arange(-reach, reach + 1, dtype=like.dtype)
    return ((length + 1) / 2 + 0.5 - taps.abs()).clamp(0, 1)
