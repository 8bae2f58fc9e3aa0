"""Square attack: random squares, kept where they help. Asks for values only, so no gradient can mislead it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustad._checks import check_at_least
from robustad.attacks.base import Attack, Climb, image_generators
from robustad.attacks.projections import Ball, per_image_norm

_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of the budget after which squares shrink


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Random search with squares that shrink as the budget is used up.

    Attributes:
        queries: Times that each image is scored per run.
        first_share: Share of the image that the first squares cover, in (0, 1].

    Source: Andriushchenko et al., ECCV 2020, for L-inf and L2. Deviates: maximises any objective, per image; in L2,
        bumps are pyramids (they find more than the paper's peaks), and a new one weighs as in AutoAttack's code.
    """

    name: ClassVar[str] = "square"
    uses_gradient: ClassVar[bool] = False
    queries: int = 1000
    first_share: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("queries", self.queries, 1)
        if not 0 < self.first_share <= 1:
            raise ValueError(f"`first_share` must be in (0, 1], got {self.first_share}")

    @property
    def passes(self) -> int:
        """See `Attack.passes`."""
        return self.queries

    @property
    def effort(self) -> str:
        """See `Attack.effort`."""
        return f"{self.queries:,} queries"

    def run(self, climb: Climb, noise: Tensor, restart: int) -> Tensor:
        """See `Attack.run`."""
        sources = dict(zip(climb.index.tolist(), image_generators(noise), strict=True))
        start, move = (_stripes, _coloured) if climb.ball.norm == "linf" else (_tiles, _moved)
        side = math.sqrt(self.first_share)
        x = climb.ball.clip(climb.clean + start(climb.clean, climb.ball, side, list(sources.values())))
        values = climb.values(x)
        for query in range(1, self.queries):
            x, values = climb.narrow(x, values)
            if len(x) == 0:
                break
            halvings = sum(query - 1 > share * self.queries for share in _HALVINGS)  # the first ones are large
            generators = [sources[number] for number in climb.index.tolist()]
            offset = move(x - climb.clean, climb.ball, side * 0.5 ** (halvings / 2), generators)
            trial = climb.ball.clip(climb.clean + offset)
            found = climb.values(trial)
            better = found > values
            x = torch.where(better[:, None, None, None], trial, x)
            values = torch.where(better, found, values)
        return climb.ended(x)


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    signs: Tensor = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    return signs.to(like)


def _window(height: int, width: int, side: int, generator: torch.Generator) -> tuple[slice, slice]:
    tall, wide = min(side, height), min(side, width)
    row = int(torch.randint(0, height - tall + 1, (1,), generator=generator))
    column = int(torch.randint(0, width - wide + 1, (1,), generator=generator))
    return slice(row, row + tall), slice(column, column + wide)


def _stripes(clean: Tensor, ball: Ball, side: float, generators: list[torch.Generator]) -> Tensor:
    """Upright stripes of one pixel at the edge of the ball."""
    del side
    signs = [_signs((clean.shape[1], 1, clean.shape[3]), generator, clean) for generator in generators]
    return ball.epsilon * torch.stack(signs).expand_as(clean)


def _coloured(offset: Tensor, ball: Ball, side: float, generators: list[torch.Generator]) -> Tensor:
    """One square of one colour at the edge of the ball."""
    offset = offset.clone()
    for number, (generator, box) in enumerate(zip(generators, _boxes(offset, ball), strict=True)):
        part = offset[number][box]  # a view
        height, width = part.shape[-2:]
        rows, columns = _window(height, width, max(1, round(side * math.sqrt(height * width))), generator)
        part[:, rows, columns] = ball.epsilon * _signs((len(part), 1, 1), generator, offset)
    return offset


def _boxes(offset: Tensor, ball: Ball) -> list[tuple[slice, slice, slice]]:
    """For each image the smallest rectangle that holds all pixels that may change; elsewhere squares change nothing."""
    everywhere = (slice(None), slice(None), slice(None))
    if ball.mask is None:
        return [everywhere] * len(offset)
    boxes = []
    for mask in ball.mask.expand(len(offset), -1, -1, -1).any(1):
        rows, columns = (mask.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
        inside = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if rows else everywhere
        boxes.append(inside)
    return boxes


def _bump(height: int, width: int, like: Tensor) -> Tensor:
    """A hill and a hollow side by side, each of concentric rings, of length 1: ``(height, width)``."""
    across = torch.arange(width, dtype=torch.float64)
    down = torch.arange(height, dtype=torch.float64)
    half = max(1, height // 2)
    rings = [torch.minimum(part, (size - 1) - part) for part, size in ((down % half, half), (across, width))]
    hill = torch.minimum(rings[0].clamp_min(0)[:, None], rings[1].clamp_min(0)[None]) + 1
    hill = torch.where((down < half)[:, None], hill, -hill)
    bump: Tensor = hill / hill.norm()
    return bump.to(like)


def _tiles(clean: Tensor, ball: Ball, side: float, generators: list[torch.Generator]) -> Tensor:
    """Bumps of random signs all over the image, together at the edge of the ball."""
    height, width = clean.shape[-2:]
    pixels = max(2, min(height, width, round(side * math.sqrt(height * width) / 5)))
    offset = torch.zeros_like(clean)
    for number, generator in enumerate(generators):
        for row in range(0, height - pixels + 1, pixels):
            for column in range(0, width - pixels + 1, pixels):
                signs = _signs((clean.shape[1], 1, 1), generator, clean)
                offset[number, :, row : row + pixels, column : column + pixels] = signs * _bump(pixels, pixels, clean)
    offset = ball.allowed(offset)
    return ball.epsilon * offset / per_image_norm(offset)


def _moved(offset: Tensor, ball: Ball, side: float, generators: list[torch.Generator]) -> Tensor:
    """What two squares used of the budget goes to a bump in one of them, on top of what was there."""
    offset = offset.clone()
    for number, (generator, box) in enumerate(zip(generators, _boxes(offset, ball), strict=True)):
        image = offset[number][box]  # a view
        height, width = image.shape[-2:]
        pixels = max(3, round(side * math.sqrt(height * width))) // 2 * 2 + 1  # odd: the hill has a middle
        target, source = (_window(height, width, pixels, generator) for _ in range(2))
        used = image.square().sum()
        kept = image[:, target[0], target[1]].clone()
        image[:, source[0], source[1]] = 0
        image[:, target[0], target[1]] = 0
        freed = (used - image.square().sum()).clamp_min(0)
        spare = (ball.epsilon**2 - used).clamp_min(0)
        bump = _signs((image.shape[0], 1, 1), generator, image) * _bump(kept.shape[-2], kept.shape[-1], image)
        if int(torch.randint(0, 2, (1,), generator=generator)):
            bump = bump.transpose(-2, -1) if kept.shape[-2] == kept.shape[-1] else bump
        # what was freed goes to each channel, not a share of it: the new bump outweighs the old ones, and finds more
        image[:, target[0], target[1]] = (spare / len(image) + freed).sqrt() * _unit(bump + _unit(kept))
        if ball.mask is not None:
            image *= ball.mask[number][box]
        image *= ball.epsilon / image.norm().clamp_min(1e-12)
    return offset


def _unit(image: Tensor) -> Tensor:
    """Each channel ``(C, h, w)`` at length 1."""
    lengths: Tensor = image.flatten(1).norm(dim=1).clamp_min(1e-12)
    return image / lengths[:, None, None]
