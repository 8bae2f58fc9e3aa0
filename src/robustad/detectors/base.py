"""What every detector of this package is: a differentiable module with a config and pixel normalisation inside."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from robustad._checks import check_at_least, check_images
from robustad._configs import from_plain
from robustad.types import Prediction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Options that every detector has.

    Attributes:
        image_size: Side of the square input, pixels.
        mean: Per-channel mean that pixels are normalised by, in [0, 1].
        std: Per-channel standard deviation that pixels are normalised by.
    """

    image_size: int = 128
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        check_at_least("image_size", self.image_size, 1)
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(
                f"`mean` and `std` need one number per channel, `std` above 0; got mean {self.mean}, std {self.std}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a config from plain values (JSON, YAML); an unknown key is an error that lists the known ones."""
        return from_plain(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)


class AnomalyDetector(nn.Module, ABC):
    """Base of the detectors: images ``(N, 3, S, S)`` in [0, 1] to a `Prediction`.

    Differentiable end to end, deterministic in eval mode. Mean and standard deviation are buffers of the module, so
    that attacks and corruptions see pixels.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[DetectorConfig]]
    has_maps: ClassVar[bool] = True
    mean: Tensor
    std: Tensor

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def blank(cls, config: DetectorConfig) -> Self:
        """A detector of this config whose every tensor a checkpoint will fill; nothing is downloaded or read."""
        return cls(config)

    def prepare(self, images: Tensor, *, sources: Tensor | None = None, seed: int = 0) -> None:
        """Read statistics of normal images ``(M, 3, S, S)`` in [0, 1] before training; nothing by default.

        Args:
            images: Normal images.
            sources: Number of each image in the training set ``(M,)``; None = they are the training set, in order.
            seed: Seed of random choices.
        """

    def complete(self, batches: Iterable[Tensor]) -> None:
        """Take what scores need from normal images ``(n, 3, S, S)`` after training; nothing by default."""

    @property
    def lacking(self) -> str:
        """What is to be done before there are scores, in words that follow the detector's name; empty = nothing."""
        return ""

    @property
    def image_size(self) -> int:
        """Side of the square input, pixels."""
        return self.config.image_size

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] to the network's units; checks shape and size."""
        check_images(images)
        if images.shape[-2:] != (self.image_size, self.image_size):
            size = f"{self.image_size}x{self.image_size}"
            raise ValueError(f"`images` must be {size} pixels for this detector, got {tuple(images.shape[-2:])}")
        return (images - self.mean) / self.std

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Score a batch of images ``(N, 3, S, S)``."""
