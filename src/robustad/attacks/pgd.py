"""Projected gradient ascent (Madry et al., ICLR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.base import Attack, Climb


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Signed (L-inf) or normalised (L2) gradient ascent with a fixed step.

    Attributes:
        steps: Gradient steps per run.
        rel_stepsize: Step length as a share of epsilon, above 0; None = 2.5 / steps (PatchGuard's).
        random_start: Start from a random point of the ball. Without it the first run starts at the clean image and
            only further restarts start at random.
    """

    name: ClassVar[str] = "pgd"
    steps: int = 10
    rel_stepsize: float | None = None
    random_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 1)
        if self.rel_stepsize is not None and not self.rel_stepsize > 0:
            raise ValueError(
                f"`rel_stepsize` must be above 0 (0 never moves, below 0 descends), got {self.rel_stepsize}"
            )

    @classmethod
    def published(cls, *, steps: int = 10) -> PGD:
        """PatchGuard's evaluation attack: no random start, last iterate, one run."""
        return cls(steps=steps, keep="last")

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
        share = 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize
        x = climb.ball.start(noise) if self.random_start or restart > 0 else climb.start
        way = torch.zeros_like(x)
        for _ in range(self.steps):
            _, gradient = climb.slope(x)
            x, way = climb.narrow(x, self.next_way(way, gradient))
            if len(x) == 0:
                break
            x = climb.ball.clip(torch.add(x, climb.ball.direction(way), alpha=share * climb.ball.epsilon))
        else:
            climb.values(x)
        return climb.ended(x)

    def next_way(self, way: Tensor, gradient: Tensor) -> Tensor:
        """Where to go, from the way of the last step and the gradient here."""
        del way
        return gradient


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """One step to the edge of the ball (Goodfellow et al., ICLR 2015): the weakest gradient attack, for comparison."""

    name: ClassVar[str] = "fgsm"
    steps: int = 1
    rel_stepsize: float | None = 1.0
