"""Attacks that ask for values only: they use none but those, and find what can be found that way."""

from __future__ import annotations

import pytest
import torch
from attack_doubles import Toy, images

from robustad.attacks import PGD, EstimatedPGD, ImageObjective, Square
from robustad.attacks.projections import Ball
from robustad.attacks.square import _bump, _moved

LABELS = torch.tensor([False, True, False, True, True])
RADIUS = {"linf": 8 / 255, "l2": 0.7}


def values(target, x):
    with torch.no_grad():
        return target(x, torch.arange(len(x)))


@pytest.mark.parametrize("norm", RADIUS)
@pytest.mark.parametrize("attack", [Square, EstimatedPGD])
def test_no_gradient_is_asked_for(attack, norm):
    def target(x, index):
        assert not x.requires_grad and not torch.is_grad_enabled()
        return -(x - 0.4).abs().flatten(1).sum(1)

    found = attack(norm=norm)(target, images(), epsilon=RADIUS[norm])
    assert (values(target, found) > values(target, images())).all()


@pytest.mark.parametrize("norm", RADIUS)
def test_queries_are_counted(norm):
    calls = []

    def target(x, index):
        calls.append(len(x))
        return x.flatten(1).sum(1)

    Square(norm=norm, queries=37)(target, images(), epsilon=RADIUS[norm])
    assert len(calls) == 37 + 1, "one of them is the clean image"
    calls.clear()
    EstimatedPGD(norm=norm, steps=3, samples=5)(target, images(), epsilon=RADIUS[norm])
    assert len(calls) == 3 * (2 * 5 + 1) + 1


@pytest.mark.parametrize("norm", RADIUS)
def test_more_queries_find_more_and_most_of_what_gradients_find(norm):
    """With a thousand queries on 192 pixels, random squares come near to PGD."""
    target, clean = ImageObjective(Toy(dtype=torch.float64), LABELS), images(dtype=torch.float64)
    start = values(target, clean)
    gains = [
        (values(target, Square(norm=norm, queries=n)(target, clean, epsilon=RADIUS[norm])) - start).mean()
        for n in (30, 1000)
    ]
    white = (values(target, PGD(norm=norm, steps=40)(target, clean, epsilon=RADIUS[norm])) - start).mean()
    assert 0 < gains[0] < gains[1] <= white + 1e-6 and gains[1] > {"linf": 0.7, "l2": 0.5}[norm] * white


@pytest.mark.parametrize("directions", ["signs", "normal"])
def test_many_samples_come_near_to_the_gradient(directions):
    target, clean = ImageObjective(Toy(dtype=torch.float64), LABELS), images(dtype=torch.float64)
    start = values(target, clean)
    attack = EstimatedPGD(norm="l2", directions=directions, samples=400, steps=5, distance=1e-3)
    found = (values(target, attack(target, clean, epsilon=0.7)) - start).mean()
    exact = (values(target, PGD(norm="l2", steps=5)(target, clean, epsilon=0.7)) - start).mean()
    assert 0.6 * exact < found <= exact + 0.01


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 5), (9, 6)])
def test_bumps_have_length_one_and_two_signs(size):
    bump = _bump(*size, torch.zeros(1, dtype=torch.float64))
    assert bump.shape == size and bump.norm().item() == pytest.approx(1)
    assert (bump > 0).any() and (bump < 0).any()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Square(queries=0), "`queries` must be at least 1, got 0"),
        (lambda: Square(first_share=0), r"`first_share` must be in \(0, 1\], got 0"),
        (lambda: EstimatedPGD(samples=0), "`samples` must be at least 1, got 0"),
        (lambda: EstimatedPGD(distance=0), "`distance` must be above 0, got 0"),
        (lambda: EstimatedPGD(directions="sobol"), "`directions` must be one of normal, signs; got 'sobol'"),
    ],
)
def test_options(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_first_squares_are_large_even_where_the_budget_is_small():
    """A budget of a hundred has no time to lose, but its first proposal covers the share that was asked for."""
    seen = []

    def target(x, index):
        seen.append(x)
        return torch.zeros(len(x))

    Square(queries=3, first_share=0.8)(target, torch.full((6, 3, 10, 10), 0.5), epsilon=0.1)
    _, stripes, proposal, _ = seen
    rows = (proposal != stripes).any(dim=1).any(dim=2).sum(dim=1)
    assert rows.max() == round(0.8**0.5 * 10)


def test_new_bumps_are_odd_and_weigh_the_same_in_each_channel():
    ball = Ball(torch.full((4, 3, 12, 12), 0.5), 0.5, "l2")
    generators = [torch.Generator().manual_seed(number) for number in range(4)]
    before = torch.zeros_like(ball.centre)
    before[:, 0, :, ::3] = 0.05  # one channel only, and not all of the budget
    for side, pixels in ((0.01, 3), (0.3, 5), (0.45, 5)):
        moved = _moved(before, ball, side, generators)
        torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((4,), 0.5))
        new = moved[:, 1:] != 0
        assert (new.any(1).any(1).sum(1) == pixels).all() and (new.any(1).any(2).sum(1) == pixels).all()
        lengths = moved[:, 1:].flatten(2).norm(dim=2)
        torch.testing.assert_close(lengths[:, 0], lengths[:, 1])
        assert (lengths > 0).all()
