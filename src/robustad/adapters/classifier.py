"""A detector as a classifier with two logits, for attack libraries that know nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class TwoLogits(nn.Module):
    """Logits ``(N, 2)``: normal and anomalous, of which the larger one is the decision at the threshold.

    Args:
        detector: Images ``(N, 3, S, S)`` to a `Prediction`.
        threshold: Scores above it are anomalous.
        scale: Factor of the distance to the threshold. Cross-entropy saturates where it is large: attacks of other
            libraries then see no gradient, and find less than there is.
    """

    def __init__(self, detector: Any, threshold: float, *, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"`scale` must be above 0, got {scale}")
        self.detector, self.threshold, self.scale = detector, threshold, scale

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, 2)`` of images ``(N, 3, S, S)`` in [0, 1]."""
        distance = self.scale * (self.detector(images).scores - self.threshold)
        return torch.stack([-distance, distance], dim=1)


def as_classifier(detector: Any, threshold: float, *, scale: float = 1.0) -> TwoLogits:
    """A detector for torchattacks, foolbox or ART: class 0 = normal, class 1 = anomalous; see `TwoLogits`."""
    return TwoLogits(detector, threshold, scale=scale)
