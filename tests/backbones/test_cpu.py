"""Operations that are replaced on a CPU: equal results, equal gradients, and only where they can be replaced."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from robustad.backbones import cpu
from robustad.backbones.cpu import bfloat16_attention, fast_on_cpu, patch_products


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("bias", [True, False])
def test_patches_are_convolved_as_by_the_convolution(bias):
    given = [randn(2, 3, 8, 12), randn(5, 3, 4, 4, seed=1), *[randn(5, seed=2)] * bias]
    given = [tensor.requires_grad_(True) for tensor in given]
    ours, theirs = patch_products(*given[:2], given[2] if bias else None), F.conv2d(*given, stride=4)
    torch.testing.assert_close(ours, theirs)
    direction = randn(*theirs.shape, seed=3)
    for a, b in zip(*(torch.autograd.grad((x * direction).sum(), given) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("sharpness", [1.0, 6.0])
def test_attention_errs_by_roundings_of_bfloat16_only(sharpness):
    exact = [randn(2, 3, 40, 16, seed=seed) * (sharpness if seed == 0 else 1) for seed in range(3)]
    exact = [tensor.bfloat16().double() for tensor in exact]
    direction = randn(2, 3, 40, 16, seed=4).bfloat16().double()

    def found(attention, dtype):
        given = [tensor.to(dtype).requires_grad_(True) for tensor in exact]
        result = attention(*given)
        gradients = torch.autograd.grad((result * direction.to(dtype)).sum(), given)
        return [tensor.double() for tensor in (result, *gradients)]

    wanted = found(F.scaled_dot_product_attention, torch.float64)
    for value, right in zip(found(bfloat16_attention, torch.bfloat16), wanted, strict=True):
        # a rounding is 2**-9 of a number; products of queries and keys are rounded before the softmax, too
        assert (value - right).norm() / right.norm() < 2**-9 * (2 + 2 * sharpness)


def test_the_backward_of_attention_keeps_no_maps(kept_for_backward):
    given = [randn(2, 3, 40, 4, seed=seed, dtype=torch.bfloat16).requires_grad_(True) for seed in range(3)]
    with kept_for_backward() as kept:
        result = bfloat16_attention(*given)
        assert result.requires_grad and max(entry.tensor.numel() for entry in kept) <= 2 * 3 * 40 * 4


@pytest.fixture
def replaced(monkeypatch):
    """Names of the replacements that are called."""
    calls = []
    for name in ("patch_products", "bfloat16_attention"):
        original = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *a, _n=name, _f=original: calls.append(_n) or _f(*a))
    return calls


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 4}, True),
        ({"stride": (4, 4)}, True),
        ({"stride": 2}, False),
        ({"stride": 4, "padding": 1}, False),
        ({"stride": 4, "dilation": 2}, False),
        ({"stride": (4, 2)}, False),
    ],
)
def test_only_patches_side_by_side_are_replaced(replaced, options, expected):
    images, weight = randn(1, 3, 8, 8), randn(2, 3, 4, 4, seed=1)
    with fast_on_cpu(images):
        result = F.conv2d(images, weight, **options)
    assert replaced == ["patch_products"] * expected
    torch.testing.assert_close(result, F.conv2d(images, weight, **options))


def test_images_that_patches_do_not_fill_are_convolved(replaced):
    images, weight = randn(1, 3, 9, 8), randn(2, 3, 4, 4, seed=1)
    with fast_on_cpu(images):
        assert F.conv2d(images, weight, stride=4).shape == (1, 2, 2, 2)
    assert replaced == []


@pytest.mark.parametrize(
    ("dtype", "options", "expected"),
    [
        (torch.bfloat16, {}, True),
        (torch.float32, {}, False),
        (torch.bfloat16, {"is_causal": True}, False),
        (torch.bfloat16, {"dropout_p": 0.5}, False),
        (torch.bfloat16, {"scale": 0.1}, False),
        (torch.bfloat16, {"attn_mask": torch.ones(5, 5, dtype=torch.bool)}, False),
    ],
)
def test_only_plain_attention_in_bfloat16_is_replaced(replaced, dtype, options, expected):
    given = [randn(1, 2, 5, 4, seed=seed, dtype=dtype) for seed in range(3)]
    with fast_on_cpu(given[0]):
        assert F.scaled_dot_product_attention(*given, **options).shape == (1, 2, 5, 4)
    assert replaced == ["bfloat16_attention"] * expected


def test_under_autocast_attention_is_replaced(replaced):
    given = [randn(1, 2, 5, 4, seed=seed, dtype=torch.float32) for seed in range(3)]
    with fast_on_cpu(given[0]), torch.autocast("cpu", dtype=torch.bfloat16):
        assert F.scaled_dot_product_attention(*given).dtype == torch.bfloat16
    assert replaced == ["bfloat16_attention"]


def test_elsewhere_nothing_is_replaced(replaced):
    given = [torch.empty(1, 2, 5, 4, device="meta", dtype=torch.bfloat16) for _ in range(3)]
    with fast_on_cpu(given[0]):
        F.scaled_dot_product_attention(*given)
    assert replaced == []
