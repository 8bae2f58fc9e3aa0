"""Transforms that make an image unusual: one seed one result, in [0, 1], visible where the mask says."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from robustad.ops.transforms import TRANSFORMS, cutout, rotation, scar, transformed


def images(count, size=32):
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return 0.2 + 0.6 * F.interpolate(coarse, size=size, mode="bilinear")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_is_valid_seeded_and_independent_of_the_batch(name):
    x, seeds = images(12), list(range(100, 112))
    kept = x.clone()
    made, masks = TRANSFORMS[name](x, seeds)
    assert torch.equal(x, kept), "the input is left alone"
    assert made.shape == x.shape and masks.shape == (12, 32, 32) and masks.dtype == torch.bool
    assert made.min() >= 0 and made.max() <= 1 and masks.flatten(1).any(1).all()
    outside = ((made - x).abs().amax(1) > 1e-6) & ~masks
    assert not outside.any(), "nothing changes outside of the mask"
    assert (made != x).flatten(1).any(1).all()
    part, part_masks = TRANSFORMS[name](x[[7, 2]], [seeds[7], seeds[2]])
    torch.testing.assert_close(part, made[[7, 2]], rtol=0, atol=1e-6)
    assert torch.equal(part_masks, masks[[7, 2]])
    assert not torch.equal(TRANSFORMS[name](x[:1].expand(9, -1, -1, -1), list(range(9)))[0][0], made[0])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradients_reach_the_pixels(name):
    x = images(2, 32).double().requires_grad_(True)
    made, _ = TRANSFORMS[name](x, [3, 4])
    weights = torch.rand(made.shape, generator=torch.Generator().manual_seed(1)).double()
    (gradient,) = torch.autograd.grad((made * weights).sum(), x)
    assert torch.isfinite(gradient).all() and (gradient != 0).flatten(1).float().mean(1).min() > 0.3


def test_a_hole_has_the_published_size():
    _, masks = cutout(images(200), range(200))
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    assert masks.flatten(1).sum(1).equal(heights * widths), "a box"
    for sides in (heights, widths):
        assert sides.min() >= 5 and sides.max() <= 8  # 32/6 and 32/4 pixels, give or take one


def test_rotations_are_quarter_turns_never_none():
    x = images(1).expand(60, -1, -1, -1)
    made, _ = rotation(x, range(60))
    turns = torch.stack([torch.rot90(x[0], k, (1, 2)) for k in (1, 2, 3)])
    hits = torch.stack([(made == turn).flatten(1).all(1) for turn in turns])
    assert hits.any(0).all() and (hits.sum(1) > 8).all()


def test_a_scar_is_small_turned_and_not_on_black_ground():
    x = images(100, 64)
    x[:, :, :, :32] = 0
    _, masks = scar(x, range(100))
    share = masks.flatten(1).float().mean(1)
    assert share.max() < 0.06 and share.min() > 0.0005
    columns = torch.arange(64).float()
    centre = (masks.any(1) * columns).sum(1) / masks.any(1).sum(1)
    assert (centre >= 30).all(), "its place has a mean between 0.15 and 0.8"


def test_kinds_are_drawn_by_their_weights():
    x = images(1).expand(300, -1, -1, -1)
    _, masks = transformed(x, {"cutout": 3.0, "rotation": 1.0}, list(range(300)))
    whole = masks.flatten(1).all(1).float().mean()
    assert 0.18 < whole < 0.32
