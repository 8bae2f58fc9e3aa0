"""Corruptions of inspection lines: each is what its name says."""

from __future__ import annotations

import torch
from corruption_doubles import images

from robustad.corruptions import corrupt


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
