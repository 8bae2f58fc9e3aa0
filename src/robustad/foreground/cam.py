"""Foreground by Grad-CAM: where the embedded ImageNet network looks. For busy grounds where a threshold fails."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from robustad._checks import check_at_least
from robustad.backbones.embedded import EmbeddedNet, load_embedded
from robustad.foreground._clean import Field, Mask, otsu, resize_field, tidy

_INPUT_SIZE = 320
_NUM_CLASSES = 5


class GradCAM:
    """Class activation maps of the embedded EfficientNet-Lite0 at its last convolution.

    Source: Selvaraju et al., ICCV 2017; PatchGuard (arXiv 2506.09237) takes its foreground masks from Grad-CAM.
    Differs: the classes are the five likeliest, weighted by probability, since an industrial part has no ImageNet class;
    the map is averaged over the picture and its mirror image.

    Args:
        net: The network; the embedded weights if None.
        input_size: Side of the square that the network sees, pixels; one map cell is 1/32 of an input pixel.

    Raises:
        MissingExtra: If the embedded weights are not installed.
    """

    def __init__(self, net: EmbeddedNet | None = None, *, input_size: int = _INPUT_SIZE) -> None:
        check_at_least("input_size", input_size, 64)
        self.net = (net or load_embedded()).eval()
        self.input_size = input_size

    def maps(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Field]:
        """Activation maps in [0, 1], each of the size ``(H, W)`` of its picture.

        Args:
            images: uint8 pictures ``(H, W, 3)``, of any sizes.
        """
        size = (self.input_size, self.input_size)
        squares = np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images])
        batch = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255  # (N,S,S,3) -> (N,3,S,S)
        coarse = (self._coarse(batch) + self._coarse(batch.flip(3)).flip(2)) / 2
        return [_stretch(resize_field(c.numpy(), i.shape[:2])) for c, i in zip(coarse, images, strict=True)]

    def masks(self, images: Sequence[npt.NDArray[np.uint8]], *, quantile: float | None = None) -> list[Mask]:
        """Foreground masks, never empty.

        Args:
            images: uint8 pictures ``(H, W, 3)``, of any sizes.
            quantile: Foreground is what exceeds this quantile of the map, in (0, 1); None takes Otsu's threshold.
        """
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"`quantile` must be in (0, 1), got {quantile}")
        return [_mask(field, quantile) for field in self.maps(images)]

    def _coarse(self, batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features = self.net.features(batch)
        with torch.enable_grad():  # only through the head: the gradient at the last convolution is all we need
            features.requires_grad_()
            logits = self.net.classify(features)
            top = logits.topk(_NUM_CLASSES, dim=1)
            target = (top.values * top.values.softmax(dim=1).detach()).sum()
            (gradient,) = torch.autograd.grad(target, features)
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        return (weights * features.detach()).sum(dim=1).relu()  # (N,C,h,w) -> (N,h,w)


def _stretch(field: Field) -> Field:
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-12)


def _mask(field: Field, quantile: float | None) -> Mask:
    threshold = otsu(field)[0] if quantile is None else float(np.quantile(field, quantile))
    mask = tidy(field > threshold)
    return mask if mask.any() else np.ones(field.shape, dtype=bool)


@lru_cache(maxsize=1)
def _shared() -> GradCAM:
    return GradCAM()


def foreground_mask(image: npt.NDArray[np.uint8]) -> Mask:
    """Foreground of one picture by Grad-CAM.

    Args:
        image: uint8 ``(H, W, 3)``.

    Returns:
        bool ``(H, W)``, never empty.

    Raises:
        MissingExtra: If the embedded weights are not installed.
    """
    return _shared().masks([image])[0]
