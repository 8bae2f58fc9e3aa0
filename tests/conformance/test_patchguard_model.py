"""Scores, features, attention, input gradients and the published attack, from formula weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustad.attacks import PGD, PublishedObjective
from robustad.detectors.official import load_official
from robustad.training.losses import attention_loss, attention_maps, published_attention_loss, published_patch_loss

from ._official import SMALL, VECTORS, formula_tensors, images, load, needs_vectors, official

pytestmark = needs_vectors
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("config", SMALL)
def test_model(config, dtype):
    arrays, suffix = load(f"model_{config}"), {torch.float64: "f64", torch.float32: "f32"}[dtype]
    detector = official(config, dtype)
    x = images(arrays["images_u8"], dtype).requires_grad_(True)
    features = detector.features(detector.normalise(x), with_attention=True)
    output = detector.patch_output(x, with_attention=True)
    tolerance = {"rtol": 0, "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(features.tokens.detach(), arrays[f"features_{suffix}"], **tolerance)
    np.testing.assert_allclose(output.logits.detach(), arrays[f"scores_{suffix}"], **tolerance)
    for layer, attention in zip(
        detector.features.attention_layers, attention_maps(output.projections, num_dropped=1), strict=True
    ):
        np.testing.assert_allclose(attention.detach(), arrays[f"attn_layer{layer}_{suffix}"], **tolerance)
    (gradient,) = torch.autograd.grad(output.logits.sum(), x)
    wanted = arrays[f"grad_input_{suffix}"]
    share = 1e-9 if dtype == torch.float64 else 1e-3
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=share * np.abs(wanted).max())


def test_default_model_through_the_import(tmp_path):
    for name in ("patchguard_mvtec_bottle.pth", "patchguard_mvtec_bottle_pgd10_last_epoch.pth"):
        torch.save(formula_tensors("default"), tmp_path / name)
        detector = load_official(tmp_path / name)
        arrays = load("model_default")
        with torch.no_grad():
            logits = detector.patch_logits(images(arrays["images_u8"], torch.float32))
        np.testing.assert_allclose(logits, arrays["scores_f32"], rtol=0, atol=1e-4)
    assert detector.top_k == 3 and detector.image_size == 224


@pytest.mark.parametrize("case", ["noreg", "reg", "reg2maps", "regregisters"])
def test_loss(case):
    arrays = load("loss")
    scores = torch.from_numpy(arrays["scores"]).requires_grad_(True)
    names = {"noreg": [], "reg": [0, 1, 2], "reg2maps": [0, 1], "regregisters": [0, 1, 2]}[case]
    prefix = "attn_registers" if case == "regregisters" else "attn"
    maps = [torch.from_numpy(arrays[f"{prefix}{i}"]).requires_grad_(True) for i in names]
    loss = published_patch_loss(scores, torch.from_numpy(arrays["masks"]) > 0)
    if maps:
        pull = published_attention_loss(maps, 16)
        assert pull.item() == pytest.approx(arrays[f"{case}_f64_reg_value"], abs=1e-14)
        loss = loss + pull
    assert loss.item() == pytest.approx(arrays[f"{case}_f64_value"], abs=1e-12)
    gradients = torch.autograd.grad(loss, [scores, *maps])
    np.testing.assert_allclose(gradients[0], arrays[f"{case}_f64_grad_scores"], atol=1e-13)
    for index, gradient in zip(names, gradients[1:], strict=True):
        np.testing.assert_allclose(gradient, arrays[f"{case}_f64_grad_attn{index}"], rtol=1e-9, atol=1e-16)


def test_a_fourth_map_is_refused():
    maps = [torch.full((1, 1, 4, 4), 0.25)] * 4
    with pytest.raises(ValueError, match="4 attention layers need 4 coefficients"):
        published_attention_loss(maps, 4)


@pytest.mark.parametrize("config", SMALL)
def test_the_identity_equals_the_maps(config):
    """Without the 1e-8, and with all prefix tokens dropped, both forms are the same number with the same gradient."""
    detector = official(config)
    x = images(load(f"model_{config}")["images_u8"]).requires_grad_(True)
    coefficients = (0.005, 0.01, 0.05)
    projections = detector.patch_output(x, with_attention=True).projections
    prefix = detector.num_prefix_tokens
    ours = attention_loss(projections, num_prefix_tokens=prefix, coefficients=coefficients)
    maps = attention_maps(projections, num_dropped=prefix)
    u = 1 / detector.num_patches
    theirs = sum(c * (u * (np.log(u) - m.log())).mean() for c, m in zip(coefficients, maps, strict=True))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    a, b = (torch.autograd.grad(value, x, retain_graph=True)[0] for value in (ours, theirs))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12 * b.abs().max().item())


@pytest.mark.parametrize("steps", [10, 3])
@pytest.mark.parametrize("config", ["plain", "reg"])
def test_published_attack(config, steps):
    arrays = load("attack")
    detector = official(config)
    objective = PublishedObjective(detector.patch_logits, torch.from_numpy(arrays[f"{config}_patch_masks"]) > 0)
    clean = images(arrays[f"{config}_images_u8"])
    attacked = PGD.published(steps=steps)(objective, clean, epsilon=8 / 255)
    np.testing.assert_allclose(attacked, arrays[f"{config}_adv_{steps}"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        detector.patch_logits(attacked).detach(), arrays[f"{config}_scores_adv_{steps}"], rtol=0, atol=1e-9
    )


def test_vectors_are_complete():
    assert {path.stem for path in VECTORS.glob("model_*.npz")} == {f"model_{c}" for c in (*SMALL, "default")}
