"""Where a patch is taken from, where it goes, and how large it is."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from robustad._extras import require
from robustad.synthesis.published.config import PublishedConfig

Mask = npt.NDArray[np.bool_]


class Placement(NamedTuple):
    """A source box and a destination box of the same size, pixels.

    Attributes:
        x1: Left edge of the source.
        y1: Top edge of the source.
        x2: Left edge of the destination.
        y2: Top edge of the destination.
        width: Width of both.
        height: Height of both.
        attempts: Pairs of corners tried; ``max_failures + 1`` when the fallback was taken.
    """

    x1: int
    y1: int
    x2: int
    y2: int
    width: int
    height: int
    attempts: int


def allowed_area(foreground: npt.ArrayLike, config: PublishedConfig) -> Mask:
    """The dilated foreground ``(H, W)`` on which patches may lie.

    Raises:
        ValueError: If nothing is foreground, unless ``config.empty_foreground_is_full``.
    """
    values = np.asarray(foreground)
    if values.dtype != np.bool_:
        values = values > 0.5 if config.binarise_foreground else values.astype(np.uint8) == 1
    if not values.any():
        if not config.empty_foreground_is_full:
            raise ValueError(
                "`foreground` is empty: only pixels of exactly 1 (grey 255 in a file) count; "
                "write the mask as PNG 0/255 or use PublishedGenerator.fixed"
            )
        return np.ones(values.shape, dtype=bool)
    if config.dilation == 0 or values.all():
        return values
    cv2 = require("cv2", "published")
    side = 2 * config.dilation + 1
    grown: Mask = cv2.dilate(values.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)
    return grown


def place(area: Mask, rng: random.Random, config: PublishedConfig) -> Placement:
    """Draw two boxes of one size inside ``area`` (section "geometry" of the released generator).

    Args:
        area: Allowed pixels ``(H, W)``, from `allowed_area`.
        rng: Python stream.
        config: Bounds and switches.

    Raises:
        ValueError: If the image is smaller than the smallest patch.
    """
    if min(area.shape) < config.lower:
        raise ValueError(f"`lower` must not exceed the image, got lower={config.lower} for {area.shape} pixels")
    pixels = np.flatnonzero(area)  # row-major, as the published draw indexes them
    for attempt in range(1, config.max_failures + 2):
        source, target = _corner(area, pixels, rng), _corner(area, pixels, rng)
        limits = [min(_run(a), _run(b)) for a, b in zip(_rays(area, source), _rays(area, target), strict=True)]
        width, height = _size(area, (source, target), limits, rng, config=config)
        if min(width, height) < config.lower:
            continue
        if _covered(area, source, width, height) and _covered(area, target, width, height):
            return Placement(*source, *target, width, height, attempt)
    return _fallback(area, pixels, rng, config)


def _corner(area: Mask, pixels: npt.NDArray[np.intp], rng: random.Random) -> tuple[int, int]:
    row, column = divmod(int(pixels[rng.randint(0, len(pixels) - 1)]), area.shape[1])
    return column, row


def _rays(area: Mask, corner: tuple[int, int]) -> tuple[Mask, Mask]:
    x, y = corner
    return area[y, x:], area[y:, x]


def _run(ray: Mask) -> int:
    stop = int(ray.argmin())
    return stop if not ray[stop] else ray.size


def _covered(area: Mask, corner: tuple[int, int], width: int, height: int) -> bool:
    x, y = corner
    box = area[y : y + height, x : x + width]
    return box.shape == (height, width) and bool(box.all())


def _size(
    area: Mask,
    corners: tuple[tuple[int, int], tuple[int, int]],
    limits: list[int],
    rng: random.Random,
    *,
    config: PublishedConfig,
) -> tuple[int, int]:
    """First drawn size whose box lies on the area at both corners, else the last one drawn."""
    smallest = config.lower if config.skip_small_sizes else 0
    if config.use_upper:
        limits = [min(limit, config.upper) for limit in limits]
    width = height = 0
    if min(limits) < smallest:
        return width, height
    for _ in range(config.size_draws):
        width, height = rng.randint(smallest, limits[0]), rng.randint(smallest, limits[1])
        if all(_covered(area, corner, width, height) for corner in corners):
            break
    return width, height


def _fallback(area: Mask, pixels: npt.NDArray[np.intp], rng: random.Random, config: PublishedConfig) -> Placement:
    if config.checked_fallback:
        pixels = _best_corners(area, config.lower)
    source, target = _corner(area, pixels, rng), _corner(area, pixels, rng)
    return Placement(*source, *target, config.lower, config.lower, config.max_failures + 1)


def _best_corners(area: Mask, side: int) -> npt.NDArray[np.intp]:
    """Flat indices of the corners whose ``side`` x ``side`` box lies in the image and covers most of the area."""
    total = np.pad(area.astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    covered = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    rows, columns = np.nonzero(covered == covered.max())
    return np.asarray(rows * area.shape[1] + columns, dtype=np.intp)
