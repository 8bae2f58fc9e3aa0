"""The eight published distortions of a patch, each a pure function of the patch and its drawn parameters.

A patch is a uint8 array ``(h, w, 3)``; the result is a new array of the same shape.
Source: PatchGuard (arXiv 2506.09237), released generator (rohban-lab/PatchGuard, af39835); own implementation.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, map_coordinates
from torchvision.transforms import functional

from robustad._extras import require

Patch: TypeAlias = npt.NDArray[np.uint8]
_NOISE_OCTAVES = 6
_ELASTIC_SIGMA = 3


class Jitter(NamedTuple):
    """One draw of the colour jitter.

    Attributes:
        order: Permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue.
        brightness: Factor, 1 leaves the patch as it is.
        contrast: Factor.
        saturation: Factor.
        hue: Shift in [-0.5, 0.5] turns.
    """

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float


class Line(NamedTuple):
    """A line of one pixel's width from ``start`` to ``end`` (x, y)."""

    start: tuple[int, int]
    end: tuple[int, int]
    colour: tuple[int, int, int]


class Rectangle(NamedTuple):
    """A filled rectangle; parts beyond the patch are cut."""

    x: int
    y: int
    width: int
    height: int
    colour: tuple[int, int, int]


def jitter(patch: Patch, draw: Jitter) -> Patch:
    """Change brightness, contrast, saturation and hue in the drawn order, rounding to 8 bits after each."""
    image: Any = Image.fromarray(patch)
    operations = (
        lambda x: functional.adjust_brightness(x, draw.brightness),
        lambda x: functional.adjust_contrast(x, draw.contrast),
        lambda x: functional.adjust_saturation(x, draw.saturation),
        lambda x: functional.adjust_hue(x, draw.hue),
    )
    for index in draw.order:
        image = operations[index](image)
    return np.asarray(image)


def blur(patch: Patch, radius: float) -> Patch:
    """Pillow's Gaussian blur."""
    return np.asarray(Image.fromarray(patch).filter(ImageFilter.GaussianBlur(radius)))


def jpeg(patch: Patch, quality: int) -> Patch:
    """Encode and decode as JPEG of ``quality`` 1 to 100."""
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def elastic(patch: Patch, alpha: float, rng: np.random.RandomState) -> Patch:
    """Displace pixels by two smoothed uniform noise fields of strength ``alpha`` (x first, then y)."""
    shape = patch.shape[:2]
    shift_x, shift_y = (
        gaussian_filter(rng.rand(*shape) * 2 - 1, _ELASTIC_SIGMA, mode="reflect") * alpha for _ in range(2)
    )
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    at = (rows + shift_y, columns + shift_x)
    warped = [map_coordinates(patch[..., c].astype(np.float64), at, order=1, mode="reflect") for c in range(3)]
    return np.rint(np.stack(warped, axis=-1)).clip(0, 255).astype(np.uint8)


def swirl(patch: Patch, strength: float) -> Patch:
    """Turn the patch about its centre by an angle that falls off with the distance; ``strength`` in radians."""
    cv2 = require("cv2", "published")
    height, width = patch.shape[:2]
    centre_x, centre_y = width // 2, height // 2
    spread = max(1, min(height, width) // 3)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    dx, dy = columns - centre_x, rows - centre_y
    angle = strength * np.exp(-(dx**2 + dy**2) / (2 * spread**2))
    cosine, sine = np.cos(angle), np.sin(angle)
    map_x = np.clip(centre_x + cosine * dx - sine * dy, 0, width - 1).astype(np.float32)
    map_y = np.clip(centre_y + sine * dx + cosine * dy, 0, height - 1).astype(np.float32)
    warped: Patch = cv2.remap(patch, map_x, map_y, interpolation=cv2.INTER_LINEAR)
    return warped


def lines(patch: Patch, draws: list[Line]) -> Patch:
    """Draw lines over the patch."""
    cv2 = require("cv2", "published")
    result = patch.copy()
    for draw in draws:
        cv2.line(result, draw.start, draw.end, draw.colour, 1)
    return result


def perlin(
    patch: Patch,
    threshold: float,
    colour: tuple[int, int, int],
    *,
    scale: float,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Patch:
    """Paint ``colour`` where Perlin noise, stretched to 0-255 over the patch, lies above ``threshold``.

    Args:
        patch: Patch ``(h, w, 3)``.
        threshold: Level in 0-255.
        colour: RGB.
        scale: Size of the noise cells, pixels.
        offset: Where in the noise field (rows, columns) the patch lies; the released code always starts at 0.
    """
    pnoise2 = require("noise", "published").pnoise2
    height, width = patch.shape[:2]
    across = [column / scale + offset[1] for column in range(width)]
    down = [row / scale + offset[0] for row in range(height)]
    field = np.array([[pnoise2(y, x, octaves=_NOISE_OCTAVES) for x in across] for y in down])
    low, high = field.min(), field.max()
    level = (field - low) / max(high - low, 1e-12) * 255
    result = patch.copy()
    result[level > threshold] = colour
    return result


def erase(patch: Patch, draws: list[Rectangle]) -> Patch:
    """Fill rectangles with their colours, in order."""
    result = patch.copy()
    for draw in draws:
        result[draw.y : draw.y + draw.height, draw.x : draw.x + draw.width] = draw.colour
    return result
