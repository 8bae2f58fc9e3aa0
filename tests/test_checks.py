"""Messages name the argument, the rule, the value and what to do."""

from __future__ import annotations

import pytest
import torch

from robustad._checks import check_at_least, check_choice, check_epsilon, check_fraction, check_images


def message(function, *args, **options):
    with pytest.raises(ValueError) as caught:
        function(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_choice():
    assert check_choice("norm", "l2", ["linf", "l2"]) == "l2"
    assert message(check_choice, "data", "mvtc", {"visa": 1, "mvtec": 2}) == (
        "`data` must be one of mvtec, visa; got 'mvtc'; did you mean 'mvtec'?"
    )
    assert message(check_choice, "data", "zzz", ("b", "a")) == "`data` must be one of a, b; got 'zzz'"


@pytest.mark.parametrize("epsilon", [0, 0.0, 8 / 255, 1.0])
def test_epsilon_passes(epsilon):
    assert check_epsilon(epsilon) == epsilon


def test_epsilon():
    assert check_epsilon(3.5, norm="l2") == 3.5
    assert message(check_epsilon, 8.0) == "`epsilon` must be in [0, 1], got 8; for 8 grey levels pass 8/255"
    assert message(check_epsilon, 1.5) == "`epsilon` must be in [0, 1], got 1.5; for 1.5 grey levels pass 1.5/255"
    assert message(check_epsilon, -0.5, norm="l2") == "`epsilon` must not be negative, got -0.5"
    assert message(check_epsilon, float("nan")) == "`epsilon` must not be negative, got nan"


def test_at_least_and_fraction():
    check_at_least("steps", 1, 1)
    check_fraction("share", 0)
    check_fraction("share", 1.0)
    assert message(check_at_least, "steps", 0, 1) == "`steps` must be at least 1, got 0"
    assert message(check_at_least, "steps", float("nan"), 1) == "`steps` must be at least 1, got nan"
    assert message(check_fraction, "share", 1.01) == "`share` must be in [0, 1], got 1.01"
    assert message(check_fraction, "share", float("nan")) == "`share` must be in [0, 1], got nan"


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, 3), torch.zeros(2, 3, 8, 8).byte()]
)
def test_images(images):
    text = message(check_images, images)
    assert "(N, 3, H, W)" in text and str(tuple(images.shape)) in text and str(images.dtype) in text


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_images_pass_as_they_are(dtype):
    images = torch.zeros(0, 3, 4, 4, dtype=dtype)
    assert check_images(images) is images
