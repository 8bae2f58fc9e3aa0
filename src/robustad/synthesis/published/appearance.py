"""Which distortions a patch gets and how strong: the published table, and the draws in the published order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from robustad.synthesis.published import transforms
from robustad.synthesis.published.config import PublishedConfig
from robustad.synthesis.published.randomness import PublishedRandom
from robustad.synthesis.published.transforms import Jitter, Line, Patch, Rectangle

Range = tuple[float, float]


class Level(NamedTuple):
    """One severity level.

    Attributes:
        name: For people.
        probability: How often it is drawn.
        kinds: Distortions to choose from; colour jitter comes on top of them, always.
        max_kinds: Largest number of them in one patch.
        colour: Range of the limit of brightness, contrast and saturation.
        hue: Limit of the hue shift, turns.
        blur: Range of the radius, pixels.
        elastic: Range of the displacement.
        swirl: Range of the angle at the centre, radians.
        jpeg: Range of the quality, inclusive.
    """

    name: str
    probability: float
    kinds: tuple[str, ...]
    max_kinds: int
    colour: Range
    hue: float
    blur: Range
    elastic: Range
    swirl: Range
    jpeg: tuple[int, int]


_LIGHT = ("blur", "elastic", "swirl")
_MEDIUM = ("blur", "swirl", "jpeg", "elastic")
_HEAVY = ("elastic", "lines", "jpeg", "perlin", "swirl", "erase", "blur")
LEVELS = (
    Level("light", 0.2, _LIGHT, 1, (0.1, 0.1), 0.1, (0.2, 0.5), (10, 20), (0.5, 1), (30, 50)),
    Level("medium", 0.2, _MEDIUM, 2, (0.4, 0.4), 0.3, (0.8, 1.5), (20, 40), (1, 1.5), (20, 30)),
    Level("heavy", 0.6, _HEAVY, 4, (0.8, 1), 0.5, (2, 3), (40, 100), (1.5, 2), (1, 20)),
)
_LINE_COUNT = (10, 20)
_PERLIN_SCALE = (5, 10)
_PERLIN_THRESHOLD = (128, 150)
_PERLIN_PERIOD = 1024  # `noise` repeats its field after this many cells
_ERASE_AREA = (0.1, 0.2)
_ERASE_COUNT = (3, 5)
_ERASE_ASPECT = (0.3, 3.3)


def draw_level(rng: PublishedRandom) -> int:
    """Index into `LEVELS`."""
    return int(rng.numpy.choice(len(LEVELS), p=[level.probability for level in LEVELS]))


def distort(patch: Patch, level: Level, rng: PublishedRandom, *, config: PublishedConfig) -> Patch:
    """Apply colour jitter and a few other distortions of the level, in random order.

    Args:
        patch: uint8 ``(h, w, 3)``.
        level: A row of `LEVELS`.
        rng: Streams.
        config: Switches of the elastic and Perlin noise.
    """
    count = rng.python.randint(0, level.max_kinds)
    kinds = rng.python.sample(level.kinds, count)
    kinds.insert(rng.python.randint(0, count), "colour")
    for kind in kinds:
        patch = _DISTORTIONS[kind](patch, level, rng, config)
    return patch


def draw_jitter(limits: tuple[float, float, float, float], generator: torch.Generator) -> Jitter:
    """Draw what torchvision's ColorJitter with these limits would draw from a generator in this state."""
    order = torch.randperm(4, generator=generator)
    ranges = [(max(0.0, 1 - limit), 1 + limit) for limit in limits[:3]] + [(-limits[3], limits[3])]
    values = [float(torch.empty(1).uniform_(low, high, generator=generator)) for low, high in ranges]
    return Jitter(tuple(order.tolist()), *values)


def _colour(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    brightness, contrast, saturation = (rng.python.uniform(*level.colour) for _ in range(3))
    hue = rng.python.uniform(level.hue, level.hue)  # a constant, yet it advances the stream
    return transforms.jitter(patch, draw_jitter((brightness, contrast, saturation, hue), rng.torch))


def _blur(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    return transforms.blur(patch, rng.python.uniform(*level.blur))


def _elastic(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    alpha = rng.python.uniform(*level.elastic)
    noise = np.random.RandomState(config.elastic_seed) if config.reseed_elastic else rng.numpy
    return transforms.elastic(patch, alpha, noise)


def _swirl(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    return transforms.swirl(patch, rng.python.uniform(*level.swirl))


def _jpeg(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    return transforms.jpeg(patch, rng.python.randint(*level.jpeg))


def _lines(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    return transforms.lines(patch, draw_lines(patch.shape[:2], rng, count=_LINE_COUNT))


def draw_lines(shape: tuple[int, ...], rng: PublishedRandom, *, count: tuple[int, int]) -> list[Line]:
    """Draw ``count`` (inclusive range) lines between points of a patch of ``shape`` (h, w)."""
    height, width = shape
    draws = []
    for _ in range(rng.python.randint(*count)):
        x0, y0, x1, y1 = (rng.numpy.randint(0, side) for side in (width, height, width, height))
        red, green, blue = (rng.python.choice((0, 255)) for _ in range(3))
        draws.append(Line((x0, y0), (x1, y1), (red, green, blue)))
    return draws


def _perlin(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    scale = rng.python.uniform(*_PERLIN_SCALE)
    threshold = rng.python.randint(*_PERLIN_THRESHOLD)
    colour = _draw_colour(rng)
    offset = (0.0, 0.0)
    if config.perlin_offset:
        offset = (rng.python.uniform(0, _PERLIN_PERIOD), rng.python.uniform(0, _PERLIN_PERIOD))
    return transforms.perlin(patch, threshold, colour, scale=scale, offset=offset)


def _erase(patch: Patch, level: Level, rng: PublishedRandom, config: PublishedConfig) -> Patch:
    return transforms.erase(patch, draw_rectangles(patch.shape[:2], rng, area=_ERASE_AREA, count=_ERASE_COUNT))


def draw_rectangles(
    shape: tuple[int, ...], rng: PublishedRandom, *, area: Range, count: tuple[int, int]
) -> list[Rectangle]:
    """Draw rectangles of one common area, a share in the range ``area`` of a patch of ``shape`` (h, w)."""
    pixels = rng.python.uniform(*area) * shape[0] * shape[1]
    draws = []
    for _ in range(rng.python.randint(*count)):
        aspect = rng.python.uniform(*_ERASE_ASPECT)
        height = int((pixels / aspect) ** 0.5)
        width = int(aspect * height)
        x = rng.python.randint(0, max(0, shape[1] - width))
        y = rng.python.randint(0, max(0, shape[0] - height))
        draws.append(Rectangle(x, y, width, height, _draw_colour(rng)))
    return draws


def _draw_colour(rng: PublishedRandom) -> tuple[int, int, int]:
    red, green, blue = rng.numpy.randint(0, 255, size=3).tolist()
    return red, green, blue


_DISTORTIONS: dict[str, Callable[[Patch, Level, PublishedRandom, PublishedConfig], Patch]] = {
    "colour": _colour,
    "blur": _blur,
    "elastic": _elastic,
    "swirl": _swirl,
    "jpeg": _jpeg,
    "lines": _lines,
    "perlin": _perlin,
    "erase": _erase,
}
