"""The check that an attack without gradients does not beat one with them."""

from __future__ import annotations

import types

import pytest
import torch
from evaluation_doubles import NoisyGradient, ScoreOnly, made_batch, smooth

from robustad.attacks import PGD, Square
from robustad.evaluation import check_health, health

EPSILON = 15 / 255
NAME = "Black box not stronger"


def hardly_moving(images):
    """A gradient of noise; and what is certain of an image counts a thousand times as much as what an attack moves."""
    certain = torch.where(images.amin(dim=(1, 2, 3)).detach() < 0.3, 10.0, 0.0)
    return certain + 0.1 * smooth(NoisyGradient.apply(images))


def test_a_black_box_leads_where_the_gradient_is_of_no_use_however_little_that_is_on_the_whole():
    images, labels, _ = made_batch(24)
    (found,) = (v for v in check_health(ScoreOnly(hardly_moving), images, labels, epsilon=EPSILON) if v.name == NAME)
    assert found.passed is False, found.why


@pytest.mark.parametrize("masked, queries, passed", [(2, 0.5, True), (4, 0.5, False), (3, 0.5, True), (3, 50.0, False)])
def test_images_without_a_way_up_are_not_made_up_for_by_others(masked, queries, passed):
    """Of so many of the twelve normal images the gradient is useless; scores are spread far wider than any moves."""
    labels = torch.arange(24) % 2 == 1
    gains = {PGD: torch.full((24,), 5.0), Square: torch.full((24,), 0.5)}
    gains[PGD][: 2 * masked : 2], gains[Square][: 2 * masked : 2] = 0.0, queries
    patient = types.SimpleNamespace(
        images=torch.zeros(24, 3, 8, 8), labels=labels, clean=torch.zeros(24), epsilon=EPSILON
    )
    patient.spread = 400.0
    patient.attack = lambda attack, *_: gains[type(attack)] * torch.where(labels, -1, 1)
    patient.by_class = lambda values: [values[~labels].double(), values[labels].double()]
    assert health.check_black_box(patient)[0] is passed
