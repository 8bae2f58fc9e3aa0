"""The untrained baseline that uses the normal images: how far an image is from the nearest of them, in pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.detectors.base import AnomalyDetector, DetectorConfig
from robustad.types import Prediction

_CHUNK = 32  # images whose distances to all normal images are held at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class NearestNormalConfig(DetectorConfig):
    """Options of the nearest-neighbour baseline.

    Attributes:
        num_normals: Normal images in the memory; set when it is filled.
    """

    num_normals: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("num_normals", self.num_normals, 0)


class NearestNormal(AnomalyDetector):
    """Root mean squared difference of an image to the most similar normal image; the map is that difference.

    Nothing is learned. Moving every pixel by epsilon moves the score by at most epsilon, so this baseline is hard to
    attack wherever it is any good: a trained detector has to be better than it.
    """

    name: ClassVar[str] = "nearest"
    config_class: ClassVar[type[DetectorConfig]] = NearestNormalConfig
    config: NearestNormalConfig
    normals: Tensor

    def __init__(self, config: NearestNormalConfig) -> None:
        super().__init__(config)
        size = config.image_size
        self.register_buffer("normals", torch.zeros(config.num_normals, 3, size, size))

    def fit(self, batches: Iterable[Tensor]) -> Self:
        """Remember normal images ``(n, 3, S, S)`` in [0, 1], batch by batch.

        Raises:
            ValueError: If there is no image.
        """
        parts = list(batches)
        if not parts or sum(len(part) for part in parts) == 0:
            raise ValueError("`batches` holds no image to remember")
        self.normals = torch.cat(parts).to(self.normals)
        self.config = dataclasses.replace(self.config, num_normals=len(self.normals))
        return self

    @property
    def lacking(self) -> str:
        """See `AnomalyDetector.lacking`."""
        return "" if len(self.normals) else "knows no normal image yet; call `fit` with some"

    def complete(self, batches: Iterable[Tensor]) -> None:
        """See `AnomalyDetector.complete`."""
        self.fit(batches)

    def forward(self, images: Tensor) -> Prediction:
        """Scores and maps of images ``(N, 3, S, S)`` in [0, 1]."""
        self.normalise(images)  # checks shape and size; differences are of the pixels themselves
        if self.lacking:
            raise ValueError(f"this baseline {self.lacking}")
        with torch.no_grad():
            rows = self.normals.flatten(1).to(images)
            nearest = torch.cat([torch.cdist(part.flatten(1), rows).argmin(1) for part in torch.split(images, _CHUNK)])
        difference = images - self.normals.to(images)[nearest]
        maps = difference.square().mean(dim=1)  # (N, 3, S, S) -> (N, S, S)
        return Prediction(maps.mean(dim=(1, 2)).clamp_min(1e-12).sqrt(), maps.clamp_min(1e-12).sqrt())
