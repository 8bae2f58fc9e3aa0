"""What health checks examine: a detector, and images whose scores are known."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from robustad._random import torch_generator
from robustad.attacks import Attack, ScoreObjective
from robustad.evaluation.witness import Witness


class Patient(NamedTuple):
    """What is examined.

    Attributes:
        witness: The detector.
        images: ``(N, 3, S, S)`` in [0, 1].
        labels: ``(N,)`` bool, True = anomalous.
        clean: Scores ``(N,)`` of the images.
        epsilon: Radius at which attacks are compared.
        seed: Seed of random directions and of the black box.
    """

    witness: Witness
    images: Tensor
    labels: Tensor
    clean: Tensor
    epsilon: float
    seed: int

    def attack(self, attack: Attack, epsilon: float, count: int | None = None) -> Tensor:
        """Scores ``(count,)`` of the first images under an attack on the reported score."""
        images, labels = self.images[:count], self.labels[:count]
        generator = torch_generator(self.seed, "health")
        objective = ScoreObjective(self.witness.scores, labels)
        return self.score(attack(objective, images, epsilon=epsilon, generator=generator))

    def score(self, images: Tensor) -> Tensor:
        """Scores without a gradient."""
        with torch.no_grad():
            return self.witness(images).scores.float()

    def by_class(self, values: Tensor) -> list[Tensor]:
        """Values ``(n,)`` of the first images, normal and anomalous ones apart: one may hide the other."""
        labels = self.labels[: len(values)]
        return [values[labels == label].double() for label in (False, True) if bool((labels == label).any())]

    @property
    def spread(self) -> float:
        """Standard deviation of the clean scores, never zero."""
        return max(float(self.clean.std(correction=0)), 1e-12)
