"""Foreground by Grad-CAM: where the embedded ImageNet network looks. For busy grounds where a threshold fails.

Its outline is as coarse as the network's last map (8 x 8 cells); where an object lies before a plain ground the
classical way draws a far better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from robustad.backbones.embedded import EmbeddedNet, load_embedded
from robustad.foreground._clean import Field, Mask, border_ring, otsu, resize_field, tidy

_INPUT_SIZE = 256
_CELL = 32  # pixels of the network's input per cell of the map
_WORKING_SIZE = 256
_NUM_CLASSES = 5
_MAX_BORDER = 0.5
_MIN_VARIATION = 0.3
_MIN_DEVIATION = 2.0  # grey levels


class GradCAM:
    """Class activation maps of the embedded EfficientNet-Lite0 at its last convolution.

    Source: Selvaraju et al., ICCV 2017; PatchGuard (arXiv 2506.09237) takes its foreground masks from Grad-CAM.
    Differs: the classes are the five likeliest, weighted by probability, since an industrial part has no ImageNet
    class; the map is averaged over the picture and its mirror image; the picture is extended by reflection, because
    the network's zero padding lights up the rim of plain pictures.

    Args:
        net: The network; the embedded weights if None.
        input_size: Side of the square that the network sees, pixels, a multiple of 32, at least 64.

    Raises:
        MissingExtra: If the embedded weights are not installed.
    """

    def __init__(self, net: EmbeddedNet | None = None, *, input_size: int = _INPUT_SIZE) -> None:
        if input_size < 2 * _CELL or input_size % _CELL:
            raise ValueError(f"`input_size` must be a multiple of {_CELL}, at least {2 * _CELL}, got {input_size}")
        self.net = (net or load_embedded(folded=True)).eval()
        self.input_size = input_size

    def maps(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Field]:
        """Activation maps in [0, 1], each of the size ``(H, W)`` of its picture.

        Args:
            images: uint8 pictures ``(H, W, 3)``, of any sizes.
        """
        shapes = [(image.shape[0], image.shape[1]) for image in images]
        return [_stretch(resize_field(c, shape)) for c, shape in zip(self._coarse(images), shapes, strict=True)]

    def masks(self, images: Sequence[npt.NDArray[np.uint8]], *, quantile: float | None = None) -> list[Mask]:
        """Foreground masks, never empty; all ones where the network looks at no one thing.

        That is so where the picture is flat, where the map is even (its deviation is below 0.3 of its mean), or where
        more than half of the image's border would be foreground.

        Args:
            images: uint8 pictures ``(H, W, 3)``, of any sizes.
            quantile: Foreground is what exceeds this quantile of the map, in (0, 1); None takes Otsu's threshold.
        """
        if quantile is not None and not 0 < quantile < 1:
            raise ValueError(f"`quantile` must be in (0, 1), got {quantile}")
        shapes = [(image.shape[0], image.shape[1]) for image in images]
        coarse = self._coarse(images)
        coarse[[image.std() < _MIN_DEVIATION for image in images]] = 0  # a flat picture: whatever fires is noise
        return [_mask(c, shape, quantile) for c, shape in zip(coarse, shapes, strict=True)]

    def _coarse(self, images: Sequence[npt.NDArray[np.uint8]]) -> Field:
        """Maps ``(N, S/32, S/32)`` before any resizing."""
        if not images:
            return np.zeros((0, 1, 1))
        size = (self.input_size, self.input_size)
        squares = np.stack([np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BICUBIC)) for i in images])
        batch = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255  # (N,S,S,3) -> (N,3,S,S)
        batch = functional.pad(batch, (_CELL,) * 4, mode="reflect")
        both = (self._activation(batch) + self._activation(batch.flip(3)).flip(2)) / 2
        return both[:, 1:-1, 1:-1].numpy()  # the reflected cells away

    def _activation(self, batch: torch.Tensor) -> torch.Tensor:
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


def _mask(coarse: Field, shape: tuple[int, int], quantile: float | None) -> Mask:
    everything = np.ones(shape, dtype=bool)
    if coarse.std() <= _MIN_VARIATION * coarse.mean():
        return everything
    scale = min(1.0, _WORKING_SIZE / max(shape))
    field = _stretch(resize_field(coarse, (max(8, round(shape[0] * scale)), max(8, round(shape[1] * scale)))))
    threshold = otsu(field)[0] if quantile is None else float(np.quantile(field, quantile))
    small = tidy(field > threshold)
    if small[border_ring(small.shape)].mean() > _MAX_BORDER:
        return everything
    mask = resize_field(small.astype(np.float32), shape) > 0.5
    return mask if mask.any() else everything


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
