"""The published pseudo-anomaly generator: cut a patch, distort it, rotate it, paste it elsewhere in the same image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from robustad.synthesis.published.appearance import LEVELS, distort, draw_level
from robustad.synthesis.published.bounds import DEFAULT_BOUNDS
from robustad.synthesis.published.config import PublishedConfig
from robustad.synthesis.published.geometry import Mask, Placement, allowed_area, place
from robustad.synthesis.published.randomness import PublishedRandom
from robustad.synthesis.published.transforms import Patch

_MAX_ANGLE = 90


class Generated(NamedTuple):
    """One generated anomaly.

    Attributes:
        image: uint8 ``(H, W, 3)``.
        mask: What was pasted over, bool ``(H, W)``.
        placement: Where from, where to.
        level: Index of the severity level: 0 light, 1 medium, 2 heavy.
        change: Mean absolute change inside the mask, scale [0, 1].
    """

    image: Patch
    mask: Mask
    placement: Placement
    level: int
    change: float


class PublishedGenerator:
    """Pseudo-anomalies as the released PatchGuard code makes them, bit for bit with the defaults.

    Source: PatchGuard (CVPR 2025, arXiv 2506.09237), section on foreground-aware pseudo-anomalies; released code
    rohban-lab/PatchGuard at af39835. Differs: random streams are passed in instead of seeded globally; every known
    defect is a field of `PublishedConfig`, off in `PublishedGenerator()` and repaired in `PublishedGenerator.fixed`.
    """

    def __init__(self, config: PublishedConfig | None = None) -> None:
        self.config = config or PublishedConfig()

    @classmethod
    def fixed(cls, *, lower: int = DEFAULT_BOUNDS[0], upper: int = DEFAULT_BOUNDS[1]) -> PublishedGenerator:
        """The generator with every known defect repaired."""
        return cls(PublishedConfig.fixed(lower=lower, upper=upper))

    def __call__(
        self,
        images: npt.NDArray[np.uint8],
        foreground: npt.ArrayLike,
        rng: PublishedRandom | Sequence[PublishedRandom],
    ) -> tuple[Tensor, Tensor]:
        """Give each image one pseudo-anomaly.

        Args:
            images: uint8 ``(N, H, W, 3)``; not changed.
            foreground: ``(N, H, W)``, bool or float in [0, 1]: where the object is.
            rng: One bundle of streams, drawn from image after image (the published call order), or one per image
                (see `sample_randoms`), which makes the result independent of batches.

        Returns:
            Images float32 ``(N, 3, H, W)`` in [0, 1], and masks bool ``(N, H, W)``.

        Raises:
            ValueError: On wrong shapes, an empty foreground (published settings), or a patch larger than the image.
            MissingExtra: If OpenCV or `noise` is not installed.
        """
        areas = np.asarray(foreground)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"`images` must be uint8 (N, H, W, 3), got {images.dtype} {images.shape}")
        if areas.shape != images.shape[:3]:
            raise ValueError(f"`foreground` must be (N, H, W) = {images.shape[:3]}, got {areas.shape}")
        streams = [rng] * len(images) if isinstance(rng, PublishedRandom) else list(rng)
        if len(streams) != len(images):
            raise ValueError(f"`rng` must hold one bundle per image, got {len(streams)} for {len(images)} images")
        made, masks = images.copy(), np.zeros(areas.shape, dtype=bool)
        for index, stream in enumerate(streams):
            made[index], masks[index], *_ = self.generate(images[index], areas[index], stream)
        pixels = torch.from_numpy(made).permute(0, 3, 1, 2)  # (N,H,W,3) -> (N,3,H,W)
        return pixels.contiguous().to(torch.float32).div_(255), torch.from_numpy(masks)

    def generate(self, image: Patch, foreground: npt.ArrayLike, rng: PublishedRandom) -> Generated:
        """Make one pseudo-anomaly in one image, with what is known about it.

        Args:
            image: uint8 ``(H, W, 3)``.
            foreground: ``(H, W)``, bool or float in [0, 1].
            rng: Streams.
        """
        area = allowed_area(foreground, self.config)
        best = self._draw(image, area, rng)
        for _ in range(self.config.max_redraws):
            if best.change >= self.config.min_change:
                break
            best = max(best, self._draw(image, area, rng), key=lambda made: made.change)
        return best

    def _draw(self, image: Patch, area: Mask, rng: PublishedRandom) -> Generated:
        spot = place(area, rng.python, self.config)
        level = draw_level(rng)
        patch = distort(_crop(image, spot), LEVELS[level], rng, config=self.config)
        angle = rng.python.uniform(-_MAX_ANGLE, _MAX_ANGLE)
        colours, opacity = rotate(patch, angle, squeeze=self.config.squeeze_rotation)
        made, mask = paste(image, colours, opacity > self.config.alpha_above, corner=(spot.x2, spot.y2))
        change = np.abs(made[mask].astype(np.int16) - image[mask]).mean() / 255 if mask.any() else 0.0
        return Generated(made, mask, spot, level, float(change))


def rotate(patch: Patch, angle: float, *, squeeze: bool = True) -> tuple[Patch, npt.NDArray[np.uint8]]:
    """Rotate a patch within its box.

    Args:
        patch: uint8 ``(h, w, 3)``.
        angle: Degrees, counter-clockwise.
        squeeze: Published: enlarge the canvas to hold the rotated patch, then resize that to ``(h, w)``.

    Returns:
        The colours ``(h, w, 3)`` and the opacity ``(h, w)``, 0 to 255.
    """
    height, width = patch.shape[:2]
    turned = Image.fromarray(patch).convert("RGBA").rotate(angle, expand=squeeze)
    if squeeze:
        turned = turned.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(turned)
    return pixels[..., :3], pixels[..., 3]


def paste(image: Patch, patch: Patch, mask: Mask, *, corner: tuple[int, int]) -> tuple[Patch, Mask]:
    """Copy ``patch`` where ``mask`` holds to ``corner`` (x, y) of a copy of ``image``; what lies outside is cut.

    Returns:
        The new image and the label mask ``(H, W)``.
    """
    x, y = corner
    height, width = min(patch.shape[0], image.shape[0] - y), min(patch.shape[1], image.shape[1] - x)
    label = np.zeros(image.shape[:2], dtype=bool)
    label[y : y + height, x : x + width] = mask[:height, :width]
    made = image.copy()
    made[label] = patch[:height, :width][mask[:height, :width]]
    return made, label


def _crop(image: Patch, spot: Placement) -> Patch:
    """The source box; beyond the image it is black (only the unchecked fallback reaches there)."""
    patch = np.zeros((spot.height, spot.width, 3), dtype=np.uint8)
    inside = image[spot.y1 : spot.y1 + spot.height, spot.x1 : spot.x1 + spot.width]
    patch[: inside.shape[0], : inside.shape[1]] = inside
    return patch
