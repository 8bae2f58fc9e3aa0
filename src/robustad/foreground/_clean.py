"""From a rough map of the foreground to a tidy mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.floating]

_CLOSE_SHARE = 1 / 50
_OPEN_SHARE = 1 / 100
_SMALLEST_PART = 0.1
_BORDER_SHARE = 0.03
_LARGEST_HOLE = 0.1


def tidy(mask: Mask) -> Mask:
    """Smooth the outline, drop small parts and fill small holes.

    Parts below a tenth of the largest one are dropped; holes below a tenth of what remains are filled (a highlight is
    filled, the bore of a washer is not). The result may be empty.
    """
    closing, opening = (max(1, round(min(mask.shape) * share)) for share in (_CLOSE_SHARE, _OPEN_SHARE))
    margin = closing + opening
    # padded by repetition, so that the object may touch the border without being eaten there
    padded = np.pad(mask, margin, mode="edge")
    smooth = ndimage.binary_opening(ndimage.binary_closing(padded, disk(closing)), disk(opening))
    kept = _parts(smooth[margin:-margin, margin:-margin], lambda sizes: sizes >= _SMALLEST_PART * sizes.max())
    limit = _LARGEST_HOLE * kept.sum()
    holes = ndimage.binary_fill_holes(kept) & ~kept
    return kept | _parts(holes, lambda sizes: sizes <= limit)


def _parts(mask: Mask, keep: Callable[[npt.NDArray[np.intp]], npt.NDArray[np.bool_]]) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept: Mask = np.concatenate(([False], keep(sizes)))[labels]
    return kept


def otsu(field: Field) -> tuple[float, float]:
    """Otsu's threshold, and how much of the variance it explains, 0 to 1 (0 for a constant field).

    One Gaussian heap gives 0.64, a uniform spread 0.75, two well separated heaps come near 1.
    """
    variance = float(field.var())
    if variance < 1e-9:
        return float(field.mean()), 0.0
    threshold = float(threshold_otsu(field))
    above = field > threshold
    share = float(above.mean())
    if share in (0.0, 1.0):
        return threshold, 0.0
    between = share * (1 - share) * (field[above].mean() - field[~above].mean()) ** 2
    return threshold, float(between / variance)


def border_ring(shape: tuple[int, ...]) -> Mask:
    """The outermost 3 % of an image, bool ``(H, W)``."""
    width = max(1, round(min(shape) * _BORDER_SHARE))
    border = np.ones(shape, dtype=bool)
    border[width:-width, width:-width] = False
    return border


def resize_field(field: npt.NDArray[np.floating], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Bilinear resize of ``(h, w)`` to ``shape`` (H, W)."""
    image = Image.fromarray(np.asarray(field, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
