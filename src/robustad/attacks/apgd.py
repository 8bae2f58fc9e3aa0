"""Auto-PGD: momentum, and a step that halves itself where it stops paying (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.base import Attack, Climb

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

    Source: Croce & Hein 2020, algorithm 1. Deviates: the objective is any of ours, per image, not a loss over logits;
        gaps between checkpoints are whole steps and shrink by one at least, as in AutoAttack's code: short runs gain.
    """

    name: ClassVar[str] = "apgd"
    steps: int = 20
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 1)

    @property
    def passes(self) -> int:
        """See `Attack.passes`."""
        return self.steps + 1

    @property
    def begins_at_start(self) -> bool:
        """See `Attack.begins_at_start`."""
        return not self.random_start

    def run(self, climb: Climb, noise: Tensor, restart: int) -> Tensor:
        """See `Attack.run`."""
        x = climb.ball.start(noise) if self.random_start or restart > 0 else climb.start
        state = _State(x, *climb.slope(x), climb.ball.epsilon)
        checkpoints, last = self.checkpoints(), 0
        for step in range(1, self.steps + 1):
            state.keep(climb.narrow(*state.tensors()))
            if len(state.x) == 0:
                break
            ahead = climb.ball.clip(state.x + state.stride * climb.ball.direction(state.gradient))
            share = _MOMENTUM if step > 1 else 1.0
            x = climb.ball.clip(state.x + share * (ahead - state.x) + (1 - share) * (state.x - state.previous))
            state.move(x, *climb.slope(x))
            if step in checkpoints:
                state.look_back(step - last)
                last = step
        return climb.ended(state.x)

    def checkpoints(self) -> set[int]:
        """The steps after which the step length is looked at."""
        gap, shrink, least = (max(int(share * self.steps), 1) for share in (_FIRST, _SHRINK, _LEAST))
        place, found = gap, set[int]()
        while place <= self.steps:
            found.add(place)
            gap = max(gap - shrink, least)
            place += gap
        return found


class _State:
    """What APGD knows of each image; every field is one tensor with a row for each."""

    def __init__(self, x: Tensor, values: Tensor, gradient: Tensor, epsilon: float) -> None:
        self.x, self.previous, self.gradient, self.values = x, x, gradient, values
        self.peak, self.peak_gradient, self.highest = x, gradient, values
        self.stride = x.new_full((len(x), 1, 1, 1), 2 * epsilon)
        self.rises, self.at_checkpoint = torch.zeros_like(values), values
        self.halved = torch.ones_like(values, dtype=torch.bool)

    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, ``x`` first."""
        return tuple(vars(self).values())

    def keep(self, tensors: tuple[Tensor, ...]) -> None:
        """Take back what `tensors` gave."""
        vars(self).update(zip(vars(self), tensors, strict=True))

    def move(self, x: Tensor, values: Tensor, gradient: Tensor) -> None:
        """Go to the next iterate."""
        self.rises = self.rises + (values > self.values)
        better = values > self.highest
        self.peak, self.peak_gradient = _where(better, x, self.peak), _where(better, gradient, self.peak_gradient)
        self.highest = torch.where(better, values, self.highest)
        self.previous, self.x, self.values, self.gradient = self.x, x, values, gradient

    def look_back(self, steps: int) -> None:
        """Halve the step of images that have not got on, and set them back to their best iterate."""
        stuck = ~self.halved & (self.highest <= self.at_checkpoint)
        self.halved = (self.rises <= _WANTED * steps) | stuck
        self.stride = _where(self.halved, self.stride / 2, self.stride)
        self.x = _where(self.halved, self.peak, self.x)
        self.gradient = _where(self.halved, self.peak_gradient, self.gradient)
        self.values = torch.where(self.halved, self.highest, self.values)
        self.rises, self.at_checkpoint = torch.zeros_like(self.rises), self.highest


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Image by image."""
    return torch.where(chosen[:, None, None, None], one, other)
