"""Claim "train step": the released training step as it is written, against ours, on the same network.

The literal step attacks normal and pseudo-anomalous images one after the other, back-propagates into all weights while
attacking and throws those gradients away, computes attention maps in every pass, runs in float32, and takes the loss in
four passes. Ours merges the groups and takes pixel gradients only; before anything is timed, both must give the same
loss and the same weight gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.pseudo_anomalies import photographs
from benchmarks.timing import alternate
from robustad.attacks import PublishedObjective
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.evaluation import BenchmarkRow
from robustad.ops.patches import patch_labels
from robustad.synthesis import PseudoAnomalies
from robustad.training import Batch, PatchGuardMethod, PublishedMethod, ReplayMethod, StepContext, make_fabric, recipe
from robustad.training.config import TrainingConfig
from robustad.training.losses import attention_maps, published_attention_loss, published_patch_loss

Step = Callable[[], Tensor]


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """The literal step against the merged one, and against an update of the default recipe."""
    batch_size, size = (4, 112) if quick else (16, 224)
    backbone = "vit_tiny_patch16_224" if quick else "vit_small_patch14_dinov2.lvd142m"
    network = f"ViT-{'Ti/16' if quick else 'S/14'} at {size} px"
    images = torch.from_numpy(photographs(batch_size, size)).permute(0, 3, 1, 2).float() / 255
    anomalous, masks = PseudoAnomalies()(images, torch.ones(batch_size, size, size) > 0, seeds=range(batch_size))
    batch = Batch(images, torch.ones_like(masks), list(range(batch_size)))

    def made(name: str, method: type[PatchGuardMethod]) -> tuple[PatchGuard, Step]:
        detector = _detector(backbone, size)
        config = recipe(name).training
        return detector, _step(method(detector, config, lambda *_a, **_k: (anomalous, masks)), batch, config)

    slow = _detector(backbone, size)
    literal = _literal_step(slow, images, anomalous, masks, recipe("published").training)
    fast, merged = made("published", PublishedMethod)
    _check_equal(literal, slow, merged, fast)
    rounds = 2 if quick else 3
    rows = [
        alternate(literal, merged, rounds=rounds).row(
            f"train step: published mathematics, {network}, literal against merged", per=1, unit="updates/s"
        )
    ]
    _, update = made("default", ReplayMethod)
    rows.append(
        alternate(literal, update, rounds=rounds).row(
            f"train step: {network}, literal against one update of the default recipe (another algorithm)",
            per=1,
            unit="updates/s",
        )
    )
    return rows


def _detector(backbone: str, size: int) -> PatchGuard:
    """The published architecture on a network that fits the time; equal weights each time, no dropout to compare."""
    config = dataclasses.replace(PatchGuardConfig.published(image_size=size), backbone=backbone, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PatchGuard(config).train()


def _step(method: PatchGuardMethod, batch: Batch, config: TrainingConfig) -> Step:
    """One update as the engine makes it, without its loading of data."""
    fabric = make_fabric(config)
    optimizer = torch.optim.AdamW(method.network.parameters(), lr=0.0)

    def step() -> Tensor:
        losses = method.loss(method.network, batch, StepContext(10**6, 10**6, 0, fabric))
        optimizer.zero_grad()
        losses.total.backward()
        method.after_backward()
        optimizer.step()
        return losses.total.detach()

    return step


def _literal_step(
    detector: PatchGuard, images: Tensor, anomalous: Tensor, masks: Tensor, config: TrainingConfig
) -> Step:
    optimizer = torch.optim.AdamW(detector.parameters(), lr=0.0)
    pseudo = patch_labels(masks, detector.patch_size)
    normal = torch.zeros_like(pseudo)

    def passed(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        output = detector.patch_output(x, with_attention=True)
        return output.logits, attention_maps(output.projections, num_dropped=1)

    def attacked(clean: Tensor, targets: Tensor) -> Tensor:
        objective, x = PublishedObjective(lambda x: passed(x)[0], targets), clean
        for _ in range(config.attack_steps):
            x = x.detach().requires_grad_(True)
            objective(x, torch.arange(len(x))).sum().backward()  # into the weights, too: as released
            assert x.grad is not None
            moved = x.detach() + 2.5 * config.epsilon / config.attack_steps * x.grad.sign()
            x = (clean + (moved - clean).clamp(-config.epsilon, config.epsilon)).clamp(0, 1)
        return x.detach()

    def loss(x: Tensor, targets: Tensor) -> Tensor:
        logits, maps = passed(x)
        return published_patch_loss(logits, targets) + published_attention_loss(maps, detector.num_patches)

    def step() -> Tensor:
        total = torch.zeros(())
        for clean, targets in ((images, normal), (anomalous, pseudo)):
            worst = attacked(clean, targets)
            total = total + loss(clean, targets) + loss(worst, targets)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.detach()

    return step


def _check_equal(literal: Step, slow: nn.Module, merged: Step, fast: nn.Module) -> None:
    """Same loss, same gradients: otherwise there is nothing to compare."""
    torch.testing.assert_close(merged(), literal(), rtol=1e-3, atol=1e-3)
    pairs = zip(slow.named_parameters(), fast.parameters(), strict=True)
    gradients = [(name, a.grad, b.grad) for (name, a), b in pairs if a.grad is not None and b.grad is not None]
    scale = max(float(a.norm()) for _, a, _ in gradients)
    for name, a, b in gradients:
        gap = float((a - b).norm()) / scale
        if gap > 1e-2:
            raise RuntimeError(f"the two steps differ: gradient of {name} by {gap:.1e} of the largest one")
