"""A sticker: a small square that may look like anything, at the worst of several places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_images
from robustad._random import torch_generator
from robustad.attacks.apgd import APGD
from robustad.attacks.base import Attack, Objective
from robustad.attacks.objectives import ExpectedObjective
from robustad.ops.geometry import quarter_turns


@dataclass(frozen=True, kw_only=True)
class AdversarialPatch:
    """Chooses place and look of one square per image so that the objective rises most.

    With ``draws`` above 1 the sticker has to work on average over quarter turns and changes of its brightness, as a
    printed one would.

    Attributes:
        side: Side of the square, as a share of the image's side, in (0, 1].
        places: Random places that are tried for each image; the best one counts.
        attack: How its look is searched, with radius 1 inside the square.
        draws: Turns and brightnesses that are averaged over; 1 = the sticker as it is.
        dimming: Largest change of brightness, as a share.

    Source: Brown et al. 2017, for scores instead of classes, and per image instead of universal.
    """

    side: float = 0.15
    places: int = 4
    attack: Attack = field(default_factory=lambda: APGD(steps=40))
    draws: int = 1
    dimming: float = 0.2

    def __post_init__(self) -> None:
        check_at_least("places", self.places, 1)
        check_at_least("draws", self.draws, 1)
        if not 0 < self.side <= 1:
            raise ValueError(f"`side` must be in (0, 1], got {self.side}")
        if not 0 <= self.dimming < 1:
            raise ValueError(f"`dimming` must be in [0, 1), got {self.dimming}")

    def __call__(self, objective: Objective, images: Tensor, *, seed: int = 0) -> Tensor:
        """Images ``(N, 3, S, S)`` with a sticker on each; an image that no sticker helps stays as it is.

        Args:
            objective: What is maximised, per image; differentiable if ``attack`` needs it.
            images: Clean images ``(N, 3, S, S)`` in [0, 1], square.
            seed: Of the places and starts.
        """
        check_images(images)
        clean, index = images.detach(), torch.arange(len(images), device=images.device)
        best, values = clean.clone(), _values(objective, clean, index)
        for number in range(self.places):
            corner, pixels = self._corner(clean.shape[-1], number, seed)
            rows, columns = slice(corner[0], corner[0] + pixels), slice(corner[1], corner[1] + pixels)
            expected = ExpectedObjective(objective, self.draws, self._varied(rows, columns, seed))
            generator = torch_generator(seed, "patch", number)
            # only the square is searched: squares of a random search would mostly lie beside it
            looks = self.attack(
                _Pasted(expected, clean, rows, columns), clean[:, :, rows, columns], epsilon=1.0, generator=generator
            )
            stuck = _pasted(clean, looks, rows, columns)
            found = _values(expected, stuck, index)
            better = found > values
            values = torch.where(better, found, values)
            best = torch.where(better[:, None, None, None], stuck, best)
        return best

    def _corner(self, size: int, number: int, seed: int) -> tuple[tuple[int, int], int]:
        pixels = max(1, round(self.side * size))
        generator = torch_generator(seed, "place", number)
        row, column = torch.randint(0, size - pixels + 1, (2,), generator=generator).tolist()
        return (row, column), pixels

    def _varied(self, rows: slice, columns: slice, seed: int) -> Callable[[Tensor, Tensor, int], Tensor]:
        def vary(images: Tensor, index: Tensor, draw: int) -> Tensor:
            del index
            if draw == 0:
                return images
            generator = torch_generator(seed, "draw", draw)
            light = 1 + self.dimming * float(torch.rand(1, generator=generator) * 2 - 1)
            turns = torch.randint(0, 4, (1,), generator=generator).expand(len(images)).to(images.device)
            sticker = (quarter_turns(images[:, :, rows, columns], turns) * light).clamp(0, 1)
            changed = images.clone()
            changed[:, :, rows, columns] = sticker
            return changed

        return vary


def _pasted(images: Tensor, looks: Tensor, rows: slice, columns: slice) -> Tensor:
    changed = images.to(looks.dtype, copy=True)
    changed[:, :, rows, columns] = looks
    return changed


@dataclass(frozen=True)
class _Pasted:
    """An objective of looks ``(n, 3, s, s)``: that of the images which they are stuck on."""

    objective: Objective
    clean: Tensor
    rows: slice
    columns: slice

    def __call__(self, looks: Tensor, index: Tensor) -> Tensor:
        return self.objective(_pasted(self.clean[index], looks, self.rows, self.columns), index)


def _values(objective: Objective, images: Tensor, index: Tensor) -> Tensor:
    with torch.no_grad():
        return objective(images, index).detach()
