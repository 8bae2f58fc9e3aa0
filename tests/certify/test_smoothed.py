"""The smoothed detector: repeatable, bounded in memory, and no attack leaves its certificate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustad.attacks import PGD, ImageObjective
from robustad.certify import SmoothedDetector
from robustad.types import Prediction

SIGMA = 0.25


class Curved(nn.Module):
    """A score with bends: distance to the nearest of three images, after a hidden layer."""

    image_size = 6

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(3 * 36, 20, generator=generator) / 6
        self.centres = torch.randn(3, 20, generator=generator)
        self.largest = 0

    def forward(self, images):
        self.largest = max(self.largest, len(images))
        hidden = torch.tanh(images.flatten(1) @ self.weights)
        return Prediction((hidden[:, None] - self.centres).norm(dim=2).amin(1), None)


def images(count=6):
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_scores_are_repeatable_and_depend_on_nothing_but_the_image():
    smoothed = SmoothedDetector(Curved(), sigma=SIGMA, samples=20)
    scores = smoothed(images()).scores
    assert torch.equal(scores, smoothed(images()).scores)
    assert torch.equal(scores[2:4], smoothed(images()[2:4]).scores)
    assert smoothed(images()).anomaly_maps is None and smoothed.image_size == 6
    other = SmoothedDetector(Curved(), sigma=SIGMA, samples=20, seed=1)(images()).scores
    assert not torch.equal(scores, other)


@pytest.mark.parametrize("samples", [1, 7, 50])
def test_no_pass_is_larger_than_the_batch(samples):
    detector = Curved()
    smoothed = SmoothedDetector(detector, sigma=SIGMA, samples=samples, batch_size=7)
    smoothed(images())
    assert smoothed.noisy_scores(images(), 30).shape == (6, 30)
    assert detector.largest <= 7


def test_gradients_pass_through_the_median():
    smoothed, x = SmoothedDetector(Curved(), sigma=SIGMA, samples=9), images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(smoothed(x).scores.sum(), x)
    assert gradient.flatten(1).norm(dim=1).min() > 0


@pytest.mark.parametrize("radius", [0.25, 0.5])
@pytest.mark.parametrize("clip", [True, False])
def test_no_attack_leaves_the_certificate(radius, clip):
    """PGD in L2 on the smoothed score itself, both ways, judged with many fresh samples."""
    smoothed = SmoothedDetector(Curved(), sigma=SIGMA, samples=64, clip=clip)
    certificate = smoothed.certify(images(), (radius,), samples=4000, confidence=0.99)
    moved = 0.0
    for anomalous in (False, True):
        labels = torch.full((6,), anomalous)
        attacked = PGD(norm="l2", steps=15)(ImageObjective(smoothed, labels), images(), epsilon=radius)
        medians = np.median(smoothed.noisy_scores(attacked, 4000), axis=1)
        assert (medians >= certificate.low[0] - 1e-6).all() and (medians <= certificate.high[0] + 1e-6).all()
        moved = max(moved, float(np.abs(medians - certificate.medians).max()))
    width = float((certificate.high - certificate.low).mean()) / 2
    assert moved > 0.2 * width, "the attack is not idle, and the interval not empty talk"


def test_options_are_checked():
    for name in ("sigma", "samples", "batch_size"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            SmoothedDetector(Curved(), **{"sigma": 1.0, name: 0})
