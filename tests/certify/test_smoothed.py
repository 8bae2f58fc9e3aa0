"""The smoothed detector: repeatable, bounded in memory, and no attack leaves its certificate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from robustad.attacks import APGD, PGD, ImageObjective
from robustad.certify import SmoothedDetector, certified_auroc
from robustad.metrics import auroc
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
    found = smoothed.noisy_scores(images(), 30)
    assert found.shape == (6, 30) and all(len(np.unique(scores)) == 30 for scores in found), "no noise comes twice"
    assert detector.largest <= 7


def test_gradients_pass_through_the_median():
    smoothed, x = SmoothedDetector(Curved(), sigma=SIGMA, samples=9), images().requires_grad_(True)
    (gradient,) = torch.autograd.grad(smoothed(x).scores.sum(), x)
    assert gradient.flatten(1).norm(dim=1).min() > 0


def test_certificates_use_noise_that_no_attacker_of_the_score_has_seen():
    """Noise that decides the score must not decide its certificate as well, and no two images share theirs."""
    smoothed = SmoothedDetector(Curved(), sigma=SIGMA, samples=21)
    same = images(1).expand(3, -1, -1, -1)
    fresh = smoothed.noisy_scores(same, 21)
    own = smoothed._noisy(same[0], 21, 0).double().numpy()
    assert np.median(own) == pytest.approx(float(smoothed(same[:1]).scores), abs=1e-6)
    for one, two in ((fresh[0], own), (fresh[1], own), (fresh[0], fresh[1]), (fresh[1], fresh[2])):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.9
    np.testing.assert_array_equal(fresh[1:2], smoothed.noisy_scores(same[1:2], 21, first=1))


class Trained(nn.Module):
    """How little a digit looks like a 3: two layers, trained here on scikit-learn's digits."""

    image_size = 8

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, images):
        return Prediction(self.net(images)[:, 0], None)


@pytest.fixture(scope="module")
def trained():
    """The detector, and images and labels that it was not trained on."""
    digits = load_digits()
    x = torch.from_numpy(digits.images / 16).float()[:, None].expand(-1, 3, -1, -1)
    y = torch.from_numpy(digits.target != 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = Trained()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        part = torch.randint(0, 1500, (128,), generator=generator)
        noisy = x[part] + SIGMA * torch.randn(x[part].shape, generator=generator)
        loss = nn.functional.binary_cross_entropy_with_logits(
            detector(noisy).scores, y[part].float(), pos_weight=torch.tensor(0.1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    detector.requires_grad_(False)
    held = torch.cat([(~y[1500:]).nonzero()[:5, 0], y[1500:].nonzero()[:5, 0]]) + 1500
    return detector, x[held].contiguous(), y[held]


def test_on_a_trained_detector_no_attack_leaves_the_certificate(trained):
    """The strongest attack there is on the smoothed score itself, both ways, judged with many fresh samples."""
    detector, x, y = trained
    smoothed = SmoothedDetector(detector, sigma=SIGMA, samples=64)
    certificate = smoothed.certify(x, (0.25, 0.5), samples=4000)
    assert auroc(certificate.medians, y.numpy()) > 0.95, "it learned something"
    curve = certified_auroc(certificate, y.numpy())
    for row, radius in enumerate(certificate.radii):
        worst = certificate.medians.copy()
        for labels in (y, ~y):
            attacked = APGD(norm="l2", steps=30)(ImageObjective(smoothed, labels), x, epsilon=radius)
            medians = np.median(smoothed.noisy_scores(attacked, 4000), axis=1)
            assert (medians >= certificate.low[row]).all() and (medians <= certificate.high[row]).all()
            width = (certificate.high[row] - certificate.low[row]) / 2
            assert (np.abs(medians - certificate.medians) > 0.25 * width).mean() > 0.7, "the attack is not idle"
            worst = medians if labels is y else worst
        assert curve[radius] <= auroc(worst, y.numpy())
    assert 0.5 < curve[0.5] < 1, "neither certain of nothing nor of everything"


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
