"""Geometry of the balls: properties that hold for any images."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustad.attacks import NORMS, Ball
from robustad.attacks.projections import per_image_norm

SHAPE = (2, 3, 3, 2)
unit = arrays.arrays(np.float64, SHAPE, elements=st.floats(0, 1)).map(torch.from_numpy)
anywhere = arrays.arrays(np.float64, SHAPE, elements=st.floats(-3, 3)).map(torch.from_numpy)
noises = arrays.arrays(np.float64, SHAPE, elements=st.floats(-1, 1)).map(torch.from_numpy)
radii = st.floats(1e-4, 2)
norms = st.sampled_from(NORMS)
quick = settings(max_examples=60, deadline=None, derandomize=True)


def length(offset, norm):
    return offset.abs().flatten(1).amax(1) if norm == "linf" else offset.flatten(1).norm(dim=1)


@quick
@given(unit, anywhere, radii, norms)
def test_clip_lands_inside_and_leaves_what_is_inside(centre, point, radius, norm):
    ball = Ball(centre, radius, norm)
    clipped = ball.clip(point)
    assert (length(clipped - centre, norm) <= radius + 1e-12).all()
    assert clipped.min() >= 0 and clipped.max() <= 1
    torch.testing.assert_close(ball.clip(clipped), clipped, rtol=0, atol=1e-12)
    torch.testing.assert_close(ball.clip(centre), centre, rtol=0, atol=0)


@quick
@given(unit, anywhere, unit, radii)
def test_linf_clip_is_the_nearest_point(centre, point, other, radius):
    ball = Ball(centre, radius, "linf")
    clipped, other = ball.clip(point), ball.clip(other)
    nearest, rival = ((x - point).flatten(1).norm(dim=1) for x in (clipped, other))
    assert (nearest <= rival + 1e-12).all()


@quick
@given(unit, anywhere, radii)
def test_l2_clip_keeps_the_direction_before_the_cube_cuts(centre, point, radius):
    offset = point - centre
    wanted = centre + offset * torch.clamp(radius / offset.flatten(1).norm(dim=1).clamp_min(1e-9), max=1).view(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(Ball(centre, radius, "l2").clip(point), wanted.clamp(0, 1), rtol=0, atol=1e-9)


@quick
@given(unit, noises, radii, norms)
def test_starts_lie_inside_and_follow_the_noise(centre, noise, radius, norm):
    start = Ball(centre, radius, norm).start(noise)
    assert (length(start - centre, norm) <= radius + 1e-12).all()
    assert start.min() >= 0 and start.max() <= 1
    moved = start - centre
    assert ((moved * noise) >= 0).all(), "no pixel moves against its noise"


@quick
@given(anywhere, norms)
def test_directions_have_length_one_and_climb(gradient, norm):
    direction = Ball(torch.zeros(SHAPE, dtype=torch.float64), 0.1, norm).direction(gradient)
    steep = length(gradient, norm) > 1e-6
    torch.testing.assert_close(length(direction, norm)[steep], torch.ones(int(steep.sum()), dtype=torch.float64))
    assert ((direction * gradient).flatten(1).sum(1)[steep] > 0).all()


def test_the_steepest_direction_of_the_norm():
    """Among directions of length one, none climbs a linear function faster: its slope is the dual norm."""
    gradient = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros_like(gradient)
    slopes = {norm: (Ball(zero, 1.0, norm).direction(gradient) * gradient).flatten(1).sum(1) for norm in NORMS}
    torch.testing.assert_close(slopes["linf"], gradient.abs().flatten(1).sum(1))
    torch.testing.assert_close(slopes["l2"], gradient.flatten(1).norm(dim=1))


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_no_move_and_no_nan(norm):
    direction = Ball(torch.zeros(SHAPE), 0.1, norm).direction(torch.zeros(SHAPE))
    assert torch.equal(direction, torch.zeros(SHAPE))
    start = Ball(torch.full(SHAPE, 0.5), 0.1, norm).start(torch.zeros(SHAPE))
    assert torch.equal(start, torch.full(SHAPE, 0.5))


def test_norms_are_per_image():
    x = torch.zeros(2, 3, 2, 2)
    x[0, 0, 0, 0], x[0, 1, 0, 0], x[1, 2, 1, 1] = 3, 4, 2
    assert per_image_norm(x).flatten().tolist() == [5, 2]
    assert per_image_norm(x).shape == (2, 1, 1, 1)


@quick
@given(unit, anywhere, radii, norms, st.sampled_from([1, -1]))
def test_no_image_of_the_ball_is_brighter_or_darker_than_the_shifted_one(centre, point, radius, norm, sign):
    ball = Ball(centre, radius, norm)
    shifted, other = ball.shifted(sign), ball.clip(point)
    assert (length(shifted - centre, norm) <= radius + 1e-9).all()
    assert shifted.min() >= 0 and shifted.max() <= 1
    best, rival = (sign * x.flatten(1).mean(1) for x in (shifted, other))
    assert (best >= rival - 1e-9).all()
    even = ball.clip(centre + sign * radius / (1 if norm == "linf" else centre[0].numel() ** 0.5))
    assert (best >= sign * even.flatten(1).mean(1) - 1e-9).all()
