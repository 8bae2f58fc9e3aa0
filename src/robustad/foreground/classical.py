"""Foreground without any network: Otsu's threshold, the border as background, morphology.

Works where an object lies before a plain ground. Where the picture shows no such thing (a texture, a part that fills
the frame) the whole image is foreground, and `Decision` says which test failed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab

from robustad.foreground._clean import Field, Mask, border_ring, otsu, resize_field, tidy

_WORKING_SIZE = 256
_BLUR = 1.5
_BAND = 4  # pixels at working size over which an edge counts as sharp
_MIN_SEPARATION = 0.70
_MIN_BORDER = 0.80
_MIN_SHARPNESS = 0.40
_MIN_CONTRAST = 4.0  # of L*a*b*'s 100; below it is noise
_AREA = (0.005, 0.95)


class Decision(NamedTuple):
    """What `decide` found and why.

    Attributes:
        mask: Foreground, bool ``(H, W)``, never empty.
        is_object: Whether an object was told from the ground; False means that ``mask`` is all ones.
        reason: One line for people.
        separation: Share of the variance that the two classes explain, 0 to 1.
        border: Share of the image's border that belongs to the ground, 0 to 1.
        sharpness: Step across the outline relative to the difference of the classes; about 0 for soft shading.
    """

    mask: Mask
    is_object: bool
    reason: str
    separation: float = 0.0
    border: float = 0.0
    sharpness: float = 0.0


def foreground_mask(image: npt.NDArray[np.uint8]) -> Mask:
    """Foreground of a picture, all ones where no object stands out.

    Args:
        image: uint8 ``(H, W, 3)``.

    Returns:
        bool ``(H, W)``, never empty.
    """
    return decide(image).mask


def decide(image: npt.NDArray[np.uint8]) -> Decision:
    """Split a picture by Otsu's threshold and judge whether the halves are object and ground.

    Lightness and the distance from the border's median colour are tried; the one that separates better is taken. The
    ground is the class that holds most of the border, the darker or the brighter one (of the distances, always the
    smaller ones). The split must pass:

    1. contrast: the classes differ by 4 of 100 units of L*a*b*;
    2. separation: they explain 70 % of the variance (64 % is what a single Gaussian heap gives);
    3. border: the ground holds 80 % of the border (a texture or gradient shows both classes there);
    4. sharpness: 40 % of the difference is crossed within a narrow band (a vignette fails);
    5. size: 0.5 to 95 % of the image.

    Args:
        image: uint8 ``(H, W, 3)``.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"`image` must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    lab = _small_lab(image)
    ground = np.median(lab[border_ring(lab.shape[:2])], axis=0)
    candidates = (
        _judge(lab[..., 0], either_side=True),
        _judge(np.linalg.norm(lab - ground, axis=-1), either_side=False),
    )
    best = max(candidates, key=lambda found: (found.is_object, found.separation))
    if not best.is_object:
        return best._replace(mask=np.ones(image.shape[:2], dtype=bool))
    mask = resize_field(best.mask.astype(np.float32), (image.shape[0], image.shape[1])) > 0.5
    return best._replace(mask=mask if mask.any() else np.ones_like(mask))


def _small_lab(image: npt.NDArray[np.uint8]) -> Field:
    scale = min(1.0, _WORKING_SIZE / max(image.shape[:2]))
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    lab: Field = ndimage.gaussian_filter(rgb2lab(small), (_BLUR, _BLUR, 0))
    return lab


def _judge(field: Field, *, either_side: bool) -> Decision:
    """Split a field; with ``either_side`` the object may be the lower class, else it is the higher one."""
    threshold, separation = otsu(field)
    border = border_ring(field.shape)
    bright = field > threshold
    mask = ~bright if either_side and bright[border].mean() > 0.5 else bright
    share = float(1 - mask[border].mean())
    mask = tidy(mask)
    size = float(mask.mean())
    if not 0 < size < 1:
        return Decision(mask, False, "plain: nothing stands out", separation, share)
    contrast = abs(float(field[mask].mean() - field[~mask].mean()))
    sharpness = _sharpness(field, mask) / max(contrast, 1e-6)
    tests = (
        (contrast >= _MIN_CONTRAST, f"plain: contrast {contrast:.1f} of 100"),
        (separation >= _MIN_SEPARATION, f"texture: the classes explain {separation:.0%} of the variance"),
        (share >= _MIN_BORDER, f"texture or full frame: ground on {share:.0%} of the border"),
        (sharpness >= _MIN_SHARPNESS, f"shading: soft outline ({sharpness:.0%} of the step within a narrow band)"),
        (_AREA[0] <= size <= _AREA[1], f"foreground would be {size:.1%} of the image"),
    )
    failed = [reason for passed, reason in tests if not passed]
    reason = failed[0] if failed else f"object: {size:.0%} of the image"
    return Decision(mask, not failed, reason, separation, share, sharpness)


def _sharpness(field: Field, mask: Mask) -> float:
    """Difference of the means of two narrow bands along the outline, inside and outside."""
    inside = mask & ~ndimage.binary_erosion(mask, iterations=_BAND, border_value=1)
    outside = ndimage.binary_dilation(mask, iterations=_BAND) & ~mask
    if not inside.any() or not outside.any():
        return 0.0
    return abs(float(field[inside].mean() - field[outside].mean()))
