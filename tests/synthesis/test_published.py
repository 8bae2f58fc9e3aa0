from __future__ import annotations

import dataclasses
import random
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms import ColorJitter

pytest.importorskip("cv2")
pytest.importorskip("noise")

from robustad.errors import MissingExtra
from robustad.synthesis.published import (
    BOUNDS,
    PublishedConfig,
    PublishedGenerator,
    PublishedRandom,
    bounds_for,
    sample_randoms,
)
from robustad.synthesis.published import transforms as T
from robustad.synthesis.published.appearance import draw_jitter
from robustad.synthesis.published.geometry import allowed_area, place
from robustad.training.generators import published_generator

BOTH = pytest.mark.parametrize(
    "generator", [PublishedGenerator(), PublishedGenerator.fixed()], ids=["released", "fixed"]
)


def made_images(num: int = 4, size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, size)[None, :, None, None] + rng.normal(0, 20, (num, size, size, 3))
    return ramp.clip(0, 255).astype(np.uint8)


def disc(size: int = 96, radius: int = 30) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - size // 2
    return rows**2 + columns**2 < radius**2


@BOTH
def test_contract(generator: PublishedGenerator) -> None:
    images = made_images()
    before = images.copy()
    made, masks = generator(images, np.ones(images.shape[:3]), sample_randoms(0, 0, range(4)))
    np.testing.assert_array_equal(images, before)
    assert made.shape == (4, 3, 96, 96)
    assert made.dtype == torch.float32
    assert masks.shape == (4, 96, 96)
    assert masks.dtype == torch.bool
    assert 0 <= made.min() <= made.max() <= 1
    assert masks.flatten(1).any(dim=1).all()
    outside = ~masks.unsqueeze(1).expand_as(made)
    clean = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(made[outside], clean[outside])


def test_a_training_gets_its_own_images_outside_of_the_masks() -> None:
    images = 0.9 / 255 * torch.from_numpy(made_images()).permute(0, 3, 1, 2)
    made, masks = published_generator(None, None, 96)(images, torch.ones(4, 96, 96, dtype=torch.bool), seeds=range(4))
    difference = (made - images).abs().amax(1)
    assert difference[~masks].max() <= 0.5 / 255 + 1e-6 and difference[masks].max() > 0.1


@BOTH
def test_global_random_state_is_untouched(generator: PublishedGenerator) -> None:
    images = made_images(8)
    python, numpy, torch_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    generator(images, np.ones(images.shape[:3]), sample_randoms(0, 0, range(8)))
    assert random.getstate() == python
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy, strict=True))
    assert torch.equal(torch.get_rng_state(), torch_state)


@BOTH
def test_a_sample_depends_on_its_own_stream_only(generator: PublishedGenerator) -> None:
    images = made_images()
    foreground = np.ones(images.shape[:3])
    together, _ = generator(images, foreground, sample_randoms(3, 1, range(4)))
    alone, _ = generator(images[2:3], foreground[2:3], sample_randoms(3, 1, [2]))
    assert torch.equal(together[2], alone[0])
    other_epoch, _ = generator(images, foreground, sample_randoms(3, 2, range(4)))
    assert not torch.equal(together, other_epoch)


def test_jitter_draws_what_torchvision_draws() -> None:
    limits = (0.8, 0.4, 0.9, 0.3)
    reference = ColorJitter(*limits)
    for seed in range(5):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            order, *values = ColorJitter.get_params(
                reference.brightness, reference.contrast, reference.saturation, reference.hue
            )
            after = torch.get_rng_state()
        generator = torch.Generator().manual_seed(seed)
        drawn = draw_jitter(limits, generator)
        assert drawn == (tuple(order.tolist()), *values)
        assert torch.equal(generator.get_state(), after)


def test_fixed_patches_stay_on_the_foreground_and_within_bounds() -> None:
    generator = PublishedGenerator.fixed(lower=8, upper=20)
    foreground = disc()
    area = allowed_area(foreground, generator.config)
    image = made_images(1)[0]
    for stream in sample_randoms(0, 0, range(60)):
        made = generator.generate(image, foreground, stream)
        assert min(made.placement[4:6]) >= 8
        assert max(made.placement[4:6]) <= 20
        assert area[made.mask].all()


def test_released_sizes_ignore_the_upper_bound() -> None:
    config = PublishedConfig(lower=8, upper=20)
    area = np.ones((96, 96), dtype=bool)
    rng = random.Random(0)
    sizes = [max(place(area, rng, config)[4:6]) for _ in range(100)]
    assert np.mean(np.array(sizes) > 20) > 0.3


def test_fallback() -> None:
    # one thin diagonal: no 12 x 12 box fits
    area = np.eye(40, dtype=bool)
    released = [place(area, random.Random(i), PublishedConfig(lower=12, dilation=0)) for i in range(30)]
    assert all(spot.attempts == 251 and spot.width == spot.height == 12 for spot in released)
    assert any(max(spot.x2, spot.y2) + 12 > 40 for spot in released)
    checked = dataclasses.replace(PublishedConfig.fixed(lower=12), dilation=0)
    for i in range(30):
        spot = place(area, random.Random(i), checked)
        assert max(spot[:4]) + 12 <= 40
        assert area[spot.y2 : spot.y2 + 12, spot.x2 : spot.x2 + 12].sum() == 12


def test_unchecked_fallback_crops_black_and_cuts_the_paste() -> None:
    foreground = np.zeros((40, 40), dtype=bool)
    foreground[39, 39] = True
    generator = PublishedGenerator(PublishedConfig(lower=12, dilation=0))
    made = generator.generate(made_images(1, 40)[0], foreground, PublishedRandom.from_seed(0))
    assert made.image.shape == (40, 40, 3)
    assert made.mask.sum() <= 1


@pytest.mark.parametrize("value", [0.0, 254 / 255])
def test_a_foreground_that_vanishes(value: float) -> None:
    images = made_images(1)
    foreground = np.full((1, 96, 96), value)
    with pytest.raises(ValueError, match="`foreground` is empty"):
        PublishedGenerator()(images, foreground, sample_randoms(0, 0, [0]))
    _, masks = PublishedGenerator.fixed()(images, foreground, sample_randoms(0, 0, [0]))
    assert masks.any()


def test_fixed_repairs_every_released_defect() -> None:
    released, fixed = (dataclasses.asdict(config) for config in (PublishedConfig(), PublishedConfig.fixed()))
    same = {name for name in released if released[name] == fixed[name]}
    assert same == {"lower", "upper", "elastic_seed", "max_redraws", "dilation", "max_failures", "size_draws"}


def test_elastic_reseeding_is_one_warp_per_shape() -> None:
    patch = made_images(1, 32)[0]
    first, second = (T.elastic(patch, 40, np.random.RandomState(0)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    rng = np.random.RandomState(0)
    assert not np.array_equal(T.elastic(patch, 40, rng), T.elastic(patch, 40, rng))


def test_perlin_offset_moves_the_noise() -> None:
    patch = made_images(1, 32)[0]
    still = T.perlin(patch, 140, (255, 0, 0), scale=6)
    moved = T.perlin(patch, 140, (255, 0, 0), scale=6, offset=(3.3, 7.1))
    assert not np.array_equal(still, moved)


def test_fixed_anomalies_are_visible() -> None:
    flat = np.full((96, 96, 3), 128, dtype=np.uint8)
    foreground = np.ones((96, 96), dtype=bool)
    weakest = {}
    for name, redraws in (("released", 0), ("fixed", 4)):
        config = dataclasses.replace(PublishedConfig.fixed(), max_redraws=redraws)
        generator = PublishedGenerator(config)
        changes = [generator.generate(flat, foreground, s).change for s in sample_randoms(0, 0, range(60))]
        weakest[name] = np.mean(np.array(changes) < config.min_change)
    assert weakest["released"] > 0.05
    assert weakest["fixed"] < weakest["released"] / 3


def test_bounds() -> None:
    assert bounds_for("mvtec", "screw") == (9, 35)
    assert bounds_for("mvtec", "screw", 112) == (4, 18)
    assert bounds_for("mvtec", "screw", 112, published=True) == (9, 35)
    assert bounds_for("headct", None) == BOUNDS["headct"][""]
    assert bounds_for("visa-csv", "fryum") == bounds_for("visa", "fryum") == (6, 15)
    assert bounds_for("my-parts", "anything") == (14, 86)
    assert bounds_for("my-parts", None, 448) == (28, 172)
    with pytest.raises(ValueError, match="did you mean 'screw'"):
        bounds_for("mvtec", "screws")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"lower": 50, "upper": 20}, "`upper` must not be below"), ({"lower": 0}, "`lower`"), ({"min_change": 2}, "min_")],
)
def test_config_is_checked(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PublishedConfig(**wrong)


def test_arguments_are_checked() -> None:
    generator, images = PublishedGenerator(), made_images(2)
    full = np.ones(images.shape[:3])
    rng = PublishedRandom.from_seed(0)
    with pytest.raises(ValueError, match="`images` must be uint8"):
        generator(images.astype(np.float32), full, rng)
    with pytest.raises(ValueError, match="`foreground` must be"):
        generator(images, full[:1], rng)
    with pytest.raises(ValueError, match="one bundle per image"):
        generator(images, full, [rng])
    with pytest.raises(ValueError, match="lower=14 for"):
        generator(images[:, :10, :10], full[:, :10, :10], rng)


def test_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match=r"robustad\[published\]"):
        T.swirl(made_images(1, 16)[0], 1.0)
