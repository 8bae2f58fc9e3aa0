"""One step of the released training code, from formula weights: criterion values, gradients, parameters after AdamW."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from robustad.detectors.official_patchguard import rename_official
from robustad.training import Batch, PublishedMethod, StepContext, TrainingConfig
from robustad.training.schedules import published_cosine

from ._official import VECTORS, images, load, needs_vectors, official

pytestmark = needs_vectors
RELEASED_ORDER = ("normal", "attacked", "pseudo", "attacked_pseudo")
RUNS = ("dino_adv3", "plain_adv10", "reg_adv10", "reg_adv3_noreg", "reg_clean_2steps")


def _inert_dropout(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        if isinstance(child, nn.MultiheadAttention):
            child.dropout = 0.0


def _ours(key: str) -> str:
    return next(iter(rename_official({key: torch.zeros(0)})))


def _training(meta):
    return TrainingConfig(
        max_steps=1,
        epsilon=8 / 255 if meta["adv_train"] else 0.0,
        attack_steps=meta["step_train"],
        epsilon_warmup=0.0,
        precision="float32",
        schedule="published",
        learning_rate=8e-4,
        weight_decay=0.01,
    )


@pytest.mark.parametrize("run", RUNS)
def test_step(run):
    meta = json.loads((VECTORS / "train_step_meta.json").read_text())[run]
    arrays, config = load("train_step"), meta["config"]
    detector = official(config).train()
    _inert_dropout(detector)
    if not meta["use_reg"]:
        detector.features.attention_layers = ()
    training = _training(meta)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=8e-4)
    criterion, totals, sizes = [], [], []
    for number, seed in enumerate(meta["data_seeds"]):
        prefix = f"data{seed}_{config}"
        normal = images(arrays[f"{prefix}_images_u8"])
        pseudo = images(arrays[f"{prefix}_augmented_u8"])
        masks = torch.from_numpy(arrays[f"{prefix}_augmented_mask"]) > 0
        method = PublishedMethod(detector, training, lambda *_a, p=pseudo, m=masks, **_k: (p, m))
        batch = Batch(normal, torch.ones_like(masks), [0] * len(normal))
        context = StepContext(0, 1, 0, Fabric(accelerator="cpu", devices=1, precision="64-true"))
        optimizer.zero_grad()
        losses = method.loss(detector, batch, context).backward()
        if number == 0:
            norms = {name: p.grad.norm().item() for name, p in detector.named_parameters() if p.grad is not None}
            for key, wanted in zip(meta["keys"], arrays[f"{run}_first_grad_norms"], strict=True):
                assert norms[_ours(key)] == pytest.approx(wanted, rel=1e-8, abs=1e-9), key
            _compare_gradients(detector, arrays, run)
        optimizer.step()
        criterion += [losses.parts[f"loss_{name}"].item() for name in RELEASED_ORDER if f"loss_{name}" in losses.parts]
        totals.append(losses.total.item())
        sizes.append(len(normal))
    np.testing.assert_allclose(criterion, arrays[f"{run}_criterion_values"], rtol=1e-10)
    mean = np.average(totals, weights=sizes)
    assert mean == pytest.approx(float(arrays[f"{run}_returned_loss"]), rel=1e-10)
    _compare_parameters(detector, arrays, run, meta["keys"])


def _compare_gradients(detector, arrays, run):
    parameters = dict(detector.named_parameters())
    found = [key for key in arrays if key.startswith(f"{run}_grad::")]
    for key in found:
        gradient = parameters[_ours(key.split("::")[1])].grad
        np.testing.assert_allclose(gradient, arrays[key], rtol=1e-7, atol=1e-9 * np.abs(arrays[key]).max() + 1e-12)


def _compare_parameters(detector, arrays, run, keys):
    parameters = dict(detector.named_parameters())
    norms = [parameters[_ours(key)].norm().item() for key in keys]
    np.testing.assert_allclose(norms, arrays[f"{run}_param_norms_after"], rtol=1e-8)
    for key in (key for key in arrays if key.startswith(f"{run}_after::")):
        np.testing.assert_allclose(parameters[_ours(key.split("::")[1])].detach(), arrays[key], rtol=0, atol=1e-8)


@pytest.mark.parametrize("epochs", [10, 1000])
def test_learning_rate_per_epoch(epochs):
    wanted = load("train_step")[f"lr_per_epoch_{epochs}"]
    ours = [8e-4 * published_cosine(epoch, epochs) for epoch in range(len(wanted))]
    np.testing.assert_allclose(ours, wanted, rtol=1e-9)
