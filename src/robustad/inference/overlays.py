"""Heat maps over the user's own pictures, all of a run on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustad.files import atomic_path
from robustad.inference.reading import ByteArray
from robustad.types import Calibration

SHOWN_SIZE = 768
"""Longest side of an overlay in pixels; larger pictures are shrunk to it."""
_BASELINE, _TOP = 0.5, 0.999  # quantiles of map values that are transparent, and hottest
_THRESHOLD_LEVEL = 0.6  # where on the scale the decision threshold lies


class MapScale(NamedTuple):
    """Which map values the colours stand for: the same for all pictures of a run, so that they can be compared.

    Attributes:
        low: Transparent at and below this value.
        high: Hottest at and above this value.
    """

    low: float
    high: float


class _Known(Protocol):
    """What a scale depends on, as checkpoints have it."""

    @property
    def calibration(self) -> Calibration | None: ...

    @property
    def info(self) -> dict[str, Any]: ...


def map_scale(checkpoint: _Known, maps: Sequence[NDArray[np.float32]]) -> MapScale:
    """The scale for a run.

    The checkpoint's own, if its info holds ``map_range`` (two numbers). Else the low end is the median of the first
    maps; the high end is such that a calibrated threshold lies at 60 % of the scale or, without one, the 99.9 %
    quantile of the first maps: then pictures of two runs compare only if the first run's scale is given to the second.

    Args:
        checkpoint: Where threshold and info come from.
        maps: Maps of the first batch, each ``(H, W)``, at least one.
    """
    stored = checkpoint.info.get("map_range")
    if stored is not None:
        return checked_scale(float(stored[0]), float(stored[1]))
    values = np.concatenate([np.ravel(values) for values in maps])
    low, high = (float(value) for value in np.quantile(values, (_BASELINE, _TOP)))
    if checkpoint.calibration is not None and checkpoint.calibration.threshold > low:
        high = low + (checkpoint.calibration.threshold - low) / _THRESHOLD_LEVEL
    return MapScale(low, high if high > low else low + 1.0)


def checked_scale(low: float, high: float) -> MapScale:
    """Two numbers as a scale.

    Raises:
        ValueError: If they are not finite or not in order.
    """
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"`map_range` must be two numbers, the lower one first, got {low:g} {high:g}")
    return MapScale(low, high)


def draw_overlay(shown: ByteArray, anomaly_map: NDArray[np.float32], scale: MapScale) -> ByteArray:
    """A map ``(S, S)`` stretched over the picture ``(H, W, 3)`` that it belongs to."""
    from robustad.visual import overlay  # not above: who scores without overlays need not wait for matplotlib

    height, width = shown.shape[:2]
    stretched = Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR)
    return overlay(shown, np.asarray(stretched), vmin=scale.low, vmax=scale.high)


def output_path(folder: Path, name: str, suffix: str) -> Path:
    """``folder/NAME.EXT.SUFFIX``: folders mirrored; the extension stays, so that ``a.png`` and ``a.jpg`` differ."""
    return folder / PurePosixPath(f"{name}{suffix}")


def write_png(path: Path, picture: ByteArray | bytes) -> None:
    """Write a picture, or the bytes of one, atomically; folders are made."""
    if not isinstance(picture, bytes):
        from robustad.visual import png_bytes

        picture = png_bytes(picture)
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)
