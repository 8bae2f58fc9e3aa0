"""ImageNet-C: each corruption against what was published, computed in another way, and at other sizes."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from corruption_doubles import images
from PIL import Image
from scipy import ndimage
from skimage.color import hsv2rgb, rgb2hsv
from torch.nn import functional as F

from robustad.corruptions import IMAGENET_C, corrupt
from robustad.corruptions._filters import disk, filtered, trail
from robustad.corruptions._frost import ice
from robustad.corruptions._plasma import plasma
from robustad.corruptions._warps import displaced

SIDE = 224  # of the publication
TINTED = {"gaussian_noise", "shot_noise", "impulse_noise", "frost"}


def pictures(x):
    return x.permute(0, 2, 3, 1).double().numpy()


@pytest.mark.parametrize("name", IMAGENET_C)
def test_grey_images_stay_grey_where_nothing_has_a_colour(name):
    grey = images()[:, :1].expand(-1, 3, -1, -1).contiguous()
    changed = corrupt(grey, name, 4)
    spread = (changed.amax(1) - changed.amin(1)).max()
    assert spread > 0.01 if name in TINTED else spread < 1e-5


def test_noise_has_the_published_strength():
    flat = torch.full((1, 3, SIDE, SIDE), 0.5)
    assert corrupt(flat, "gaussian_noise", 1).std().item() == pytest.approx(0.08, rel=0.02)
    shot = corrupt(0.5 * flat, "shot_noise", 1)
    assert shot.mean().item() == pytest.approx(0.25, rel=0.01), "light is kept"
    assert shot.std().item() == pytest.approx(math.sqrt(0.25 / 60), rel=0.02)
    impulse = corrupt(flat, "impulse_noise", 5)
    assert (impulse != 0.5).float().mean().item() == pytest.approx(0.27, rel=0.02)
    assert (impulse == 1).sum().item() == pytest.approx((impulse == 0).sum().item(), rel=0.05)


@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_and_contrast_are_the_published_formulas(severity):
    x = images()
    hsv = rgb2hsv(pictures(x))
    hsv[..., 2] = np.clip(hsv[..., 2] + severity / 10, 0, 1)
    np.testing.assert_allclose(pictures(corrupt(x, "brightness", severity)), hsv2rgb(hsv), atol=1e-5)
    factor = {1: 0.4, 5: 0.05}[severity]
    mean = pictures(x).mean(axis=(1, 2), keepdims=True)
    expected = mean + factor * (pictures(x) - mean)
    np.testing.assert_allclose(pictures(corrupt(x, "contrast", severity)), expected, atol=1e-5)
    black = torch.zeros(1, 3, 8, 8)
    torch.testing.assert_close(corrupt(black, "brightness", 3), black + 0.3)


@pytest.mark.parametrize(("severity", "radius"), [(1, 3), (4, 8)])
def test_defocus_is_the_published_disk_at_the_published_size(severity, radius):
    taps = np.arange(-radius, radius + 1)
    kernel = (taps[:, None] ** 2 + taps**2 <= radius**2).astype(float)
    expected = ndimage.convolve(pictures(images(1, SIDE))[0, ..., 0], kernel / kernel.sum(), mode="nearest")
    found = corrupt(images(1, SIDE), "defocus_blur", severity)[0, 0].numpy()
    assert np.abs(found - expected).mean() < 1e-3


def test_zoom_is_the_mean_of_enlarged_centres():
    x = F.interpolate(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), size=SIDE, mode="bicubic")
    x = x.clamp(0, 1)
    picture, middle = x[0, 0].double().numpy(), (SIDE - 1) / 2
    factors = np.arange(1, 1.31, 0.03)
    layers = [ndimage.affine_transform(picture, [1 / f, 1 / f], middle - middle / f, order=1) for f in factors]
    expected = (picture + np.sum(layers, axis=0)) / (len(layers) + 1)
    np.testing.assert_allclose(corrupt(x, "zoom_blur", 5)[0, 0], expected, atol=1e-3)


def test_pixels_and_jpeg_are_the_published_ones():
    x = images(1, 64)
    blocks = x.reshape(1, 3, 16, 4, 16, 4).mean((3, 5))
    expected = blocks.repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(corrupt(x, "pixelate", 5), expected)
    buffer = io.BytesIO()
    Image.fromarray((pictures(x)[0] * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=7)
    np.testing.assert_allclose(pictures(corrupt(x, "jpeg_compression", 5))[0] * 255, Image.open(buffer), atol=1e-4)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"])
def test_blurs_and_warps_keep_flat_areas(name):
    flat = torch.full((1, 3, 40, 40), 0.3)
    torch.testing.assert_close(corrupt(flat, name, 5), flat, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["defocus_blur", "zoom_blur"])
def test_a_severity_means_the_same_at_any_size(name):
    small = images(2, 112)
    small = F.avg_pool2d(F.pad(small, (2, 2, 2, 2), mode="replicate"), 5, 1)  # nothing at the limit of resolution
    large = F.interpolate(small, scale_factor=3, mode="bicubic").clamp(0, 1)
    shrunk = F.avg_pool2d(corrupt(large, name, 4), 3)
    changed = corrupt(small, name, 4)
    assert (shrunk - changed).abs().mean() < 0.15 * (changed - small).abs().mean()


@pytest.mark.parametrize("name", ["glass_blur", "motion_blur", "elastic_transform"])
def test_pixels_move_by_the_same_share_of_any_image(name):
    moved = []
    for side in (SIDE, 2 * SIDE):
        ramp = torch.linspace(0, 1, side).expand(1, 3, side, side).contiguous()
        changes = [(corrupt(ramp, name, 4, seed=seed) - ramp).abs().mean().item() for seed in range(3)]
        moved.append(np.mean(changes))
    assert moved[0] == pytest.approx(moved[1], rel=0.25)


def test_elastic_shifts_have_the_published_length():
    ramp = torch.linspace(0, 1, SIDE).expand(1, 3, SIDE, SIDE).contiguous()
    expected = 12.5 * (0.005 * SIDE / math.sqrt(3)) / (2 * math.sqrt(math.pi) * 0.01 * SIDE)  # standard deviation
    found = (corrupt(ramp, "elastic_transform", 1) - ramp)[..., 8:-8].std().item() * (SIDE - 1)
    assert found == pytest.approx(expected, rel=0.08)


def test_shifts_are_in_pixels_downwards_and_to_the_right():
    x = images(1, 24)[0, :, :, :15]
    shifts = torch.stack([torch.full((24, 15), 2.0), torch.full((24, 15), 5.0)])
    torch.testing.assert_close(displaced(x, shifts)[:, :-2, :-5], x[:, 2:, 5:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["snow", "fog", "frost"])
def test_weather_has_the_same_grain_at_any_size(name):
    """On a flat image the share of variance that is finer than ``side / 16`` pixels does not depend on the side."""
    shares = []
    for side in (64, 256):
        changed = torch.cat([corrupt(torch.full((1, 3, side, side), 0.1), name, 1, seed=seed) for seed in range(12)])
        shares.append(1 - (F.avg_pool2d(changed, side // 16).var() / F.avg_pool2d(changed, side // 64).var()).item())
    assert shares[0] == pytest.approx(shares[1], rel=0.25), shares


def test_snow_fades_by_the_published_formula_and_falls_from_two_sides():
    flat = torch.full((1, 3, SIDE, SIDE), 0.2)
    changed = corrupt(flat, "snow", 1)
    assert changed.min().item() == pytest.approx(0.8 * 0.2 + 0.2 * (1.5 * 0.2 + 0.5), abs=1e-4)
    torch.testing.assert_close(changed, changed.rot90(2, (2, 3)), rtol=0, atol=1e-5)


def test_snow_never_darkens_and_fog_is_never_brighter_than_the_image():
    x = images()
    assert (corrupt(x, "snow", 5) >= x - 1e-6).all()
    assert (corrupt(x, "fog", 5).amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-6).all()


def test_motion_goes_one_way_and_not_steeper_than_45_degrees():
    point = torch.zeros(1, 3, 101, 101)
    point[:, :, 50, 50] = 1.0
    for seed in range(8):
        blurred = corrupt(point, "motion_blur", 5, seed=seed)[0, 0]
        assert blurred.sum().item() == pytest.approx(1, abs=1e-4)
        rows, columns = (blurred > 1e-3).nonzero(as_tuple=True)
        down, right = rows - 50, columns - 50
        assert (down.abs() <= right.abs() + 2).all() and 14 <= right.abs().max() <= 20
        assert (right <= 1).all() or (right >= -1).all()


def test_filters_agree_with_a_convolution_whatever_their_size():
    x = images(1, 40)[0]
    for kernel in (trail(4.5, 2.0, 0.7), disk(2.2), disk(9.4), trail(30, 12.0, -2.0)):
        weights = (kernel / kernel.sum()).double().numpy()
        expected = np.stack([ndimage.correlate(channel, weights, mode="nearest") for channel in x.double().numpy()])
        np.testing.assert_allclose(filtered(x, kernel), expected, atol=1e-5)
        assert all(side % 2 for side in kernel.shape) and kernel.min() >= 0


def test_a_disk_grows_with_its_radius_between_whole_pixels():
    spreads = []
    for radius in (0.3, 0.5, 1.0, 1.5, 4.0):
        kernel = disk(radius) / disk(radius).sum()
        taps = torch.arange(len(kernel)) - len(kernel) // 2
        spreads.append((kernel.sum(0) * taps**2).sum().item())
    assert spreads == sorted(spreads) and spreads[-1] == pytest.approx(4.0**2 / 4, rel=0.1)


def test_plasma_fills_its_range_wraps_around_and_is_rougher_if_it_decays_less():
    made = [plasma(7, decay, torch.Generator().manual_seed(1)) for decay in (2.0, 1.4)]
    rough = [(surface - surface.roll(1, 0)).abs().mean().item() for surface in made]
    assert rough[1] > 2 * rough[0]
    for surface, step in zip(made, rough, strict=True):
        assert surface.shape == (128, 128) and surface.min() == 0 and surface.max() == 1
        assert (surface[0] - surface[-1]).abs().mean() < 3 * step

    smooth = plasma(6, 1e4, torch.Generator().manual_seed(1))
    mirrored = smooth.flip(0, 1).roll((1, 1), (0, 1))
    torch.testing.assert_close(smooth, mirrored, msg="without later draws, points lie halfway between their neighbours")


def test_ice_is_cold_and_varies_like_the_published_photographs():
    drawn = torch.stack([ice((96, 96), torch.Generator().manual_seed(seed)) for seed in range(12)])
    red, green, blue = drawn.mean((0, 2, 3))
    assert red < green < blue
    grey = drawn.mean(1)
    means, spreads = grey.mean((1, 2)), grey.std((1, 2))
    assert means.min() > 0.3 and means.max() < 0.9 and means.std() > 0.08
    assert spreads.min() > 0.05 and spreads.max() < 0.25
    fine = (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((0, 2))  # along each row
    assert fine.max() < 1.15 * fine.mean(), "no fringe at the border"
