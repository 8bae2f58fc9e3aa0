"""Losses against sums by hand, and the attention identity against attention maps."""

from __future__ import annotations

import math

import pytest
import torch

from robustad.training import losses
from robustad.training.losses import (
    PUBLISHED_COEFFICIENTS,
    attention_loss,
    attention_maps,
    balanced_patch_loss,
    published_attention_loss,
    published_attention_losses,
    published_patch_loss,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def entropy(logit, target):
    """Cross-entropy of one logit, by its definition."""
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p if target else 1 - p)


LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, -3.0, 1.0]], dtype=torch.float64)
TARGETS = torch.tensor([[True, False, False], [False, False, True]])


def test_published_is_the_mean_over_images_of_the_sum_over_patches():
    wanted = sum(entropy(x, t) for x, t in zip(LOGITS.flatten().tolist(), TARGETS.flatten().tolist(), strict=True)) / 2
    assert published_patch_loss(LOGITS, TARGETS).item() == pytest.approx(wanted, rel=1e-12)


def test_balanced_is_a_mean_of_each_kind():
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.5, 1.0]], dtype=torch.float64)
    anomalous = (entropy(2.0, True) + entropy(1.0, True)) / 2
    normal = (entropy(-1.0, False) + entropy(0.0, False) + 0.5 * entropy(-3.0, False)) / 2.5
    assert balanced_patch_loss(LOGITS, TARGETS, weights).item() == pytest.approx(normal + anomalous, rel=1e-12)


def test_per_image_a_large_anomaly_weighs_as_much_as_a_small_one():
    logits = torch.cat([LOGITS, LOGITS.new_tensor([[-1.0, -2.0, -3.0]])])
    targets = torch.cat([TARGETS, torch.tensor([[False, True, True]])])
    weights = torch.ones_like(logits)
    weights[2, 2] = 0.5
    large = (entropy(-2.0, True) + 0.5 * entropy(-3.0, True)) / 1.5
    anomalous = (entropy(2.0, True) + entropy(1.0, True) + large) / 3
    normal = sum(entropy(x, False) for x in (-1.0, 0.5, 0.0, -3.0, -1.0)) / 5
    found = balanced_patch_loss(logits, targets, weights, per_image=True)
    assert found.item() == pytest.approx(normal + anomalous, rel=1e-12)


def test_balanced_does_not_depend_on_how_many_normal_patches_there_are():
    """Normal patches a hundred times over: the anomalous ones keep their gradient."""
    one = LOGITS.clone().requires_grad_(True)
    (alone,) = torch.autograd.grad(balanced_patch_loss(one, TARGETS, torch.ones_like(one)), one)
    many = torch.cat([LOGITS, LOGITS.new_zeros(100, 3)]).requires_grad_(True)
    targets = torch.cat([TARGETS, TARGETS.new_zeros(100, 3)])
    (crowded,) = torch.autograd.grad(balanced_patch_loss(many, targets, torch.ones_like(many)), many)
    torch.testing.assert_close(crowded[:2][TARGETS], alone[TARGETS])


@pytest.mark.parametrize("target", [True, False])
def test_balanced_with_one_kind_only_is_finite(target):
    targets = torch.full((2, 3), target)
    loss = balanced_patch_loss(LOGITS, targets, torch.ones_like(LOGITS))
    assert loss.item() == pytest.approx(sum(entropy(x, target) for x in LOGITS.flatten().tolist()) / 6)
    assert balanced_patch_loss(LOGITS, targets, torch.zeros_like(LOGITS)).item() == 0


def projections(tokens, layers=2, seed=0):
    return [
        (randn(2, 3, tokens, 4, seed=seed + 2 * i), randn(2, 3, tokens, 4, seed=seed + 2 * i + 1))
        for i in range(layers)
    ]


def test_maps_are_softmax_over_all_tokens_before_dropping():
    (queries, keys), *_ = projections(7)
    (dropped,) = attention_maps([(queries, keys)], num_dropped=2)
    for n, head, i in ((0, 0, 2), (1, 2, 6)):
        raw = [math.exp(sum(queries[n, head, i] * keys[n, head, j]).item() / 2) for j in range(7)]
        wanted = [value / sum(raw) for value in raw][2:]
        assert dropped[n, head, i - 2].tolist() == pytest.approx(wanted, rel=1e-10)
    assert dropped.shape == (2, 3, 5, 5)


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("sharpness", [1.0, 8.0])
@pytest.mark.parametrize("piece", [1, losses._PIECE])
def test_the_identity_equals_the_maps_and_their_gradients(prefix, sharpness, piece, monkeypatch):
    monkeypatch.setattr(losses, "_PIECE", piece)  # image by image, and all at once
    made = [(sharpness * q, k) for q, k in projections(prefix + 9)]
    for pair in made:
        for tensor in pair:
            tensor.requires_grad_(True)
    flat = [tensor for pair in made for tensor in pair]
    coefficients = (0.3, 0.7)
    ours = attention_loss(made, num_prefix_tokens=prefix, coefficients=coefficients)
    u = 1 / 9
    theirs = sum(
        c * (u * (math.log(u) - attention.log())).mean()
        for c, attention in zip(coefficients, attention_maps(made, num_dropped=prefix), strict=True)
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-10)
    for a, b in zip(torch.autograd.grad(ours, flat), torch.autograd.grad(theirs, flat), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("piece", [1, losses._PIECE])
def test_the_published_pull_in_pieces_equals_that_of_whole_maps(piece, monkeypatch):
    monkeypatch.setattr(losses, "_PIECE", piece)
    made = [(20 * q, k) for q, k in projections(7)]  # peaked: the 1e-8 inside of the logarithm counts
    flat = [tensor.requires_grad_(True) for pair in made for tensor in pair]
    weights, coefficients = torch.tensor([0.3, 2.0], dtype=torch.float64), (0.3, 0.7)
    ours = published_attention_losses(made, 6, coefficients)
    maps = attention_maps(made, num_dropped=1)
    theirs = torch.stack([published_attention_loss([m[n] for m in maps], 6, coefficients) for n in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    exact = attention_loss(made, num_prefix_tokens=1, coefficients=coefficients)
    assert abs(ours.mean().item() - exact.item()) > 1e-6
    found = (torch.autograd.grad((x * weights).sum(), flat) for x in (ours, theirs))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("pull", ["identity", "published"])
def test_nothing_as_large_as_a_map_is_kept(pull, kept_for_backward):
    tokens = 60
    made = [tuple(tensor.requires_grad_(True) for tensor in pair) for pair in projections(tokens, 1)]
    with kept_for_backward() as kept:
        if pull == "identity":
            loss = attention_loss(made, num_prefix_tokens=1, coefficients=(1.0,))
        else:
            loss = published_attention_losses(made, tokens - 1, (1.0,)).sum()
        assert loss.requires_grad
        assert max(entry.tensor.numel() for entry in kept) <= made[0][0].numel() < 2 * 3 * tokens**2 / 10


def test_values_alone_need_no_gradient():
    made = projections(9)
    with torch.no_grad():
        alone = attention_loss(made, num_prefix_tokens=0, coefficients=(0.3, 0.7))
    assert not alone.requires_grad
    flat = [tuple(tensor.requires_grad_(True) for tensor in pair) for pair in made]
    torch.testing.assert_close(attention_loss(flat, num_prefix_tokens=0, coefficients=(0.3, 0.7)).detach(), alone)


def test_uniform_attention_has_no_loss_and_peaked_attention_has():
    zero = [(torch.zeros(1, 2, 9, 4, dtype=torch.float64),) * 2]
    assert attention_loss(zero, num_prefix_tokens=0, coefficients=(1.0,)).abs() < 1e-12
    peaked = attention_loss(projections(9, 1), num_prefix_tokens=0, coefficients=(1.0,))
    assert peaked > 0
    scaled = attention_loss([(5 * q, k) for q, k in projections(9, 1)], num_prefix_tokens=0, coefficients=(1.0,))
    assert scaled > peaked


def test_published_form_by_hand():
    attention = torch.tensor([[[[0.9, 0.1], [0.25, 0.75]]]], dtype=torch.float64)
    terms = [0.5 * (math.log(0.5) - math.log(a + 1e-8)) for a in (0.9, 0.1, 0.25, 0.75)]
    wanted = 0.005 * sum(terms) / 4 + 0.01 * sum(terms) / 4
    assert published_attention_loss([attention, attention], 2).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_projections_are_summed_in_float32(autocast):
    exact = [(q.float(), k.float()) for q, k in projections(60, 1)]
    half = [(q.bfloat16(), k.bfloat16()) for q, k in exact]
    wanted = attention_loss([(q.float(), k.float()) for q, k in half], num_prefix_tokens=0, coefficients=(1.0,))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        loss = attention_loss(half, num_prefix_tokens=0, coefficients=(1.0,))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, wanted)


def test_a_layer_without_coefficient_is_refused():
    with pytest.raises(ValueError, match="2 attention layers need 2 coefficients, got 1"):
        attention_loss(projections(4), num_prefix_tokens=0, coefficients=(1.0,))
    assert len(PUBLISHED_COEFFICIENTS) == 3
