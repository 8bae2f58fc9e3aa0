"""Early looks: how the detector stands against pseudo-anomalies of held-out normal images, attacked in many steps.

Single-step training can overfit its own attack; nothing but a multi-step attack on images that it never saw shows it.
The test set is never looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustad.attacks import PGD, ImageObjective
from robustad.metrics import auroc
from robustad.training.engine import LOOK_FIGURE
from robustad.training.generators import Generator
from robustad.training.state import COLLAPSE

SCATTER = 0.5
"""Two standard errors of the difference of two looks at one image of each class; more images, smaller by the root."""


class EarlyLook:
    """Image AUROC, clean and under PGD-10 on the reported score, of held-out normals against their pseudo-anomalies.

    Args:
        images: Held-out normal images ``(N, 3, S, S)`` in [0, 1].
        foreground: ``(N, S, S)`` bool.
        generator: Maker of pseudo-anomalies.
        epsilon: Radius of the attack.
        seed: Seed of the pseudo-anomalies: every look sees the same.
        steps: Steps of the attack.

    Attributes:
        tolerance: Fall from look to look that chance explains.
    """

    def __init__(
        self,
        images: Tensor,
        foreground: Tensor,
        generator: Generator,
        *,
        epsilon: float,
        seed: int,
        steps: int = 10,
    ) -> None:
        anomalous, _ = generator(images, foreground, seeds=[seed + i for i in range(len(images))])
        self.images = torch.cat([images, anomalous])
        self.labels = torch.arange(len(self.images)) >= len(images)
        self.tolerance = max(COLLAPSE, SCATTER / len(images) ** 0.5)
        self.epsilon, self.attack = epsilon, PGD(steps=steps)

    def __call__(self, detector: nn.Module) -> dict[str, float]:
        """Figures for the log."""
        device = next(detector.parameters()).device
        training = detector.training
        detector.eval()
        clean, attacked = [], []
        try:
            for start in range(0, len(self.images), 32):
                x, labels = (part[start : start + 32].to(device) for part in (self.images, self.labels))
                worst = self.attack(ImageObjective(detector, labels), x, epsilon=self.epsilon)
                with torch.no_grad():
                    clean.append(detector(x).scores.cpu())
                    attacked.append(detector(worst).scores.cpu())
        finally:
            detector.train(training)
        return {
            "look_AUROC": auroc(torch.cat(clean), self.labels),
            LOOK_FIGURE: auroc(torch.cat(attacked), self.labels),
        }
