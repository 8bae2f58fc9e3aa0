"""One training step of PatchGuard: pseudo-anomalies, attacks on all images at once, one loss.

The released algorithm attacks and evaluates four groups one after the other (normal and pseudo-anomalous images, clean
and attacked), in train mode, and back-propagates into all weights while attacking. Images do not influence each other,
so here normal and pseudo-anomalous ones share their passes, and attacks take gradients with respect to pixels only.
Same mathematics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._devices import device_of, to_device
from robustad._random import torch_generator
from robustad.attacks import Ball, PublishedObjective, value_and_grad
from robustad.detectors import PatchGuard
from robustad.ops.patches import patch_labels
from robustad.training.batches import Batch
from robustad.training.config import TrainingConfig
from robustad.training.engine import Losses, StepContext
from robustad.training.generators import Generator
from robustad.training.losses import (
    PUBLISHED_COEFFICIENTS,
    attention_loss,
    balanced_patch_loss,
    published_attention_losses,
    published_patch_loss,
)
from robustad.training.schedules import epsilon_at


class PatchGuardMethod(ABC):
    """What both recipes share: who is attacked, and how the groups are put together.

    Args:
        detector: The detector to train.
        config: Options.
        generator: Maker of pseudo-anomalies.
    """

    forward_methods: tuple[str, ...] = ("patch_output",)
    compiled_parts: tuple[str, ...] = ("features", "discriminator")

    def __init__(self, detector: PatchGuard, config: TrainingConfig, generator: Generator) -> None:
        self.network, self.config, self.generator = detector, config, generator

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """See `Method.loss`."""
        images, masks = self.groups(batch, device_of(self.network))
        epsilon = self.epsilon(context)

        @contextmanager
        def passes() -> Iterator[None]:
            with context.fabric.autocast(), self.network.leaving_out(batch.sources):
                yield

        with passes():
            attacked = self.attack(images, masks, epsilon, [*batch.seeds, *batch.seeds]) if epsilon else None
            losses = self.group_losses(network, images, attacked, masks)
        return losses if losses.rest is None else losses._replace(rest=passes()(losses.rest))

    def groups(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normal, then pseudo-anomalous images ``(2 * N, 3, S, S)``, and their masks, on the device."""
        anomalous, masks = self.generator(batch.images, batch.foreground, seeds=batch.seeds)
        images, masks = torch.cat([batch.images, anomalous]), torch.cat([torch.zeros_like(masks), masks])
        return to_device(images, device), to_device(masks, device)

    def epsilon(self, context: StepContext) -> float:
        """Attack radius of a step."""
        config, total = self.config, context.total or 10**9
        return epsilon_at(context.step, total, epsilon=config.epsilon, warmup=config.epsilon_warmup)

    def after_backward(self) -> None:  # noqa: B027 - only replays carry something
        """Nothing is carried from step to step."""

    def carried(self) -> dict[str, Tensor]:
        """Nothing is carried from step to step."""
        return {}

    def restore(self, carried: dict[str, Tensor]) -> None:  # noqa: B027 - only replays carry something
        """Nothing is carried from step to step."""

    @abstractmethod
    def attack(self, images: Tensor, masks: Tensor, epsilon: float, seeds: Sequence[int]) -> Tensor:
        """Attacked images ``(N, 3, S, S)``."""

    @abstractmethod
    def group_losses(self, network: Any, images: Tensor, attacked: Tensor | None, masks: Tensor) -> Losses:
        """The loss of clean and attacked images."""


class PublishedMethod(PatchGuardMethod):
    """The released recipe's step.

    A sum of four terms (normal, attacked normal, pseudo-anomalous, attacked pseudo-anomalous), each the mean over
    images of the summed patch losses plus the attention term; the attack raises normal and lowers anomalous patches.
    Clean and attacked terms are back-propagated one after the other, which halves the memory of a step.

    Source: PatchGuard, released ``train_model.py``, ``attack.py``, ``loss.py``. The attention maps lose one token,
    whatever the number of prefix tokens, as released.
    """

    def attack(self, images: Tensor, masks: Tensor, epsilon: float, seeds: Sequence[int]) -> Tensor:
        """Signed ascent without random start, last iterate, in train mode (dropout differs from step to step)."""
        objective = PublishedObjective(self.network.patch_logits, patch_labels(masks, self.network.patch_size))
        ball, x = Ball(images, epsilon), images
        for _ in range(self.config.attack_steps):
            _, gradient = value_and_grad(objective, x)
            x = ball.clip(x + 2.5 * epsilon / self.config.attack_steps * ball.direction(gradient))
        return x

    def group_losses(self, network: Any, images: Tensor, attacked: Tensor | None, masks: Tensor) -> Losses:
        """Clean groups, and attacked ones as the rest: each half of the sum in its own pass."""
        clean = self._sum(network, images, masks, ("normal", "pseudo"))
        if attacked is None:
            return clean
        return clean._replace(rest=lambda: self._sum(network, attacked, masks, ("attacked", "attacked_pseudo")))

    def _sum(self, network: Any, images: Tensor, masks: Tensor, names: tuple[str, str]) -> Losses:
        """The terms of normal and of pseudo-anomalous images ``(2 * N, 3, S, S)``."""
        targets = patch_labels(masks, self.network.patch_size).chunk(2)
        output = network.patch_output(images, with_attention=bool(self.network.features.attention_layers))
        logits = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32)).chunk(2)
        values = [published_patch_loss(*group) for group in zip(logits, targets, strict=True)]
        if output.projections:
            pulls = published_attention_losses(output.projections, self.network.num_patches).chunk(2)
            values = [value + pull.mean() for value, pull in zip(values, pulls, strict=True)]
        figures = {f"loss_{name}": value.detach() for name, value in zip(names, values, strict=True)}
        return Losses(torch.stack(values).sum(), figures)


class DefaultMethod(PatchGuardMethod):
    """Our step: same detector and same game, other weights.

    Deviations, each with its reason: normal and anomalous patches weigh the same (the published sum lets the few
    anomalous ones drown); patches that a mask hardly touches are left out (their label is arbitrary); the attack
    climbs the loss itself from a random start, few steps (cheaper, and no gradient masking through a fixed start);
    attention is regularised by the exact identity instead of through maps.
    """

    min_share = 0.1  # a patch is anomalous from this share of its pixels on, and left out below it

    def attack(self, images: Tensor, masks: Tensor, epsilon: float, seeds: Sequence[int]) -> Tensor:
        """Signed ascent on the loss from a random start."""
        targets, weights = self._targets(masks)
        steps = self.config.attack_steps
        share = 1.0 if steps == 1 else max(2.5 / steps, 1.25 / steps**0.5)

        def objective(x: Tensor, _index: Tensor) -> Tensor:
            logits = self.network.patch_logits(x).float()
            return self._patch_loss(logits, targets, weights).expand(1)

        ball = Ball(images, epsilon)
        x = ball.start(_noise(images, seeds))
        for _ in range(steps):
            _, gradient = value_and_grad(objective, x)
            x = ball.clip(x + share * epsilon * ball.direction(gradient))
        return x

    def group_losses(self, network: Any, images: Tensor, attacked: Tensor | None, masks: Tensor) -> Losses:
        """Balanced patch loss of attacked images and, with its share, of clean ones."""
        targets, weights = self._targets(masks)
        share = 1.0 if attacked is None else self.config.clean_fraction
        groups = [images] * (share > 0) + ([] if attacked is None else [attacked])
        output = network.patch_output(torch.cat(groups), with_attention=bool(self.network.features.attention_layers))
        losses = [self._patch_loss(part.float(), targets, weights) for part in output.logits.split(len(images))]
        clean = losses[0] if share > 0 else None
        total = losses[-1] if clean is None or attacked is None else share * clean + (1 - share) * losses[-1]
        if output.projections:
            layers = len(output.projections)
            pull = attention_loss(
                output.projections,
                num_prefix_tokens=self.network.num_prefix_tokens,
                coefficients=PUBLISHED_COEFFICIENTS[:layers],
            )
            total = total + pull
        parts = {} if clean is None else {"loss_clean": clean.detach()}
        if attacked is not None:
            parts["loss_attacked"] = losses[-1].detach()
        return Losses(total, parts)

    def _patch_loss(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        return balanced_patch_loss(logits, targets, weights, per_image=self.config.balance == "images")

    def _targets(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Patch labels and weights ``(N, P)`` of pixel masks ``(N, S, S)``."""
        share = F.avg_pool2d(masks[:, None].float(), self.network.patch_size).flatten(1)
        strongest = share == share.amax(1, keepdim=True)  # a small anomaly keeps its best patch
        targets = (share >= self.min_share) | (strongest & (share > 0))
        return targets, (targets | (share == 0)).float()


class ReplayMethod(DefaultMethod):
    """The default step with "free" attacks: every update moves the weights down and the perturbation up.

    Each batch is replayed for ``config.replays`` updates; a perturbation starts at random and climbs the loss with the
    gradient that the update computes anyway, so robustness costs no pass of its own.

    Source: Shafahi et al., "Adversarial training for free!", NeurIPS 2019. Differs: the perturbation starts afresh with
    each batch, since batches are not kept in order.
    """

    def __init__(self, detector: PatchGuard, config: TrainingConfig, generator: Generator) -> None:
        super().__init__(detector, config, generator)
        self._seeds: list[int] = []
        self._offset_seeds: list[int] = []
        self._images, self._masks = torch.empty(0), torch.empty(0)
        self._offset, self._input = torch.empty(0), torch.empty(0)
        self._epsilon = 0.0

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """See `Method.loss`."""
        self._epsilon = self.epsilon(context)
        if batch.seeds != self._seeds:
            self.begin(batch, device_of(self.network))
        self._offset = self._offset.to(self._images.device)  # a resumed one was read on the CPU
        offset = self._offset.clamp(-self._epsilon, self._epsilon)
        goes_on = (context.step + 1) % self.config.updates_per_batch > 0  # else nobody sees where it would move
        self._input = (self._images + offset).clamp(0, 1).detach().requires_grad_(goes_on)
        with context.fabric.autocast(), self.network.leaving_out(batch.sources):
            losses = self.group_losses(network, self._input, None, self._masks)
        return Losses(losses.total, {})  # the total is the attacked loss

    def begin(self, batch: Batch, device: torch.device) -> None:
        """Make the anomalies and random starts of a batch."""
        self._images, self._masks = self.groups(batch, device)
        if batch.seeds != self._offset_seeds:  # equal right after a resume in the middle of a batch
            self._offset = self._epsilon * _noise(self._images, [*batch.seeds, *batch.seeds])
        self._seeds = self._offset_seeds = batch.seeds

    def after_backward(self) -> None:
        """Move the perturbation up the loss, unless its batch is done with."""
        if not self._input.requires_grad:
            return
        assert self._input.grad is not None
        epsilon = self._epsilon
        self._offset = self._offset.add_(self._input.grad.sign_(), alpha=epsilon).clamp_(-epsilon, epsilon)

    def carried(self) -> dict[str, Tensor]:
        """The perturbation of the batch that is being replayed."""
        return {"offset": self._offset, "seeds": torch.tensor(self._offset_seeds, dtype=torch.int64)}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Go on with a perturbation; its batch is made again from its seeds."""
        self._offset, self._offset_seeds = carried["offset"], carried["seeds"].tolist()


def _noise(images: Tensor, seeds: Sequence[int]) -> Tensor:
    """Uniform noise in [-1, 1], each field from its image's seed; clean and pseudo-anomalous halves differ."""
    fields = [
        torch.rand(images.shape[1:], generator=torch_generator(seed, "attack", int(i >= len(seeds) // 2)))
        for i, seed in enumerate(seeds)
    ]
    return to_device(torch.stack(fields), images.device) * 2 - 1
