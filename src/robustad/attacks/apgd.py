"""Auto-PGD: momentum, and a step that halves itself where it stops paying (Croce & Hein, ICML 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.base import Attack, Best, Objective, value_and_grad
from robustad.attacks.projections import Ball

_FIRST, _SHRINK, _LEAST = 0.22, 0.03, 0.06  # shares of the steps between checkpoints
_WANTED = 0.75  # share of the steps that must have risen
_MOMENTUM = 0.75


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Projected gradient ascent without a step length to choose: it starts at 2 epsilon and is halved image by image.

    A step is halved, and the image set back to its best iterate, where fewer than 75 % of the steps since the last
    checkpoint have risen, or where nothing better was found although the step was the same.

    Attributes:
        steps: Gradient steps per run.
        random_start: Start from a random point of the ball. Without it the first run starts at the clean image and
            only further restarts start at random.

    Source: Croce & Hein 2020, algorithm 1. Deviates: the objective is any of ours, per image, not a loss over logits.
    """

    steps: int = 20
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 1)

    @property
    def passes(self) -> int:
        """See `Attack.passes`."""
        return self.steps + 1

    def run(self, objective: Objective, clean: Tensor, ball: Ball, noise: Tensor, best: Best, restart: int) -> Tensor:
        """See `Attack.run`."""
        x = ball.start(noise) if self.random_start or restart > 0 else clean
        values, gradient = value_and_grad(objective, x)
        best.update(x, values)
        previous, peak, peak_gradient, highest = x, x, gradient, values
        stride = torch.full_like(values, 2 * ball.epsilon)[:, None, None, None]
        rises, at_checkpoint, halved = torch.zeros_like(values), highest, torch.ones_like(values, dtype=torch.bool)
        checkpoints, last = self.checkpoints(), 0
        for step in range(1, self.steps + 1):
            share = _MOMENTUM if step > 1 else 1.0
            ahead = ball.clip(x + stride * ball.direction(gradient))
            previous, x = x, ball.clip(x + share * (ahead - x) + (1 - share) * (x - previous))
            before = values
            values, gradient = value_and_grad(objective, x)
            best.update(x, values)
            rises = rises + (values > before)
            better = values > highest
            peak, peak_gradient = _where(better, x, peak), _where(better, gradient, peak_gradient)
            highest = torch.where(better, values, highest)
            if step in checkpoints:
                slow = rises < _WANTED * (step - last)
                stuck = ~halved & (highest <= at_checkpoint)
                halved = slow | stuck
                stride = _where(halved, stride / 2, stride)
                x, gradient = _where(halved, peak, x), _where(halved, peak_gradient, gradient)
                values = torch.where(halved, highest, values)
                rises, at_checkpoint, last = torch.zeros_like(rises), highest, step
        return x

    def checkpoints(self) -> set[int]:
        """The steps after which the step length is looked at."""
        place, gap, found = _FIRST, _FIRST, set[int]()
        while place < 1:
            found.add(math.ceil(round(place * self.steps, 6)))
            gap = max(gap - _SHRINK, _LEAST)
            place += gap
        return found


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Image by image."""
    return torch.where(chosen[:, None, None, None], one, other)
