"""Every corruption: valid images, repeatable, from itself and the seed alone, stronger with the severity."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from corruption_doubles import images

from robustad.corruptions import CORRUPTIONS, GROUPS, IMAGENET_C, INDUSTRIAL, SEVERITIES, choose, corrupt

every = pytest.mark.parametrize("name", CORRUPTIONS)
WITHOUT_DRAWS = {
    *("defocus", "belt-blur", "jpeg"),
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
}
BY_STRUCTURE = {"frost", "fog"}  # darker layers come nearer to the mean of an image, and hide more of it


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


def distance(changed, clean):
    return (changed - clean).abs().mean().item()


def hidden(changed, clean):
    """Share of the variance that has nothing to do with the clean image."""
    pairs = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] for a, b in zip(changed, clean, strict=True)]
    return 1 - torch.stack(pairs).square().mean().item()


@every
@pytest.mark.parametrize("size", [32, 64, 128])
def test_each_severity_changes_more_than_the_one_before(name, size):
    clean = images(8, size)
    measure = hidden if name in BY_STRUCTURE else distance
    means = [measure(corrupt(clean, name, severity), clean) for severity in SEVERITIES]
    slack = 0.95 if name == "snow" else 1.0  # as published, 3 has fewer and larger flakes than 2
    assert all(after >= slack * before for before, after in pairwise(means)), means
    assert means[-1] > (1.2 if name in BY_STRUCTURE else 1.3) * means[0]


def states():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


@every
def test_an_image_depends_on_itself_and_the_seed_alone(name):
    clean, before = images(), states()
    whole = corrupt(clean, name, 3, seed=4)
    assert states() == before
    torch.manual_seed(1)
    assert torch.equal(whole, corrupt(clean, name, 3, seed=4))
    torch.testing.assert_close(whole[[2, 0]], corrupt(clean[[2, 0]], name, 3, seed=4), rtol=0, atol=0)
    others = [corrupt(clean, name, 3, seed=seed) for seed in range(5, 12)]
    assert any(not torch.equal(whole, other) for other in others) == (name not in WITHOUT_DRAWS)


@every
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 64), (3, 300)])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_any_size_black_images_and_no_image_at_all(name, size, level):
    x = torch.full((2, 3, *size), level)
    changed = corrupt(x, name, 5)
    assert changed.shape == x.shape and changed.isfinite().all()
    assert corrupt(x[:0], name, 5).shape == (0, 3, *size)


def test_groups_are_spelt_out_in_order_and_once():
    assert len(INDUSTRIAL) == 12 and len(IMAGENET_C) == 15
    assert choose(["all"]) == choose(["industrial", "imagenet-c"]) == tuple(CORRUPTIONS) == GROUPS["all"]
    assert choose(["snow", "industrial", "jpeg", "snow"]) == ("snow", *INDUSTRIAL)
    assert choose(["imagenet-c"]) == tuple(IMAGENET_C) and choose([]) == ()
    assert not set(GROUPS) & set(CORRUPTIONS)


def test_wrong_names_and_severities():
    with pytest.raises(ValueError, match=r"`corruption` must be one of .*; got 'vinetting'; did you mean 'vignetting'"):
        corrupt(images(), "vinetting", 1)
    with pytest.raises(ValueError, match=r"`corruptions` must be one of .*; did you mean 'imagenet-c'"):
        choose(["snow", "imagenet_c"])
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match="`severity` must be a whole number from 1 to 5"):
            corrupt(images(), "jpeg", severity)
