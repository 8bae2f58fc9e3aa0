"""Gradients estimated from values: for detectors whose own gradient is cut, shattered or not there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_choice
from robustad.attacks.base import Attack, Climb, image_generators, usable

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

    name: ClassVar[str] = "estimated-pgd"
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
        ways = "signs" if self.directions == "signs" else "normal vectors"
        return f"{self.passes:,} queries along random {ways}"

    def run(self, climb: Climb, noise: Tensor, restart: int) -> Tensor:
        """See `Attack.run`."""
        share = 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize
        sources = dict(zip(climb.index.tolist(), image_generators(noise), strict=True))
        x = climb.ball.start(noise) if restart > 0 else climb.start
        for _ in range(self.steps):
            (x,) = climb.narrow(x)
            if len(x) == 0:
                break
            gradient = self._estimate(climb, x, [sources[number] for number in climb.index.tolist()])
            x = climb.ball.clip(x + share * climb.ball.epsilon * climb.ball.direction(gradient))
            climb.values(x)
        return climb.ended(x)

    def _estimate(self, climb: Climb, x: Tensor, generators: list[torch.Generator]) -> Tensor:
        total = torch.zeros_like(x)
        for _ in range(self.samples):
            way = torch.stack([self._direction(x.shape[1:], generator) for generator in generators]).to(x)
            way = climb.ball.allowed(way)
            near = [(x + sign * self.distance * way).clamp(0, 1) for sign in (1, -1)]
            with torch.no_grad():
                ahead, behind = (climb.objective(images, climb.index) for images in near)
            climb.best.note(ahead, climb.index)
            climb.best.note(behind, climb.index)
            total += (ahead - behind)[:, None, None, None] * way
        return usable(total)

    def _direction(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        if self.directions == "normal":
            return torch.randn(shape, generator=generator)
        return torch.randint(0, 2, shape, generator=generator).float() * 2 - 1
