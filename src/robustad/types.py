"""The two contracts that everything else is built on: what a prediction is, and what a detector is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


class Prediction(NamedTuple):
    """What a detector says of a batch of images.

    Attributes:
        scores: Image scores ``(N,)``, raw floats, higher = more anomalous.
        anomaly_maps: Pixel scores ``(N, H, W)``, or None for detectors that score whole images only.
    """

    scores: Tensor
    anomaly_maps: Tensor | None


@runtime_checkable
class Detector(Protocol):
    """Anything that maps images ``(N, 3, H, W)`` in [0, 1] to a `Prediction`, differentiably."""

    def __call__(self, images: Tensor, /) -> Prediction:
        """Score a batch."""
        ...


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A decision threshold and what it promises.

    Attributes:
        threshold: An image is called anomalous when its score is above this value.
        max_false_alarm_rate: Rate of false alarms on normal images that the threshold was chosen for, in (0, 1).
        num_images: Number of normal images it was computed from.
        method: Name of the rule.
    """

    threshold: float
    max_false_alarm_rate: float
    num_images: int
    method: str
