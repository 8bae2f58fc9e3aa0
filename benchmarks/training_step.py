"""Claim "train step": the released training step as it is written, against ours, on the same network.

The literal step attacks normal and pseudo-anomalous images one after the other, back-propagates into all weights while
attacking and throws those gradients away, computes attention maps in every pass, runs in float32, and back-propagates
four passes at once. Ours merges normal and pseudo-anomalous images, takes pixel gradients only, and back-propagates the
clean half of the loss before it computes the attacked one; before anything is timed, both must give the same loss and
the same weight gradients, in float32. In bfloat16, which is taken where it is faster, ours does the same and rounds
differently, which may change the loss by a fiftieth; how much faster that may be is the ratio of the operations of the
two times the ratio of the peaks of the two dtypes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.memory import memory_row
from benchmarks.pseudo_anomalies import photographs
from benchmarks.roofline import automatic, operations, peak, share_of_peak
from benchmarks.timing import alternate_all
from robustad.attacks import PublishedObjective
from robustad.detectors import PatchGuard, PatchGuardConfig
from robustad.evaluation import BenchmarkRow
from robustad.ops.patches import patch_labels
from robustad.synthesis import PseudoAnomalies
from robustad.training import Batch, PatchGuardMethod, PublishedMethod, ReplayMethod, StepContext, make_fabric, recipe
from robustad.training.average import WeightAverage
from robustad.training.config import TrainingConfig
from robustad.training.losses import attention_maps, published_attention_loss, published_patch_loss

Step = Callable[[], Tensor]
OURS: dict[str, tuple[str, type[PatchGuardMethod], str]] = {
    "merged": ("published", PublishedMethod, "float32"),
    "automatic": ("published", PublishedMethod, "auto"),
    "update": ("default", ReplayMethod, "auto"),
}
"""Our rivals of the literal step: recipe, method and precision."""
_ROUNDED = 0.02  # of the loss, in bfloat16, and of a weight's gradient, where signs of a pixel's flip
_LEAST = 1e-3  # a weight whose gradient is smaller than this share of the largest one is compared with that share


def published_network(*, quick: bool) -> tuple[str, str, int]:
    """The published network, or one that takes seconds: how rows call it, its backbone, pixels of a side."""
    if quick:
        return "ViT-Ti/16 at 112 px", "vit_tiny_patch16_224", 112
    return "ViT-S/14 at 224 px", "vit_small_patch14_dinov2.lvd142m", 224


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all rivals share: the network and one batch.

    Attributes:
        network: How rows call it.
        backbone: Name of the backbone.
        images: Normal images ``(N, 3, S, S)``.
        anomalous: Their pseudo-anomalies.
        masks: Changed pixels ``(N, S, S)``.
    """

    network: str
    backbone: str
    images: Tensor
    anomalous: Tensor
    masks: Tensor

    @classmethod
    def made(cls, *, quick: bool) -> Setting:
        """The published size, or one that takes seconds."""
        network, backbone, size = published_network(quick=quick)
        batch_size = 4 if quick else 16
        images = torch.from_numpy(photographs(batch_size, size)).permute(0, 3, 1, 2).float() / 255
        everywhere = torch.ones(batch_size, size, size) > 0
        anomalous, masks = PseudoAnomalies()(images, everywhere, seeds=range(batch_size))
        return cls(network, backbone, images, anomalous, masks)

    def step(self, name: str) -> tuple[PatchGuard, Step]:
        """A rival's network and its step: ``literal``, or one of `OURS`."""
        detector = _detector(self.backbone, self.images.shape[-1])
        if name == "literal":
            return detector, _literal_step(detector, self, recipe("published").training)
        recipe_name, method, precision = OURS[name]
        config = dataclasses.replace(recipe(recipe_name).training, precision=precision)
        made = method(detector, config, lambda *_a, **_k: (self.anomalous, self.masks))
        batch = Batch(self.images, torch.ones_like(self.masks), list(range(len(self.images))))
        return detector, _step(made, batch, config)


def rival(name: str, *, quick: bool) -> Step:
    """A step by its name, for `benchmarks.memory`."""
    return Setting.made(quick=quick).step(name)[1]


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """The literal step against the merged one, in both dtypes where that pays, and an update of the default recipe."""
    setting = Setting.made(quick=quick)
    detectors, steps = zip(*(setting.step(name) for name in ("literal", *OURS)), strict=True)
    literal, merged, best, update = steps
    _check_equal(literal, detectors[0], merged, detectors[1])
    torch.testing.assert_close(best(), literal(), rtol=_ROUNDED, atol=0)
    published, network = f"published mathematics, {setting.network}", setting.network
    dtype = automatic()
    ours = f"ours in {str(dtype).removeprefix('torch.')}"
    memory = f"train step: {published}, peak memory of a step, literal against {ours}"
    held = memory_row(memory, __name__, "literal", "automatic", quick=quick)  # first: it can fail, and takes minutes
    counts = {step: operations(step) for step in steps}
    rivals = [merged, update, best] if dtype == torch.bfloat16 else [merged, update]
    pairs = dict(zip(rivals, alternate_all(literal, rivals, rounds=5 if quick else 3), strict=True))

    def row(text: str, step: Step, dtype: torch.dtype) -> BenchmarkRow:
        share = share_of_peak(counts[step], pairs[step].ours, dtype)
        return pairs[step].row(f"train step: {text}", per=1, unit="updates/s", share_of_peak=share)

    rows = [row(f"{published}, literal against merged", merged, torch.float32)]
    if best in pairs:
        rows.append(row(f"{published}, literal against {ours}", best, dtype))
    reached = pairs.get(best, pairs[merged]).ratio
    another = f"{network}, literal against one update of the default recipe (another algorithm)"
    limits = _limits(published, counts[literal], counts[merged], reached, dtype)
    return [*rows, *limits, *held, row(another, update, dtype)]


def _limits(published: str, literal: int, ours: int, reached: float, dtype: torch.dtype) -> list[BenchmarkRow]:
    """How many operations the two algorithms take, and how much of what that and the dtypes allow is reached."""
    allowed, name = literal / ours * peak(dtype) / peak(torch.float32), str(dtype).removeprefix("torch.")
    return [
        BenchmarkRow(
            claim=f"train step: {published}, operations of a step, literal against ours",
            baseline=round(literal / 1e9, 1),
            ours=round(ours / 1e9, 1),
            unit="GFLOP",
            ratio=round(literal / ours, 3),
        ),
        BenchmarkRow(
            claim=f"train step: {published}, ratio that operations and peaks allow against the one reached in {name}",
            baseline=round(allowed, 3),
            ours=round(reached, 3),
            unit="times",
            ratio=round(reached / allowed, 3),
        ),
    ]


def _detector(backbone: str, size: int) -> PatchGuard:
    """The published architecture on a network that fits the time; equal weights each time, no dropout to compare."""
    config = dataclasses.replace(PatchGuardConfig.published(image_size=size), backbone=backbone, dropout=0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = PatchGuard(config).train()
    for name, scale in detector.named_parameters():
        if name.endswith(".gamma"):  # DINOv2 begins with 1e-5: blocks would hardly have a gradient to compare
            nn.init.ones_(scale)
    return detector


def _step(method: PatchGuardMethod, batch: Batch, config: TrainingConfig) -> Step:
    """One update as the engine makes it, without its loading of data."""
    fabric = make_fabric(config)
    optimizer = torch.optim.AdamW(method.network.parameters(), lr=0.0, fused=True)
    average = WeightAverage(method.network, config.average_decay)

    def step() -> Tensor:
        optimizer.zero_grad()
        losses = method.loss(method.network, batch, StepContext(10**6, 10**6, 0, fabric)).backward()
        method.after_backward()
        if config.gradient_clip:
            nn.utils.clip_grad_norm_(method.network.parameters(), config.gradient_clip)
        optimizer.step()
        average.update(method.network, 10**6)
        return losses.total

    return step


def _literal_step(detector: PatchGuard, setting: Setting, config: TrainingConfig) -> Step:
    optimizer = torch.optim.AdamW(detector.parameters(), lr=0.0)
    pseudo = patch_labels(setting.masks, detector.patch_size)
    normal = torch.zeros_like(pseudo)

    def passed(x: Tensor) -> tuple[Tensor, list[Tensor]]:
        # not `patch_output`, which replaces operations that are slow on a CPU
        features = detector.features(detector.normalise(x), with_attention=True)
        return detector.discriminator(features.tokens), attention_maps(features.projections, num_dropped=1)

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
        for clean, targets in ((setting.images, normal), (setting.anomalous, pseudo)):
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
    least = _LEAST * max(float(a.norm()) for _, a, _ in gradients)
    for name, a, b in gradients:
        gap = float((a - b).norm()) / max(float(a.norm()), least)
        if gap > _ROUNDED:
            raise RuntimeError(f"the two steps differ: gradient of {name} by a share of {gap:.1e}")
