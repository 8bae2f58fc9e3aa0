"""Gradients estimated from values: for detectors whose own gradient is cut, shattered or not there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice
from robustad.attacks.base import Attack, Best, Objective, image_generators
from robustad.attacks.projections import Ball

DIRECTIONS = ("signs", "normal")


@dataclass(frozen=True, kw_only=True)
class EstimatedPGD(Attack):
    """PGD along differences of the objective in random directions, each tried forwards and backwards.

    Attributes:
        steps: Steps per run; each image is scored ``2 * samples + 1`` times in each.
        samples: Directions per step.
        directions: ``signs`` (SPSA) or ``normal`` (NES).
        distance: How far along a direction the objective is asked, in pixel units of [0, 1], above 0.
        rel_stepsize: Step length as a share of epsilon; None = 2.5 / steps.

    Source: SPSA, Uesato et al., ICML 2018; NES, Ilyas et al., ICML 2018. Deviates: signed steps instead of Adam.
    """

    uses_gradient: ClassVar[bool] = False
    steps: int = 10
    samples: int = 32
    directions: str = "signs"
    distance: float = 0.01
    rel_stepsize: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("steps", self.steps, 1)
        check_at_least("samples", self.samples, 1)
        check_choice("directions", self.directions, DIRECTIONS)
        for name in ("distance", "rel_stepsize"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be above 0, got {value}")

    @property
    def passes(self) -> int:
        """See `Attack.passes`."""
        return self.steps * (2 * self.samples + 1)

    @property
    def effort(self) -> str:
        """See `Attack.effort`."""
        return f"{self.passes:,} queries"

    def run(self, objective: Objective, clean: Tensor, ball: Ball, noise: Tensor, best: Best, restart: int) -> Tensor:
        """See `Attack.run`."""
        share = 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize
        generators = image_generators(noise)
        x = ball.start(noise) if restart > 0 else clean
        for _ in range(self.steps):
            gradient = self._estimate(objective, x, generators)
            x = ball.clip(x + share * ball.epsilon * ball.direction(gradient))
            best.update(x, self._values(objective, x))
        return x

    def _estimate(self, objective: Objective, x: Tensor, generators: list[torch.Generator]) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(self.samples):
            way = torch.stack([self._direction(x.shape[1:], generator) for generator in generators]).to(x)
            ahead, behind = (self._values(objective, (x + s * self.distance * way).clamp(0, 1)) for s in (1, -1))
            total += (ahead - behind)[:, None, None, None] * way
        return total

    def _direction(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        if self.directions == "normal":
            return torch.randn(shape, generator=generator)
        return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1
