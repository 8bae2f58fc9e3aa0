"""Gaussian smoothing against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from robustad.ops.smoothing import gaussian_smooth


def maps(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(("sigma", "radius"), [(6.0, 7), (4.0, 8), (0.7, 2), (3.0, 0)])
@pytest.mark.parametrize("size", [(20, 31), (5, 3), (1, 1)], ids=str)
def test_equals_scipy_also_on_maps_smaller_than_the_kernel(sigma, radius, size):
    x = maps(2, *size)
    wanted = np.stack([gaussian_filter(m, sigma, mode="reflect", radius=radius) for m in x.numpy()])
    np.testing.assert_allclose(gaussian_smooth(x, sigma=sigma, radius=radius), wanted, rtol=0, atol=1e-12)


def test_a_constant_map_stays_and_the_kind_of_number_too():
    for dtype in (torch.float32, torch.float64):
        x = torch.full((1, 9, 9), 3.5, dtype=dtype)
        smooth = gaussian_smooth(x, sigma=4.0, radius=8)
        assert smooth.dtype == dtype
        torch.testing.assert_close(smooth, x)


def test_sigma_0_and_an_empty_batch():
    x = maps(2, 6, 6)
    assert torch.equal(gaussian_smooth(x, sigma=0.0, radius=3), x)
    assert gaussian_smooth(x[:0], sigma=2.0, radius=3).shape == (0, 6, 6)


def test_maps_do_not_mix():
    x = maps(3, 10, 10)
    together = gaussian_smooth(x, sigma=2.0, radius=5)
    assert torch.equal(gaussian_smooth(x[1:2], sigma=2.0, radius=5)[0], together[1])


def test_gradients_pass_through():
    x = maps(1, 5, 6).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m: gaussian_smooth(m, sigma=1.5, radius=3), (x,))


def test_autocast_does_not_round():
    x = maps(2, 20, 20, dtype=torch.float32)
    wanted = gaussian_smooth(x, sigma=2.0, radius=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gaussian_smooth(x, sigma=2.0, radius=5), wanted)


@pytest.mark.parametrize("options", [{"sigma": -1.0, "radius": 2}, {"sigma": 1.0, "radius": -2}])
def test_negative_sizes_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 0"):
        gaussian_smooth(maps(1, 4, 4), **options)
