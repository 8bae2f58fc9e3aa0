"""What health checks examine: a detector, and images whose scores are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robustad._random import torch_generator
from robustad.attacks import Attack, ScoreObjective, value_and_grad
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
        batch_size: Images of a pass.
    """

    witness: Witness
    images: Tensor
    labels: Tensor
    clean: Tensor
    epsilon: float
    seed: int
    batch_size: int = 32

    def attack(self, attack: Attack, epsilon: float, count: int | None = None) -> Tensor:
        """Scores ``(count,)`` of the first images under an attack on the reported score."""
        generator, found = torch_generator(self.seed, "health"), list[Tensor]()
        for images, labels in self._parts(self.images[:count]):
            objective = ScoreObjective(self.witness.scores, labels)
            found.append(self.score(attack(objective, images, epsilon=epsilon, generator=generator)))
        return torch.cat(found)

    def score(self, images: Tensor) -> Tensor:
        """Scores without a gradient."""
        with torch.no_grad():
            return self.batched(lambda x: self.witness(x).scores.float(), images)

    def batched(self, score: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """A function of images, applied to `batch_size` of them at a time."""
        return torch.cat([score(part) for part in torch.split(images, self.batch_size)])

    def gradient(self, witness: Witness, images: Tensor) -> tuple[Tensor, Tensor]:
        """How wrong the scores ``(n,)`` of the first images are, or of what was made of them, and the gradient."""
        parts = self._parts(images)
        found = [value_and_grad(ScoreObjective(witness.scores, labels), part) for part, labels in parts]
        values, gradients = zip(*found, strict=True)
        return torch.cat(values), torch.cat(gradients)

    def _parts(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        labels = self.labels[: len(images)]
        return list(zip(*(torch.split(whole, self.batch_size) for whole in (images, labels)), strict=True))

    def by_class(self, values: Tensor) -> list[Tensor]:
        """Values ``(n,)`` of the first images, normal and anomalous ones apart: one may hide the other."""
        labels, values = self.labels[: len(values)].cpu(), values.cpu()  # not every device has float64
        return [values[labels == label].double() for label in (False, True) if bool((labels == label).any())]

    @property
    def spread(self) -> float:
        """Standard deviation of the clean scores, never zero."""
        return max(float(self.clean.std(correction=0)), 1e-12)
