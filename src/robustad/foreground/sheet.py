"""One picture of many masks, to look at before training on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from robustad.files import atomic_path
from robustad.foreground._clean import Mask

_GAP = 6
_CAPTION = 14
_PAPER = (255, 255, 255)
_INK = (40, 40, 40)
_OUTLINE = (255, 64, 32)
_TINT = np.array((40.0, 90.0, 200.0))


def contact_sheet(
    thumbnails: Sequence[Image.Image],
    path: str | Path,
    *,
    captions: Sequence[str] | None = None,
    columns: int = 6,
) -> None:
    """Write a PNG grid of what `thumbnail_with_mask` made.

    Args:
        thumbnails: Small pictures.
        path: PNG file.
        captions: One line under each picture; None leaves the lines out.
        columns: Pictures in a row.

    Raises:
        ValueError: If there are no pictures, or the numbers differ.
    """
    if not thumbnails or (captions is not None and len(captions) != len(thumbnails)):
        count = "no" if captions is None else len(captions)
        raise ValueError(f"need one caption per picture or none, got {len(thumbnails)} pictures, {count} captions")
    columns = max(1, min(columns, len(thumbnails)))
    rows = -(-len(thumbnails) // columns)
    size = max(max(thumbnail.size) for thumbnail in thumbnails)
    step_x, step_y = size + _GAP, size + _GAP + (_CAPTION if captions else 0)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, thumbnail in enumerate(thumbnails):
        left, top = _GAP + index % columns * step_x, _GAP + index // columns * step_y
        offset = (size - thumbnail.width) // 2, (size - thumbnail.height) // 2
        sheet.paste(thumbnail, (left + offset[0], top + offset[1]))
        if captions is not None:
            draw.text((left, top + size + 1), captions[index][: size // 6], fill=_INK)
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def thumbnail_with_mask(image: npt.NDArray[np.uint8], mask: Mask, *, size: int = 192) -> Image.Image:
    """A thumbnail with the background tinted blue and dimmed, and the foreground outlined in red.

    Args:
        image: uint8 picture ``(H, W, 3)``.
        mask: bool ``(H, W)``.
        size: Longest side of the thumbnail, pixels.

    Raises:
        ValueError: If the shapes differ.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"mask {mask.shape} does not fit the picture {image.shape[:2]}")
    scale = size / max(mask.shape)
    small = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    pixels = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.LANCZOS), dtype=np.float64)
    # area averages keep thin parts visible that the nearest pixel would miss
    covered = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(small, Image.Resampling.BOX)
    inside = np.asarray(covered) > 127
    shown = np.where(inside[..., None], pixels, 0.45 * pixels + 0.55 * _TINT)
    edge = inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=0)
    shown[edge] = _OUTLINE
    return Image.fromarray(shown.round().clip(0, 255).astype(np.uint8))
