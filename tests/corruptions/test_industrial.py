"""Corruptions: valid images, repeatable, stronger with the severity, and each is what its name says."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from robustad.corruptions import INDUSTRIAL, SEVERITIES, corrupt

every = pytest.mark.parametrize("name", INDUSTRIAL)


def images(count=4, size=64):
    """Smooth shapes with some texture, neither black nor white."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    x = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return (0.25 + 0.5 * x + 0.005 * torch.randn(x.shape, generator=generator)).clamp(0.02, 0.98)


@every
@pytest.mark.parametrize("severity", SEVERITIES)
def test_results_are_images_and_differ_from_the_clean_ones(name, severity):
    clean = images()
    kept = clean.clone()
    changed = corrupt(clean, name, severity)
    assert changed.shape == clean.shape and changed.dtype == clean.dtype
    assert changed.min() >= 0 and changed.max() <= 1 and changed.isfinite().all()
    assert torch.equal(clean, kept), "the input is left alone"
    assert ((changed - clean).abs().flatten(1).amax(1) > 1e-3).all()


@every
def test_each_severity_changes_more_than_the_one_before(name):
    clean = images(8)
    means = [(corrupt(clean, name, severity) - clean).abs().mean().item() for severity in SEVERITIES]
    assert means == sorted(means) and means[-1] > 1.5 * means[0]


@every
def test_an_image_depends_on_itself_and_the_seed_alone(name):
    clean, state = images(), torch.get_rng_state()
    whole = corrupt(clean, name, 3, seed=4)
    assert torch.equal(whole, corrupt(clean, name, 3, seed=4))
    torch.testing.assert_close(whole[[2, 0]], corrupt(clean[[2, 0]], name, 3, seed=4), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    if name not in ("defocus", "belt-blur", "jpeg"):  # which draw nothing
        others = [corrupt(clean, name, 3, seed=seed) for seed in range(5, 12)]
        assert any(not torch.equal(whole, other) for other in others)


@every
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64)])
def test_any_size_and_no_image_at_all(name, size):
    x = torch.full((2, 3, *size), 0.5)
    assert corrupt(x, name, 5).shape == x.shape
    assert corrupt(x[:0], name, 5).shape == (0, 3, *size)


def test_blurs_keep_flat_areas_and_the_belt_runs_sideways():
    flat = torch.full((1, 3, 40, 40), 0.3)
    for name in ("defocus", "belt-blur", "misplacement", "vibration"):
        torch.testing.assert_close(corrupt(flat, name, 5), flat)
    stripes = torch.zeros(1, 3, 40, 40)
    stripes[:, :, ::8] = 1.0  # lines along the belt stay as they are, lines across it do not
    torch.testing.assert_close(corrupt(stripes, "belt-blur", 5), stripes)
    assert (corrupt(stripes.transpose(2, 3), "belt-blur", 5) - stripes.transpose(2, 3)).abs().mean() > 0.05


def test_a_disk_and_a_line_have_the_size_that_is_promised():
    point = torch.zeros(1, 3, 81, 81)
    point[:, :, 40, 40] = 1.0
    rows, columns = corrupt(point, "defocus", 5)[0, 0].nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1).item() == (columns.max() - columns.min() + 1).item() == 7
    rows, columns = corrupt(point, "belt-blur", 5)[0, 0].nonzero(as_tuple=True)
    assert rows.unique().tolist() == [40] and (columns.max() - columns.min() + 1).item() in (7, 9)


def test_vignetting_darkens_corners_and_dust_never_brightens():
    x = torch.full((3, 3, 64, 64), 0.8)
    dark = corrupt(x, "vignetting", 5)
    assert (dark[:, :, 0, 0] < dark[:, :, 32, 32] - 0.2).all()
    assert (corrupt(images(), "lens-dust", 5) <= images() + 1e-6).all()


def test_dead_rows_are_whole_rows_and_as_many_as_promised():
    changed = (corrupt(images(), "dead-rows", 5) != images()).any(1)
    assert (changed.all(2).sum(1) == 3).all() and (changed.any(2) == changed.all(2)).all(), "5 % of 64"


def test_drifts_do_what_they_say():
    x = torch.full((8, 3, 8, 8), 0.5)
    light = corrupt(x + 0.001 * torch.arange(8.0)[:, None, None, None], "brightness-drift", 5).mean(dim=(1, 2, 3))
    assert light.min() < 0.3 and light.max() > 0.7, "both ways"
    red, green, blue = corrupt(x, "colour-temperature", 5).unbind(1)
    torch.testing.assert_close(green, x[:, 1])
    assert ((red - blue).abs() > 0.25).all()


def test_noise_grows_with_the_light():
    dark, bright = torch.full((1, 3, 64, 64), 0.3), torch.full((1, 3, 64, 64), 0.6)
    spread = [corrupt(x, "sensor-noise", 3).std().item() for x in (dark, bright)]
    assert spread[1] > 1.1 * spread[0]


def test_wrong_names_and_severities():
    with pytest.raises(ValueError, match=r"`corruption` must be one of .*; got 'vinetting'; did you mean 'vignetting'"):
        corrupt(images(), "vinetting", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match="`severity` must be a whole number from 1 to 5"):
            corrupt(images(), "jpeg", severity)
