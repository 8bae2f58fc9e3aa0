"""Momentum PGD: directions are remembered, so that small hills on the way do not hold the ascent up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.base import Attack, Climb


@dataclass(frozen=True, kw_only=True)
class MomentumPGD(Attack):
    """Ascent along a decaying sum of gradients, each divided by its mean size.

    Attributes:
        steps: Gradient steps per run.
        decay: What is left of the sum after each step, at least 0.
        rel_stepsize: Step length as a share of epsilon; None = 2.5 / steps.
        random_start: Start from a random point of the ball; further restarts always do.

    Source: Dong et al., CVPR 2018. Deviates: the step reaches beyond epsilon in sum, as PGD's does.
    """

    steps: int = 10
    decay: float = 1.0
    rel_stepsize: float | None = None
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 1)
        check_at_least("decay", self.decay, 0)
        if self.rel_stepsize is not None and not self.rel_stepsize > 0:
            raise ValueError(f"`rel_stepsize` must be above 0, got {self.rel_stepsize}")

    @property
    def passes(self) -> int:
        """See `Attack.passes`."""
        return self.steps + 1

    def run(self, climb: Climb, noise: Tensor, restart: int) -> Tensor:
        """See `Attack.run`."""
        share = 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize
        x = climb.ball.start(noise) if self.random_start or restart > 0 else climb.clean
        memory = torch.zeros_like(x)
        for _ in range(self.steps):
            _, gradient = climb.slope(x)
            x, gradient, memory = climb.narrow(x, gradient, memory)
            if len(x) == 0:
                break
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
            memory = self.decay * memory + gradient / size
            x = climb.ball.clip(x + share * climb.ball.epsilon * climb.ball.direction(memory))
        else:
            climb.values(x)
        return climb.ended(x)
