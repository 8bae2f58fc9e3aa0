"""APGD: its schedule by the published numbers, its step, and that it beats PGD where steps are hard to choose."""

from __future__ import annotations

import torch
from attack_doubles import Toy, images

from robustad.attacks import APGD, PGD, ImageObjective

LABELS = torch.tensor([False, True, False, True, True])


def values(target, x):
    with torch.no_grad():
        return target(x, torch.arange(len(x)))


def test_checkpoints_are_the_published_ones():
    """p = 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99: rounded up to whole steps of a hundred."""
    assert APGD(steps=100).checkpoints() == {22, 41, 57, 70, 80, 87, 93, 99}
    assert max(APGD(steps=7).checkpoints()) <= 7


def test_gaps_between_checkpoints_shrink_in_short_runs_too():
    """Whole steps, one less each time, never below one."""
    assert APGD(steps=20).checkpoints() == {4, 7, *range(9, 21)}
    assert APGD(steps=1).checkpoints() == {1}


def test_a_straight_objective_is_climbed_to_the_corner_of_the_ball():
    way = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    clean = images()
    attacked = APGD(steps=5)(lambda x, index: (x * way).flatten(1).sum(1), clean, epsilon=0.05)
    torch.testing.assert_close(attacked, (clean + 0.05 * way.sign()).clamp(0, 1))


def test_steps_shrink_until_a_narrow_peak_is_found():
    """The peak lies a ninth of the radius away, and its slope changes sign there: fixed steps jump over it."""
    clean = torch.full((5, 3, 8, 8), 0.5, dtype=torch.float64)
    peak = clean + 0.1 / 9

    def target(x, index):
        return -(x - peak[index]).abs().flatten(1).sum(1)

    narrow = values(target, APGD(steps=60)(target, clean, epsilon=0.1))
    fixed = values(target, PGD(steps=60, rel_stepsize=0.25)(target, clean, epsilon=0.1))
    assert (narrow > fixed / 4).all() and (narrow > -0.15).all()


def test_it_is_at_least_as_strong_as_pgd_on_a_detector():
    detector, clean = Toy(dtype=torch.float64), images(dtype=torch.float64)
    target = ImageObjective(detector, LABELS)
    for norm, epsilon in (("linf", 8 / 255), ("l2", 0.7)):  # this one is easy: both find nearly the same
        ours = values(target, APGD(norm=norm, steps=40)(target, clean, epsilon=epsilon))
        plain = values(target, PGD(norm=norm, steps=40)(target, clean, epsilon=epsilon))
        assert (ours >= plain - 0.01).all() and ours.mean() >= plain.mean() - 0.005
