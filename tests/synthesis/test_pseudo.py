"""Pseudo-anomalies: one seed one result, inside the foreground, visible inside the mask, nothing outside it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from full_image_generator import generate
from torch.nn import functional as F

from robustad.ops.noise import value_noise
from robustad.synthesis import APPEARANCES, SHAPES, PseudoAnomalies, PseudoAnomalyConfig
from robustad.synthesis.draws import Window, draw
from robustad.synthesis.regions import Region
from robustad.synthesis.shapes import FAINT, Cover

SIZE = 64
EVERY = list(itertools.product(SHAPES, APPEARANCES))


def smooth_images(count, *, seed=0, size=SIZE):
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return 0.2 + 0.6 * F.interpolate(coarse, size=size, mode="bilinear")


def full(count, size=SIZE):
    return torch.ones(count, size, size, dtype=torch.bool)


def only(shape, appearance, **options):
    return PseudoAnomalies(PseudoAnomalyConfig(shapes={shape: 1.0}, appearances={appearance: 1.0}, **options))


def change_inside(images, made, masks):
    difference = (made - images).abs().mean(1) * masks
    return difference.flatten(1).sum(1) / masks.flatten(1).sum(1)


@pytest.mark.parametrize(("shape", "appearance"), EVERY)
def test_every_kind_is_valid_and_visible(shape, appearance):
    images = smooth_images(12)
    kept = images.clone()
    config = PseudoAnomalyConfig()
    made, masks = only(shape, appearance)(images, full(12), seeds=range(12))
    assert made.shape == images.shape and made.dtype == images.dtype
    assert masks.shape == (12, SIZE, SIZE) and masks.dtype == torch.bool
    assert made.isfinite().all() and made.min() >= 0 and made.max() <= 1
    assert masks.flatten(1).any(1).all()
    assert (change_inside(images, made, masks) >= 0.98 * config.min_change).all()
    assert torch.equal(images, kept), "the input is not written to"
    areas = masks.flatten(1).float().mean(1)
    assert (areas == 1).all() if shape == "whole" else areas.unique().numel() > 6


@pytest.mark.parametrize(("shape", "appearance"), EVERY)
def test_what_lies_away_from_the_mask_stays(shape, appearance):
    """Soft edges reach a few pixels; eight pixels further on, the image is as it was."""
    images = smooth_images(16, size=128)
    made, masks = only(shape, appearance)(images, full(16, 128), seeds=range(50, 66))
    outside = ~masks
    change = (made - images).abs().mean(1)
    strong = (change * outside).flatten(1).sum(1) / (change.flatten(1).sum(1))
    assert (strong < 0.5).all() and strong.mean() < 0.25, "the change belongs to the mask"
    if shape in ("rectangle", "stroke", "band", "strip"):
        reach = F.max_pool2d(masks[:, None].float(), 17, stride=1, padding=8)[:, 0] > 0
        assert (change * ~reach).max() < 8 / 255
    if shape == "rectangle":
        assert (change * outside).max() == 0


def test_the_same_image_and_seed_in_any_batch():
    generator = PseudoAnomalies(PseudoAnomalyConfig(max_regions=3))
    images, foreground, seeds = smooth_images(8), full(8), [10**18 + i for i in range(8)]
    foreground[3, :, :32] = False
    made, masks = generator(images, foreground, seeds=seeds)
    again, masks_again = generator(images, foreground, seeds=seeds)
    assert torch.equal(made, again) and torch.equal(masks, masks_again)
    for part in ([3], [6, 1], [7, 6, 5, 4, 3, 2, 1, 0]):
        some, some_masks = generator(images[part], foreground[part], seeds=[seeds[i] for i in part])
        assert torch.equal(some, made[part]) and torch.equal(some_masks, masks[part])
    other, _ = generator(images, foreground, seeds=[seed + 100 for seed in seeds])
    assert not any(torch.equal(a, b) for a, b in zip(made, other, strict=True))


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    PseudoAnomalies()(smooth_images(4), full(4), seeds=range(4))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("shape", SHAPES)
def test_only_the_foreground_changes(shape):
    images, foreground = smooth_images(10), torch.zeros(10, SIZE, SIZE, dtype=torch.bool)
    foreground[:, 20:44, 8:30] = True
    made, masks = only(shape, "tint")(images, foreground, seeds=range(10))
    assert not (masks & ~foreground).any() and masks.flatten(1).any(1).all()
    background = ~foreground[:, None].expand_as(images)
    assert torch.equal(made[background], images[background])
    if shape == "whole":
        assert torch.equal(masks, foreground)


def test_one_pixel_of_foreground_and_none_at_all():
    images, foreground = smooth_images(2), torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    foreground[0, 5, 60] = True
    made, masks = PseudoAnomalies()(images, foreground, seeds=[1, 2])
    assert masks[0].nonzero().tolist() == [[5, 60]]
    assert change_inside(images, made, masks).min() >= 0.98 * PseudoAnomalyConfig().min_change
    assert masks[1].any(), "without foreground, the whole image serves"


@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_no_invisible_anomaly_on_flat_grey(level):
    """Black cannot be made darker and grey moved onto grey stays grey: labelled anomalous, it must differ."""
    images = torch.full((60, 3, 32, 32), level)
    made, masks = PseudoAnomalies()(images, full(60, 32), seeds=range(60))
    assert made.min() >= 0 and made.max() <= 1
    assert (change_inside(images, made, masks) >= 0.95 * PseudoAnomalyConfig().min_change).all()


def test_a_larger_minimum_is_kept_too():
    images = smooth_images(40)
    for minimum in (0.02, 0.12):
        made, masks = PseudoAnomalies(PseudoAnomalyConfig(min_change=minimum))(images, full(40), seeds=range(40))
        change = change_inside(images, made, masks)
        assert (change >= 0.95 * minimum).all()
    assert change.min() < 0.2, "strong ones are not all that there is"


def test_number_of_regions():
    images = smooth_images(60)
    areas = {}
    for count in (1, 4):
        generator = PseudoAnomalies(PseudoAnomalyConfig(max_regions=count, shapes={"rectangle": 1.0}))
        _, masks = generator(images, full(60), seeds=range(60))
        areas[count] = masks.flatten(1).float().mean(1)
    assert (areas[4] >= areas[1]).all(), "the first region is the same"
    share = (areas[4] > areas[1]).float().mean()
    assert 0.5 < share < 0.95, "three quarters have more than one"


def test_sizes_are_half_axes_in_image_sides():
    _, masks = only("rectangle", "tint", half_sizes=(0.05, 0.05))(smooth_images(60), full(60), seeds=range(60))
    inside = masks.flatten(1).sum(1).float()
    wanted = (1.4 * 0.05 * SIZE) ** 2  # a rectangle reaches to 0.7 of its half axes, on both sides
    assert inside.max() < 1.8 * wanted and wanted * 0.6 < inside.median() < wanted * 1.4


def test_weights_are_frequencies():
    weights = {"rectangle": 3.0, "whole": 1.0, "band": 0.0}
    generator = PseudoAnomalies(PseudoAnomalyConfig(shapes=weights))
    _, masks = generator(torch.full((400, 3, 16, 16), 0.5), full(400, 16), seeds=range(400))
    whole = masks.flatten(1).all(1).float().mean()
    assert 0.18 < whole < 0.32


def test_centres_spread_over_the_foreground():
    images, foreground = smooth_images(200, size=32), torch.zeros(200, 32, 32, dtype=torch.bool)
    foreground[:, :8, :8] = True
    foreground[:, 24:, 24:] = True
    _, masks = only("stroke", "tint")(images, foreground, seeds=range(200))
    first = masks[:, :8, :8].flatten(1).any(1)
    second = masks[:, 24:, 24:].flatten(1).any(1)
    assert min(first.sum(), second.sum()) > 60 and (first | second).all()


def test_not_square_images():
    images = torch.rand(6, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    for appearance in APPEARANCES:
        made, masks = only("blob", appearance)(images, torch.ones(6, 24, 40, dtype=torch.bool), seeds=range(6))
        assert made.shape == images.shape and masks.any(2).any(1).all()


def everything_drawn(appearance, image, seed):
    """An appearance over a whole image, and the numbers it was made from."""
    draws = draw(seed, np.ones(image.shape[1:], dtype=bool))
    cover = Cover(draws.everything, np.ones(draws.size, dtype=np.float32))
    region = Region.of_cover(image.numpy().reshape(3, -1), draws.size, cover)
    return torch.from_numpy(APPEARANCES[appearance](region, draws)).view_as(image), draws.uniform


def test_moved_content_is_the_image_itself():
    """Shifted around the borders, transposed or not: the same multiset of colours."""
    for seed, image in enumerate(smooth_images(6)):
        other, u = everything_drawn("moved", image, seed)
        assert torch.equal(image.flatten(1).sort(1).values, other.flatten(1).sort(1).values)
        wanted = torch.roll(image, (-int(u[11] * SIZE), -int(u[12] * SIZE)), dims=(1, 2))
        assert torch.equal(other, wanted.transpose(1, 2) if u[13] < 0.5 else wanted)


def test_lighter_and_darker_without_change_of_structure():
    images = smooth_images(200)
    made = torch.stack([everything_drawn("light", image, seed)[0] for seed, image in enumerate(images)])
    signs = (made - images).flatten(1).sign()
    assert (signs == signs[:, :1]).all(), "all of an image goes one way"
    assert 0.6 < (signs[:, 0] < 0).float().mean() < 0.8, "70 % darker"


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (40, 72)])
@pytest.mark.parametrize("options", [{}, {"max_regions": 3, "half_sizes": (0.02, 0.3), "min_change": 24 / 255}])
def test_equal_to_the_plain_generator_over_whole_images(size, options):
    """Same seeds, same anomalies: only regions are computed, and what is fainter than a hundredth of a grey level."""
    shapes = dict.fromkeys(SHAPES, 1.0)
    config = PseudoAnomalyConfig(shapes=shapes, appearances=dict.fromkeys(APPEARANCES, 1.0), **options)
    images = smooth_images(96, size=size)
    images[:6], images[6:12], images[12:24] = 0, 1, images[12:24].mean(1, keepdim=True)
    foreground = torch.ones(96, *size, dtype=torch.bool)
    foreground[24:48, : size[0] // 2, 5:] = False
    foreground[48] = False
    foreground[49], foreground[49, 3, 7] = False, True
    wanted, wanted_masks = generate(images, foreground, range(96), config)
    made, masks = PseudoAnomalies(config)(images, foreground, seeds=range(96))
    torch.testing.assert_close(made, wanted, rtol=0, atol=5 * FAINT)
    assert (masks != wanted_masks).sum() <= 3, "pixels where rounding decides"


def test_noise_in_a_window_is_that_of_the_whole_image():
    draws = draw(7, np.ones((48, 80), dtype=bool))
    coarse, fine = torch.from_numpy(draws._normal).split([336, 765])
    for numbers, sides, made in ((coarse, (4, 8, 16), draws.warp), (fine, (3, 6, 12, 24), draws.texture)):
        grids = [g.view(1, 1, s, s) for g, s in zip(numbers.split([s * s for s in sides]), sides, strict=True)]
        wanted = value_noise(grids, (48, 80))[0, 0]
        for window in (draws.everything, Window(0, 1, 0, 1), Window(13, 40, 7, 79)):
            torch.testing.assert_close(torch.from_numpy(made(window)), wanted[window.slices], rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_images_keep_their_precision(dtype):
    images = smooth_images(4).to(dtype)
    made, masks = PseudoAnomalies()(images, full(4), seeds=range(4))
    wanted, wanted_masks = PseudoAnomalies()(images.float(), full(4), seeds=range(4))
    assert made.dtype == dtype and torch.equal(made, wanted.to(dtype)) and torch.equal(masks, wanted_masks)


def test_errors():
    images = smooth_images(2)
    with pytest.raises(ValueError, match="need one entry per image, got 2 images, 2 masks and 1 seeds"):
        PseudoAnomalies()(images, full(2), seeds=[1])
    with pytest.raises(ValueError, match="got 2 images, 3 masks"):
        PseudoAnomalies()(images, full(3), seeds=[1, 2])
    with pytest.raises(ValueError, match="`images` must be a float tensor"):
        PseudoAnomalies()(images[:, :1], full(2), seeds=[1, 2])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shapes": {"blobb": 1.0}}, "did you mean 'blob'"),
        ({"appearances": {"tint": -1.0, "light": 2.0}}, "`appearances` needs at least one positive weight"),
        ({"shapes": {}}, "`shapes` needs at least one positive weight"),
        ({"shapes": {"blob": 0.0}}, "`shapes` needs at least one positive weight"),
        ({"max_regions": 0}, "`max_regions` must be at least 1"),
        ({"half_sizes": (0.3, 0.2)}, "`half_sizes` must be two shares of the image side, rising"),
        ({"half_sizes": (0.0, 0.2)}, "`half_sizes` must be two shares"),
        ({"min_change": -0.1}, "`min_change` must be in"),
        ({"min_change": 12.0}, "`min_change` must be in"),
    ],
)
def test_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        PseudoAnomalyConfig(**options)
