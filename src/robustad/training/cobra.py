"""One training step of COBRA: blocks, views, three attacks that share their passes, one loss.

The released algorithm runs its three attacks one after the other, each pass with the gradients of all weights. Here the
target features of an attack are computed once, since neither they nor the weights change while it runs, and all attacks
climb in the same passes with gradients of pixels only. Same mathematics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustad._checks import check_choice, check_fraction
from robustad._devices import device_of, to_device
from robustad._random import derive_seed, torch_generator
from robustad.attacks.projections import Ball
from robustad.detectors.cobra import Cobra
from robustad.ops.views import TRAINING_CROP, augmented, flipped
from robustad.synthesis import LikelihoodFilter
from robustad.training.batches import Batch
from robustad.training.config import TrainingConfig
from robustad.training.contrastive import (
    block_labels,
    block_loss,
    contrastive_loss,
    similarity_loss,
    unit,
    uses_classes,
)
from robustad.training.engine import Losses, StepContext
from robustad.training.schedules import epsilon_at

ADVERSARIES = ("released", "figure")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CobraLossConfig:
    """What COBRA's training minimises.

    Attributes:
        loss: ``cls``, ``cl``, ``supcl``, ``opposite``, ``cobra`` or ``cobra+cls``, which is the paper's.
        adversary: ``released``: three attacks (positive pairs, opposite pairs, classes); ``figure``: one attack that
            climbs the loss itself, as the paper's main figure draws it.
        filter_share: A pseudo-anomaly must be less likely than all but this share of the normal images, see
            `robustad.synthesis.LikelihoodFilter`; 0 = no filter, as released.
    """

    loss: str = "cobra+cls"
    adversary: str = "released"
    filter_share: float = 0.0

    def __post_init__(self) -> None:
        similarity_loss(self.loss)
        check_choice("adversary", self.adversary, ADVERSARIES)
        check_fraction("filter_share", self.filter_share)


@dataclasses.dataclass(frozen=True)
class Views:
    """Two views of a batch, each K blocks of B images, block by block ``(K * B, 3, S, S)``."""

    first: Tensor
    second: Tensor


class CobraMethod:
    """The step of COBRA.

    Args:
        detector: The detector to train.
        config: Options of engine and attack.
        losses: Options of the loss.
        likelihood: Rejects pseudo-anomalies that look normal; None = all are taken.
    """

    forward_methods: tuple[str, ...] = ("features",)
    compiled_parts: tuple[str, ...] = ("backbone",)

    def __init__(
        self,
        detector: Cobra,
        config: TrainingConfig,
        losses: CobraLossConfig | None = None,
        likelihood: LikelihoodFilter | None = None,
    ) -> None:
        self.network, self.config, self.losses = detector, config, losses or CobraLossConfig()
        self.likelihood = likelihood

    def loss(self, network: Any, batch: Batch, context: StepContext) -> Losses:
        """See `Method.loss`."""
        batch = batch._replace(images=to_device(batch.images, device_of(self.network)))
        views = self.views(batch, derive_seed(self.config.seed, "views", context.step))
        epsilon = epsilon_at(
            context.step, context.total or 10**9, epsilon=self.config.epsilon, warmup=self.config.epsilon_warmup
        )
        with context.fabric.autocast():
            attacked = self.attacked(views, epsilon, context.step) if epsilon else {}
            return self.total(network, views, attacked)

    def views(self, batch: Batch, seed: int) -> Views:
        """Two independently drawn views: mirrored, made into blocks, augmented."""
        made = []
        for number in range(2):
            random = np.random.RandomState(derive_seed(seed, number) % 2**32)
            images = flipped(batch.images, random) if self.network.config.mirror else batch.images
            blocks = [
                self._block(images, block, [derive_seed(s, number, block) for s in batch.seeds])
                for block in range(self.network.config.num_blocks)
            ]
            crop = TRAINING_CROP if self.network.config.crop else None
            made.append(augmented(torch.cat(blocks), random, crop=crop, jitter=self.network.config.jitter).clamp(0, 1))
        return Views(*made)

    def _block(self, images: Tensor, block: int, seeds: list[int]) -> Tensor:
        """Images of a block; the pseudo-anomalous ones pass the filter, if there is one."""

        def make(images: Tensor, seeds: Sequence[int]) -> Tensor:
            return self.network.in_block(images, block, list(seeds))[0]

        return self.likelihood.draw(make, images, seeds) if self.likelihood and block else make(images, seeds)

    def attacked(self, views: Views, epsilon: float, step: int) -> dict[str, Tensor]:
        """Attacked images, ``(K * B, 3, S, S)`` each: ``positive``, ``opposite`` and ``class``, or ``loss``.

        Only what the loss reads is attacked: classes where it classifies, pairs where it compares.
        """
        generator = torch_generator(self.config.seed, "attack", step)
        with frozen(self.network):
            if self.losses.adversary == "figure":
                return {"loss": self._climb_loss(views, epsilon, generator)}
            shift = 1 + int(torch.randint(max(1, self.network.config.num_blocks - 1), (1,), generator=generator))
            return self._climb_each(views, epsilon, shift, generator)

    def _climb_each(
        self, views: Views, epsilon: float, shift: int, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """ATPT, ATNT and RTP of the released code, in shared passes."""
        count = len(views.first)
        size = count // self.network.config.num_blocks
        starts: dict[str, Tensor] = {}
        targets: dict[str, Tensor] = {}
        if similarity_loss(self.losses.loss) is not None:
            starts |= {"positive": views.first, "opposite": views.second}
            others = torch.cat([views.second, views.second.roll(shift * size, 0)])
            with torch.no_grad():
                rows = unit(self.network.features(others).projections.float())
            targets = {"positive": rows[:count], "opposite": rows[count:]}
        if uses_classes(self.losses.loss):
            starts["class"] = views.second
        labels = block_labels(count, self.network.config.num_blocks, views.first.device)

        def objective(x: Tensor) -> Tensor:
            output = self.network.features(x)
            projections = dict(zip(starts, output.projections.float().chunk(len(starts)), strict=True))
            terms = []
            for name, target in targets.items():
                pairs = torch.cat([unit(projections[name]), target])
                distance = contrastive_loss(pairs, groups=2, detach_columns=True)
                terms.append(distance if name == "positive" else -distance)
            if "class" in starts:  # always the last one
                terms.append(F.cross_entropy(output.logits[-count:].float(), labels))
            return torch.stack(terms).sum()

        found = self._ascend(objective, torch.cat(list(starts.values())), epsilon, generator)
        return dict(zip(starts, found.chunk(len(starts)), strict=True))

    def _climb_loss(self, views: Views, epsilon: float, generator: torch.Generator) -> Tensor:
        """One attack on view 2 that climbs the trained loss."""
        with torch.no_grad():
            fixed = self.network.features(torch.cat([views.first, views.second]))

        def objective(x: Tensor) -> Tensor:
            output = self.network.features(x)
            rows = torch.cat([fixed.projections.float(), output.projections.float()])
            return self._loss(rows, output.logits.float(), groups=3, class_groups=1)[0]

        return self._ascend(objective, views.second, epsilon, generator)

    def _ascend(self, objective: Any, clean: Tensor, epsilon: float, generator: torch.Generator | None) -> Tensor:
        """Signed ascent in eval mode; every group of ``objective`` moves by its own gradient."""
        ball, x = Ball(clean, epsilon), clean
        if generator is not None:
            x = ball.start(to_device(torch.rand(clean.shape, generator=generator) * 2 - 1, clean.device))
        for _ in range(self.config.attack_steps):
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                (gradient,) = torch.autograd.grad(objective(x), x)
            x = ball.clip(x.detach() + 2.5 * epsilon / self.config.attack_steps * gradient.sign())
        return x.detach()

    def total(self, network: Any, views: Views, attacked: dict[str, Tensor]) -> Losses:
        """The loss of both views and of the attacked ones.

        Images attacked on their class have a pass, hence batch statistics, of their own, and are only classified.
        """
        groups = [views.first, views.second, *(images for name, images in attacked.items() if name != "class")]
        output = network.features(torch.cat(groups))
        classified = 2 + ("loss" in attacked)  # images attacked on pairs alone belong to no class
        logits = [output.logits[: classified * len(views.first)]]
        if "class" in attacked:
            logits.append(network.features(attacked["class"]).logits)
        return Losses(
            *self._loss(
                output.projections.float(),
                torch.cat(logits).float(),
                groups=len(groups),
                class_groups=classified + len(logits) - 1,
            )
        )

    def _loss(
        self, rows: Tensor, logits: Tensor, *, groups: int, class_groups: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {}
        compare = similarity_loss(self.losses.loss)
        if compare is not None:
            parts["loss_similarity"] = compare(unit(rows), groups=groups, blocks=self.network.config.num_blocks)
        if uses_classes(self.losses.loss):
            parts["loss_blocks"] = block_loss(logits, groups=class_groups)
        total = torch.stack(list(parts.values())).sum()
        return total, {name: value.detach() for name, value in parts.items()}

    def after_backward(self) -> None:
        """Nothing is carried from step to step."""

    def carried(self) -> dict[str, Tensor]:
        """Nothing is carried from step to step."""
        return {}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Nothing is carried from step to step."""


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Eval mode, and no gradients of weights, for the time of an attack."""
    modes = [(module, module.training) for module in network.modules()]
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in wanted:
            parameter.requires_grad_(True)
