"""The published pseudo-anomaly generator, written down step by step: what `pseudo_anomalies` measures against.

Image by image, transform by transform, on the whole image where the description says "the image": the foreground is
dilated ten times, its pixels are listed, free runs are walked pixel by pixel, boxes are looked through, noise is
evaluated pixel by pixel. Nothing is remembered between calls. Given the same random numbers it makes the same images as
`robustad.synthesis.published`, which is checked before anything is timed.

Source: PatchGuard (arXiv 2506.09237), generator as released at af39835; own implementation from a description of it.
What the description leaves open, which of its steps are loops in Python, follows its wording: walks and noise are,
while tests of whole boxes and image operations are calls of NumPy, OpenCV, SciPy and Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from noise import pnoise2
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor
from torchvision.transforms import functional

from robustad.synthesis.published import PublishedRandom
from robustad.synthesis.published.appearance import LEVELS, Level, draw_jitter

Array = NDArray[Any]
LARGEST_FAILURES, SIZE_DRAWS, DILATIONS = 250, 11, 10


def generate(images: Tensor, foreground: Tensor, randoms: list[PublishedRandom], lower: int) -> tuple[Tensor, Tensor]:
    """One anomaly per image.

    Args:
        images: Float32 ``(N, 3, H, W)`` in [0, 1].
        foreground: Float32 ``(N, 1, H, W)``; what is exactly 1 counts.
        randoms: Streams of each image.
        lower: Smallest side of a patch, pixels.

    Returns:
        Images ``(N, 3, H, W)`` and masks ``(N, 1, H, W)`` of 0 and 1, both float32.
    """
    made, masks = [], []
    for image, area, random in zip(images, foreground, randoms, strict=True):
        pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)  # (3,H,W) -> (H,W,3)
        changed, mask = _one(pixels, area[0].numpy(), random, lower)
        made.append(functional.to_tensor(changed))
        masks.append(functional.to_tensor(mask))
    return torch.stack(made), (torch.stack(masks) > 0).float()


def _one(pixels: Array, area: Array, random: PublishedRandom, lower: int) -> tuple[Image.Image, Image.Image]:
    allowed = cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=DILATIONS)
    x1, y1, x2, y2, width, height = _place(allowed, random, lower)
    source = Image.fromarray(pixels)
    patch = np.array(source.crop((x1, y1, x1 + width, y1 + height)))
    level = LEVELS[int(random.numpy.choice(len(LEVELS), p=[level.probability for level in LEVELS]))]
    count = random.python.randint(0, level.max_kinds)
    kinds = random.python.sample(level.kinds, count)
    kinds.insert(random.python.randint(0, count), "colour")
    for kind in kinds:
        patch = TRANSFORMS[kind](patch, level, random)
    turned = Image.fromarray(patch).convert("RGBA").rotate(random.python.uniform(-90, 90), expand=True)
    turned = turned.resize((width, height), Image.Resampling.BICUBIC)
    opacity = Image.fromarray((np.array(turned.split()[3]) > 0).astype(np.uint8) * 255)
    result, mask = source.copy(), Image.new("L", source.size)
    result.paste(turned.convert("RGB"), (x2, y2), opacity)
    mask.paste(opacity, (x2, y2))
    return result, mask


def _place(allowed: Array, random: PublishedRandom, lower: int) -> tuple[int, int, int, int, int, int]:
    """Corner (x, y) of the source, that of the destination, width and height."""
    listed = np.argwhere(allowed == 1)

    def corner() -> tuple[int, int]:
        row, column = listed[random.python.randint(0, len(listed) - 1)]
        return int(column), int(row)

    for _ in range(LARGEST_FAILURES + 1):
        first = corner()
        limits = _free_run(allowed, *first)
        second = corner()
        limits = tuple(map(min, limits, _free_run(allowed, *second)))  # type: ignore[assignment]
        width = height = 0
        for _ in range(SIZE_DRAWS):
            width, height = random.python.randint(0, limits[0]), random.python.randint(0, limits[1])
            if _fits(allowed, *first, width, height) and _fits(allowed, *second, width, height):
                break
        if min(width, height) < lower:
            continue
        if _fits(allowed, *first, width, height) and _fits(allowed, *second, width, height):
            return *first, *second, width, height
    return *corner(), *corner(), lower, lower


def _free_run(allowed: Array, x: int, y: int) -> tuple[int, int]:
    """Allowed pixels in a row, to the right and downwards, this one included."""
    height, width = allowed.shape
    right = down = 0
    while x + right < width and allowed[y, x + right] == 1:
        right += 1
    while y + down < height and allowed[y + down, x] == 1:
        down += 1
    return right, down


def _fits(allowed: Array, x: int, y: int, width: int, height: int) -> bool:
    inside = x + width <= allowed.shape[1] and y + height <= allowed.shape[0]
    return inside and bool(np.all(allowed[y : y + height, x : x + width] == 1))


def _colour(patch: Array, level: Level, random: PublishedRandom) -> Array:
    limits = [random.python.uniform(*level.colour) for _ in range(3)] + [random.python.uniform(level.hue, level.hue)]
    draw = draw_jitter((limits[0], limits[1], limits[2], limits[3]), random.torch)
    changes: list[Callable[[Any], Any]] = [
        lambda x: functional.adjust_brightness(x, draw.brightness),
        lambda x: functional.adjust_contrast(x, draw.contrast),
        lambda x: functional.adjust_saturation(x, draw.saturation),
        lambda x: functional.adjust_hue(x, draw.hue),
    ]
    image: Any = Image.fromarray(patch)
    for number in draw.order:
        image = changes[number](image)
    return np.array(image)


def _blur(patch: Array, level: Level, random: PublishedRandom) -> Array:
    return np.array(Image.fromarray(patch).filter(ImageFilter.GaussianBlur(random.python.uniform(*level.blur))))


def _elastic(patch: Array, level: Level, random: PublishedRandom) -> Array:
    alpha, again = random.python.uniform(*level.elastic), np.random.RandomState(0)
    height, width = patch.shape[:2]
    dx = gaussian_filter(again.rand(height, width) * 2 - 1, 3, mode="reflect") * alpha
    dy = gaussian_filter(again.rand(height, width) * 2 - 1, 3, mode="reflect") * alpha
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    at = (y + dy).reshape(-1), (x + dx).reshape(-1)
    channels = [
        map_coordinates(patch[..., channel].astype(np.float64), at, order=1, mode="reflect").reshape(height, width)
        for channel in range(3)
    ]
    return np.rint(np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)


def _swirl(patch: Array, level: Level, random: PublishedRandom) -> Array:
    strength = random.python.uniform(*level.swirl)
    height, width = patch.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    dx, dy = x - width // 2, y - height // 2
    angle = strength * np.exp(-(dx**2 + dy**2) / (2 * max(1, min(height, width) // 3) ** 2))
    at_x = np.clip(width // 2 + np.cos(angle) * dx - np.sin(angle) * dy, 0, width - 1)
    at_y = np.clip(height // 2 + np.sin(angle) * dx + np.cos(angle) * dy, 0, height - 1)
    return np.asarray(cv2.remap(patch, at_x.astype(np.float32), at_y.astype(np.float32), cv2.INTER_LINEAR))


def _jpeg(patch: Array, level: Level, random: PublishedRandom) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, format="JPEG", quality=random.python.randint(*level.jpeg))
    return np.array(Image.open(buffer).convert("RGB"))


def _lines(patch: Array, level: Level, random: PublishedRandom) -> Array:
    height, width = patch.shape[:2]
    result = patch.copy()
    for _ in range(random.python.randint(10, 20)):
        x0, y0, x1, y1 = (int(random.numpy.randint(0, side)) for side in (width, height, width, height))
        cv2.line(result, (x0, y0), (x1, y1), tuple(random.python.choice((0, 255)) for _ in range(3)), 1)
    return result


def _perlin(patch: Array, level: Level, random: PublishedRandom) -> Array:
    scale, threshold = random.python.uniform(5, 10), random.python.randint(128, 150)
    colour = random.numpy.randint(0, 255, size=3)
    height, width = patch.shape[:2]
    field = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            field[y, x] = pnoise2(y / scale, x / scale, octaves=6)
    field = (field - field.min()) / max(field.max() - field.min(), 1e-12) * 255
    result = patch.copy()
    result[field > threshold] = colour
    return result


def _erase(patch: Array, level: Level, random: PublishedRandom) -> Array:
    height, width = patch.shape[:2]
    result, pixels = patch.copy(), random.python.uniform(0.1, 0.2) * height * width
    for _ in range(random.python.randint(3, 5)):
        aspect = random.python.uniform(0.3, 3.3)
        tall = int((pixels / aspect) ** 0.5)
        wide = int(aspect * tall)
        x, y = random.python.randint(0, max(0, width - wide)), random.python.randint(0, max(0, height - tall))
        result[y : y + tall, x : x + wide] = random.numpy.randint(0, 255, size=3)
    return result


TRANSFORMS: dict[str, Callable[[Array, Level, PublishedRandom], Array]] = {
    "colour": _colour,
    "blur": _blur,
    "elastic": _elastic,
    "swirl": _swirl,
    "jpeg": _jpeg,
    "lines": _lines,
    "perlin": _perlin,
    "erase": _erase,
}
