"""Early looks: a perfect detector, a useless one, one that only an attack exposes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustad.synthesis import PseudoAnomalies, PseudoAnomalyConfig
from robustad.training import EarlyLook
from robustad.training.engine import LOOK_FIGURE
from robustad.training.state import COLLAPSE
from robustad.types import Prediction


class Score(nn.Module):
    """A detector from a function of images."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.function = function

    def forward(self, images):
        return Prediction(self.function(images) + 0 * self.weight, None)


def brighter(images, foreground, *, seeds):
    """Anomalies that stand out by 0.2 in the mean."""
    return images + 0.2, foreground


def look(count=40, epsilon=0.04, generator=brighter):
    images = torch.full((count, 3, 8, 8), 0.4) + torch.linspace(0, 0.02, count)[:, None, None, None]
    return EarlyLook(images, torch.ones(count, 8, 8, dtype=torch.bool), generator, epsilon=epsilon, seed=5)


def test_a_detector_with_a_margin_is_perfect():
    figures = look()(Score(lambda x: x.mean(dim=(1, 2, 3))))
    assert figures == {"look_AUROC": 1.0, LOOK_FIGURE: 1.0}


def test_a_larger_radius_than_the_margin_turns_it_around():
    figures = look(epsilon=0.15)(Score(lambda x: x.mean(dim=(1, 2, 3))))
    assert figures == {"look_AUROC": 1.0, LOOK_FIGURE: 0.0}


def test_a_useless_detector_is_at_one_half():
    figures = look()(Score(lambda x: 0 * x.mean(dim=(1, 2, 3))))
    assert figures == {"look_AUROC": 0.5, LOOK_FIGURE: 0.5}


def test_a_brittle_detector_falls_only_under_attack():
    """A checkerboard of large weight: no clean image has one, an attack draws it."""
    checker = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    figures = look(epsilon=0.01)(Score(lambda x: x.mean(dim=(1, 2, 3)) + 50 * (x * checker).mean(dim=(1, 2, 3))))
    assert figures["look_AUROC"] == 1.0 and figures[LOOK_FIGURE] == 0.0


@pytest.mark.parametrize("training", [True, False])
def test_mode_gradients_and_random_state_are_left_alone(training):
    detector = Score(lambda x: x.mean(dim=(1, 2, 3))).train(training)
    modes = []
    detector.register_forward_pre_hook(lambda module, _inputs: modes.append(module.training))
    before = torch.random.get_rng_state()
    look()(detector)
    assert detector.training is training and set(modes) == {False}
    assert detector.weight.grad is None and detector.weight.requires_grad
    assert torch.equal(before, torch.random.get_rng_state())


def test_every_look_sees_the_same_pseudo_anomalies():
    images = 0.2 + 0.5 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    foreground = torch.ones(6, 16, 16, dtype=torch.bool)
    generator = PseudoAnomalies(PseudoAnomalyConfig())
    one, two, other = (EarlyLook(images, foreground, generator, epsilon=0.01, seed=s) for s in (0, 0, 50))
    assert torch.equal(one.images, two.images) and not torch.equal(one.images, other.images)
    assert torch.equal(one.images[:6], images) and one.labels.tolist() == [False] * 6 + [True] * 6


def test_fewer_images_explain_larger_falls():
    falls = [look(count).tolerance for count in (2, 6, 24, 400)]
    assert falls == sorted(falls, reverse=True) and falls[-1] == COLLAPSE and falls[2] == pytest.approx(0.1, abs=0.01)
