"""Smooth random fields and pixel coordinates."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from robustad.ops.noise import pixel_grid, value_noise


def grids(count=3, channels=2, sides=(3, 6)):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, channels, side, side, generator=generator) for side in sides]


def test_each_field_is_standardised():
    field = value_noise([10 * g + 4 for g in grids()], (20, 31))
    assert field.shape == (3, 2, 20, 31)
    torch.testing.assert_close(field.mean(dim=(2, 3)), torch.zeros(3, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(field.std(dim=(2, 3)), torch.ones(3, 2), rtol=0, atol=1e-5)


def test_octaves_are_added_with_their_weights():
    made = grids()
    fine = [F.interpolate(g, size=(16, 16), mode="bicubic", align_corners=True) for g in made]
    for weights, shares in ((None, (1.0, 0.5)), (torch.tensor([[0.2, 3.0]] * 3), (0.2, 3.0))):
        total = sum(share * f for share, f in zip(shares, fine, strict=True))
        centred = total - total.mean(dim=(2, 3), keepdim=True)
        wanted = centred / centred.std(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(value_noise(made, (16, 16), weights), wanted, rtol=1e-4, atol=1e-5)


def test_weights_are_per_image():
    made = grids()
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    together = value_noise(made, (12, 12), weights)
    for i in range(3):
        alone = value_noise([g[i : i + 1] for g in made], (12, 12), weights[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)


def test_coarse_grids_are_smooth():
    """The jump between neighbours shrinks with the number of pixels per cell."""

    def jump(side):
        field = value_noise(grids(sides=(side,)), (64, 64))
        return field.diff(dim=3).abs().mean()

    assert jump(3) < 0.4 * jump(24)


def test_a_constant_grid_gives_no_nan():
    field = value_noise([torch.ones(1, 1, 4, 4)], (8, 8))
    assert field.isfinite().all() and field.std() < 0.5, "rounding is not blown up to a full field"


@pytest.mark.parametrize("size", [(4, 8), (1, 1)], ids=str)
def test_pixel_centres(size):
    rows, columns = pixel_grid(size, like=torch.zeros(0, dtype=torch.float64))
    assert rows.shape == columns.shape == size
    for i in range(size[0]):
        for j in range(size[1]):
            assert rows[i, j].item() == pytest.approx((i + 0.5) / size[0])
            assert columns[i, j].item() == pytest.approx((j + 0.5) / size[1])
