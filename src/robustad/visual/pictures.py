"""Pictures of what a detector sees: heat maps over images, outlines of defects, and strips that compare."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from robustad._checks import check_at_least, check_fraction

Picture = NDArray[np.uint8]

CAPTIONS = {
    "image": "image",
    "mask": "ground truth",
    "map": "anomaly map",
    "attacked_image": "attacked image",
    "attacked_map": "map under attack",
}
"""Default captions of a strip's panels, in their order."""
OUTLINE = "#19e3ff"
"""Colour of outlines: bright, and not in the colour map of the overlays."""

_PLATE, _PLATE_TEXT = (30, 37, 46), (232, 236, 241)  # captions carry their own ground: legible on any page
_GAP = 6


def overlay(image: Picture, anomaly_map: Any, *, vmin: float, vmax: float, alpha: float = 0.75) -> Picture:
    """Lay a heat map over an image; where the map is low, the image stays as it is.

    Args:
        image: ``(H, W, 3)`` uint8.
        anomaly_map: ``(H, W)``, finite, higher = more anomalous.
        vmin: Map value that is fully transparent; use the same two values for all pictures that are compared.
        vmax: Map value that has the hottest colour.
        alpha: Opacity at ``vmax``, in [0, 1].

    Returns:
        ``(H, W, 3)`` uint8.

    Raises:
        ValueError: If shapes or types differ from this, ``vmax <= vmin``, or the map is not finite.
    """
    check_fraction("alpha", alpha)
    values = _check_map(image, anomaly_map, "anomaly_map").astype(np.float64)
    if not (np.isfinite([vmin, vmax]).all() and vmax > vmin):
        raise ValueError(f"`vmax` must be above `vmin`, got vmin={vmin} and vmax={vmax}")
    if not np.isfinite(values).all():
        raise ValueError("`anomaly_map` must be finite, got NaN or infinity")
    level = np.clip((values - vmin) / (vmax - vmin), 0, 1)
    # The darkest fifth of the map is left out: black on a dark part would look like a shadow, not like heat.
    heat = matplotlib.colormaps["inferno"](0.2 + 0.75 * level)[..., :3] * 255
    opacity = alpha * (level * level * (3 - 2 * level))[..., None]  # smooth step: no visible edge where it sets in
    return np.round(image * (1 - opacity) + heat * opacity).astype(np.uint8)


def outline(image: Picture, mask: Any, *, colour: str = OUTLINE, width: int = 2) -> Picture:
    """Draw a line around each region of a mask, outside of it, so that the defect itself stays visible.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)``, bool.
        colour: Any colour name or hex code.
        width: Line width in pixels, at least 1.

    Returns:
        ``(H, W, 3)`` uint8; an empty mask leaves the image as it is.

    Raises:
        ValueError: If shapes or types differ from this.
    """
    check_at_least("width", width, 1)
    region = _check_map(image, mask, "mask").astype(bool)
    square = np.ones((3, 3), dtype=bool)
    line = ndimage.binary_dilation(region, square, iterations=width) & ~region
    # Where a region reaches the picture's edge there is no outside: the line runs along the edge, inside.
    frame = np.ones_like(region)
    frame[width:-width, width:-width] = False
    result = image.copy()
    result[line | (region & frame)] = np.round(np.array(to_rgb(colour)) * 255).astype(np.uint8)
    return result


def strip(
    image: Picture,
    *,
    mask: Any = None,
    anomaly_map: Any = None,
    attacked_image: Picture | None = None,
    attacked_map: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    captions: Mapping[str, str] | None = None,
    panel_size: int = 256,
) -> bytes:
    """One row: image, ground truth, map, attacked image, map under attack. What is missing is left out.

    Args:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` bool.
        anomaly_map: ``(H, W)``.
        attacked_image: ``(H, W, 3)`` uint8.
        attacked_map: ``(H, W)``.
        vmin: Map value that is transparent. Both None = range of the two maps given, which is fine for one strip
            alone; strips that are compared need the same values.
        vmax: Map value that is hottest.
        captions: Replaces entries of `CAPTIONS`.
        panel_size: Height of a panel in pixels.

    Returns:
        PNG bytes, with transparent gaps.

    Raises:
        ValueError: If shapes or types differ from this.
    """
    check_at_least("panel_size", panel_size, 16)
    low, high = _range([anomaly_map, attacked_map], vmin, vmax)
    behind = image if attacked_image is None else attacked_image
    panels: dict[str, Picture | None] = {
        "image": image,
        "mask": None if mask is None else outline(image, mask, width=max(1, image.shape[0] // 128)),
        "map": None if anomaly_map is None else overlay(image, anomaly_map, vmin=low, vmax=high),
        "attacked_image": attacked_image,
        "attacked_map": None if attacked_map is None else overlay(behind, attacked_map, vmin=low, vmax=high),
    }
    unmarked = {} if mask is None or np.any(mask) else {"mask": "ground truth: no defect"}
    texts = {**CAPTIONS, **unmarked, **(captions or {})}
    return _row([_panel(panel, texts[name], panel_size) for name, panel in panels.items() if panel is not None])


def png_bytes(image: Picture) -> bytes:
    """An image as PNG.

    Args:
        image: ``(H, W, 3)`` uint8.

    Returns:
        PNG bytes.
    """
    return _encode(Image.fromarray(_check_image(image)))


def _check_image(image: Picture) -> Picture:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"`image` must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return image


def _check_map(image: Picture, values: Any, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != _check_image(image).shape[:2]:
        raise ValueError(f"`{name}` must have the image's size {image.shape[:2]}, got {array.shape}")
    return array


def _range(maps: list[Any], vmin: float | None, vmax: float | None) -> tuple[float, float]:
    values = [np.asarray(values) for values in maps if values is not None]
    low = min((float(value.min()) for value in values), default=0.0) if vmin is None else vmin
    high = max((float(value.max()) for value in values), default=1.0) if vmax is None else vmax
    return low, high if high > low or (vmin, vmax) != (None, None) else low + 1.0  # constant maps show nothing


@cache
def _font(size: int) -> Any:
    # matplotlib brings a font along, so that captions look the same on every machine.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _panel(image: Picture, caption: str, size: int) -> Image.Image:
    """The image, ``size`` pixels high, on top of a plate with its caption."""
    height, width = image.shape[:2]
    width = max(1, round(size * width / height))
    smooth = Image.Resampling.LANCZOS if size < height else Image.Resampling.BICUBIC
    plate = max(18, size // 9)
    panel = Image.new("RGBA", (width, size + plate), (*_PLATE, 255))
    panel.paste(Image.fromarray(image).resize((width, size), smooth), (0, 0))
    font = _font(max(10, round(plate * 0.52)))
    while caption and font.getlength(caption) > width - 8:
        caption = caption[:-2].rstrip() + "…" if len(caption) > 2 else ""
    position = (width / 2, size + plate / 2)
    ImageDraw.Draw(panel).text(position, caption, font=font, fill=_PLATE_TEXT, anchor="mm")
    return panel


def _row(panels: list[Image.Image]) -> bytes:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    row = Image.new("RGBA", (width, max(panel.height for panel in panels)), (0, 0, 0, 0))
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + _GAP
    return _encode(row)


def _encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
