"""Baselines that every claim stands beside: mean brightness, and a memory of normal patches (PatchCore-like)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._devices import device_of, to_device
from robustad._random import torch_generator
from robustad.backbones import folded_stages
from robustad.detectors._coreset import farthest_points
from robustad.detectors.base import AnomalyDetector, DetectorConfig
from robustad.ops.smoothing import gaussian_smooth
from robustad.types import Prediction

_PROJECTED = 32  # dimensions in which patches are told apart when the memory is chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class BrightnessConfig(DetectorConfig):
    """Options of the brightness baseline.

    Attributes:
        reference: Brightness that counts as normal, in [0, 1]; only used when ``two_sided``.
        two_sided: Score the distance from ``reference``; otherwise darker = more anomalous.
    """

    reference: float = 0.5
    two_sided: bool = False


class Brightness(AnomalyDetector):
    """The trivial baseline: an image is the more anomalous, the darker it is."""

    name: ClassVar[str] = "brightness"
    config_class: ClassVar[type[DetectorConfig]] = BrightnessConfig
    has_maps: ClassVar[bool] = False
    config: BrightnessConfig

    def forward(self, images: Tensor) -> Prediction:
        """Scores of images ``(N, 3, S, S)``; no maps."""
        self.normalise(images)  # checks shape and size; the score is of the pixels themselves
        brightness = images.mean(dim=(1, 2, 3))
        if self.config.two_sided:
            return Prediction((brightness - self.config.reference).abs(), None)
        return Prediction(-brightness, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchCoreConfig(DetectorConfig):
    """Options of the patch memory.

    Attributes:
        stages: Stages of the embedded EfficientNet-Lite0 whose features are joined at the first one's resolution.
        memory_size: Normal patches that are kept (random subset, then greedy farthest-point selection).
        sigma: Smoothing of the map, pixels.
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    stages: tuple[int, ...] = (3, 5)
    memory_size: int = 2000
    sigma: float = 4.0


class PatchCore(AnomalyDetector):
    """Distance of each patch to the nearest remembered normal patch, on embedded ImageNet features.

    Never attacked in training, so it shows what accuracy without robustness looks like.

    Source: Roth et al., CVPR 2022. Differs: EfficientNet-Lite0 features, no re-weighting of the image score.
    """

    name: ClassVar[str] = "patchcore"
    config_class: ClassVar[type[DetectorConfig]] = PatchCoreConfig
    config: PatchCoreConfig
    memory: Tensor

    def __init__(self, config: PatchCoreConfig, *, load_weights: bool = True) -> None:
        super().__init__(config)
        trunk = folded_stages(max(config.stages), pretrained=load_weights)
        self.trunk = trunk.stages
        channels = sum(trunk.channels[stage - 1] for stage in config.stages)
        self.register_buffer("memory", torch.zeros(config.memory_size, channels))

    @classmethod
    def blank(cls, config: DetectorConfig) -> Self:
        """A detector to be filled from a checkpoint."""
        assert isinstance(config, PatchCoreConfig)
        return cls(config, load_weights=False)

    @property
    def lacking(self) -> str:
        """See `AnomalyDetector.lacking`."""
        return "" if bool(self.memory.any()) else "remembers no normal image yet; call `fit` with some"

    def complete(self, batches: Iterable[Tensor]) -> None:
        """See `AnomalyDetector.complete`."""
        self.fit(batches)

    def patch_features(self, images: Tensor) -> Tensor:
        """Locally averaged features ``(N, C, h, w)`` at the resolution of the finest stage used."""
        x = self.normalise(images)
        collected: list[Tensor] = []
        for number, stage in enumerate(self.trunk, start=1):
            x = stage(x)
            if number in self.config.stages:
                collected.append(F.avg_pool2d(x, 3, stride=1, padding=1))
        size = collected[0].shape[-2:]
        return torch.cat([F.interpolate(f, size=size, mode="bilinear") for f in collected], dim=1)

    def fit(self, batches: Iterable[Tensor], *, generator: torch.Generator | None = None) -> Self:
        """Fill the memory from batches of normal images ``(N, 3, S, S)``.

        Args:
            batches: Images in [0, 1].
            generator: Which patches are looked at, of very many; None = always the same.

        Raises:
            ValueError: If there is no image.
        """
        with torch.no_grad():
            images = (to_device(batch, device_of(self)) for batch in batches)
            patches = [self.patch_features(batch).permute(0, 2, 3, 1).flatten(0, 2) for batch in images]
        pool = torch.cat(patches) if patches else self.memory[:0]
        if len(pool) == 0:
            raise ValueError("`batches` holds no image to remember")
        generator = generator or torch_generator(0, "memory")
        pool = pool[torch.randperm(len(pool), generator=generator)[: 10 * self.config.memory_size]]
        count = self.config.memory_size
        few = len(pool) <= count  # the memory has one size: rows come again
        rows = torch.arange(count) % len(pool) if few else farthest_points(pool, count, project_to=_PROJECTED)
        self.memory = pool[rows]
        return self

    def forward(self, images: Tensor) -> Prediction:
        """Scores (distance of the strangest patch) and maps of images ``(N, 3, S, S)``."""
        features = self.patch_features(images)
        n, _, h, w = features.shape
        flat = features.permute(0, 2, 3, 1).flatten(0, 2)  # (N, C, h, w) -> (N*h*w, C)
        distances = torch.cdist(flat, self.memory).min(dim=1).values.view(n, h, w)
        size = (self.image_size, self.image_size)
        maps = F.interpolate(distances[:, None], size=size, mode="bilinear")[:, 0]
        return Prediction(distances.flatten(1).amax(1), gaussian_smooth(maps, sigma=self.config.sigma, radius=8))
