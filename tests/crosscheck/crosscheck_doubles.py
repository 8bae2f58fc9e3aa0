"""Small detectors in float64 with their images: a random network, a rough one, and one trained on digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from robustad.attacks import ImageObjective
from robustad.types import Prediction

EPSILON = {"linf": 8 / 255, "l2": 0.5}
THEIR_NORM = {"linf": "Linf", "l2": "L2"}
CASES = ("random", "rough", "digits")


class SmallNetwork(nn.Module):
    """Three convolutions; the score is the mean of the six highest places of the map."""

    def __init__(self, seed: int, *, gain: float = 1.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = [
                nn.Conv2d(3, 8, 3, padding=1),
                nn.Conv2d(8, 8, 3, stride=2, padding=1),
                nn.Conv2d(8, 1, 3, padding=1),
            ]
        self.body = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]).to(torch.float64)
        for parameter in self.body.parameters():
            parameter.data.mul_(gain)

    def forward(self, images: Tensor) -> Prediction:
        """Scores of images ``(N, 3, 16, 16)``."""
        maps = self.body(images - 0.5)[:, 0]
        return Prediction(maps.flatten(1).topk(6, dim=1).values.mean(1), None)


@dataclass(frozen=True)
class Case:
    """A detector and what it is attacked on; one corner pixel of each image is white."""

    detector: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def objective(self) -> ImageObjective:
        """What our attacks maximise."""
        return ImageObjective(self.detector, self.labels)

    @property
    def threshold(self) -> float:
        """In the middle of the scores."""
        with torch.no_grad():
            return self.detector(self.images).scores.median().item()

    def gains(self, attacked: Tensor) -> Tensor:
        """How far the score of each image went wrong ``(N,)``."""
        index = torch.arange(len(self.images))
        with torch.no_grad():
            return self.objective(attacked, index) - self.objective(self.images, index)


def digits() -> tuple[Tensor, Tensor]:
    """Handwritten digits at 16 x 16 pixels, in three channels; five and above are anomalous."""
    data = load_digits()
    small = torch.tensor(data.images / 16.0, dtype=torch.float64)
    large = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return large[:, None].expand(-1, 3, -1, -1).contiguous(), torch.tensor(data.target >= 5)


def _trained() -> nn.Module:
    network, (images, labels) = SmallNetwork(1), digits()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(120):
        chosen = torch.randint(0, 1000, (64,), generator=generator)
        scores = network(images[chosen]).scores
        loss = nn.functional.binary_cross_entropy_with_logits(scores, labels[chosen].to(scores))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@cache
def case(name: str, count: int = 12) -> Case:
    """One of `CASES`."""
    if name == "digits":
        detector, (images, labels) = _trained(), digits()
        images, labels = images[1000 : 1000 + count].clone(), labels[1000 : 1000 + count]
    else:
        detector = SmallNetwork(0, gain={"random": 1.5, "rough": 8.0}[name])
        noise = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        images, labels = ((noise - 0.5) * 1.4 + 0.5).clamp(0, 1), torch.arange(count) % 2 == 1
    images[:, :, 0, 0] = 1
    return Case(detector.eval().requires_grad_(False), images, labels)
