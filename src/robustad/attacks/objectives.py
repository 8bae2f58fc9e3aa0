"""What an attack maximises: small callables over (images, index), one value per image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice
from robustad.types import Detector, Prediction


def _away(labels: Tensor, like: Tensor) -> Tensor:
    """+1 where the score is to rise (normal images), -1 where it is to fall (anomalous ones)."""
    return torch.where(labels, -1.0, 1.0).to(like)


@dataclass(frozen=True)
class ScoreObjective:
    """Any image score, driven the wrong way: up for normal images, down for anomalous ones.

    Attributes:
        score: Maps images to scores ``(n,)``.
        labels: ``(N,)`` bool, True = anomalous.
    """

    score: Callable[[Tensor], Tensor]
    labels: Tensor

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        scores = self.score(images)
        return scores * _away(self.labels[index], scores)


@dataclass(frozen=True)
class ImageObjective:
    """The reported image score itself: the adaptive attack on detection.

    Attributes:
        detector: The detector under attack.
        labels: ``(N,)`` bool, True = anomalous.
    """

    detector: Detector
    labels: Tensor

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        return ScoreObjective(lambda x: self.detector(x).scores, self.labels)(images, index)


@dataclass(frozen=True)
class MapObjective:
    """Pixel scores against the ground truth: the adaptive attack on localization.

    The mean of the reported map over normal pixels minus its mean over anomalous ones; where an image has only one
    kind, the other mean is left out.

    Attributes:
        detector: A detector with maps.
        masks: Ground truth ``(N, H, W)``, bool.
    """

    detector: Detector
    masks: Tensor

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        maps = _maps(self.detector(images)).flatten(1)
        return _normal_minus_anomalous(maps, self.masks[index].flatten(1))


@dataclass(frozen=True)
class PublishedObjective:
    """PatchGuard's own: mean score of normal patches minus mean score of anomalous patches.

    Not a worst case for detection, which reports the highest patches; kept for comparable tables.

    Attributes:
        patch_logits: Maps images to patch logits ``(n, P)``.
        patch_masks: ``(N, P)`` bool, True = anomalous.
    Source: PatchGuard, released ``attack.py``.
    """

    patch_logits: Callable[[Tensor], Tensor]
    patch_masks: Tensor

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        return _normal_minus_anomalous(self.patch_logits(images), self.patch_masks[index])


def _normal_minus_anomalous(values: Tensor, anomalous: Tensor) -> Tensor:
    anomalous = anomalous.to(values.dtype)
    normal = 1 - anomalous
    up = (values * normal).sum(1) / normal.sum(1).clamp_min(1)
    down = (values * anomalous).sum(1) / anomalous.sum(1).clamp_min(1)
    return up - down


def _maps(prediction: Prediction) -> Tensor:
    if prediction.anomaly_maps is None:
        raise ValueError("this detector gives no anomaly maps, so its maps cannot be attacked; attack `image` instead")
    return prediction.anomaly_maps


@dataclass(frozen=True)
class RegionObjective:
    """A targeted attack on localization: hide what a region shows, or invent a defect there.

    Attributes:
        detector: A detector with maps.
        regions: ``(N, H, W)``, bool; an image without a region has the constant value 0.
        goal: ``hide``: the map is to fall inside the region; ``invent``: it is to rise there.
    """

    detector: Detector
    regions: Tensor
    goal: str

    def __post_init__(self) -> None:
        check_choice("goal", self.goal, ("hide", "invent"))

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        maps = _maps(self.detector(images)).flatten(1)
        inside = self.regions[index].flatten(1).to(maps.dtype)
        mean = (maps * inside).sum(1) / inside.sum(1).clamp_min(1)
        return -mean if self.goal == "hide" else mean


@dataclass(frozen=True)
class ExpectedObjective:
    """The mean of an objective over several draws: for detectors that draw at random, or inputs that are varied.

    Attributes:
        objective: What is averaged.
        draws: How many, at least 1.
        vary: ``vary(images, index, draw)`` gives what the objective sees in a draw; None = the images themselves.

    Source: expectation over transformation, Athalye et al., ICML 2018.
    """

    objective: Callable[[Tensor, Tensor], Tensor]
    draws: int
    vary: Callable[[Tensor, Tensor, int], Tensor] | None = None

    def __post_init__(self) -> None:
        check_at_least("draws", self.draws, 1)

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Values ``(n,)``."""
        seen = (images if self.vary is None else self.vary(images, index, draw) for draw in range(self.draws))
        return torch.stack([self.objective(x, index) for x in seen]).mean(0)
