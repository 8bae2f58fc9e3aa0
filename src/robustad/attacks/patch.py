"""A sticker: a small square that may look like anything, at the worst of several places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustad._checks import check_at_least, check_images
from robustad._random import torch_generator
from robustad.attacks.apgd import APGD
from robustad.attacks.base import Attack, Objective, content_key
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
            squares = self._squares(clean, number, seed)
            expected = ExpectedObjective(objective, self.draws, self._varied(squares, seed))
            generator = torch_generator(seed, "patch", number)
            # only the square is searched: squares of a random search would mostly lie beside it
            looks = self.attack(
                _Pasted(expected, clean, squares), squares.cut(clean, index), epsilon=1.0, generator=generator
            )
            stuck = squares.pasted(clean, looks, index)
            found = _values(expected, stuck, index)
            better = found > values
            values = torch.where(better, found, values)
            best = torch.where(better[:, None, None, None], stuck, best)
        return best

    def _squares(self, images: Tensor, number: int, seed: int) -> _Squares:
        """A place for each image: places that all shared would all miss what lies at the same place in all of them."""
        size = images.shape[-1]
        pixels = max(1, round(self.side * size))
        generators = [torch_generator(seed, "place", number, content_key(image)) for image in images]
        corners = torch.stack([torch.randint(0, size - pixels + 1, (2,), generator=each) for each in generators])
        lines = corners[:, :, None] + torch.arange(pixels)  # (N, 2, s)
        return _Squares(*lines.to(images.device).unbind(1))

    def _varied(self, squares: _Squares, seed: int) -> Callable[[Tensor, Tensor, int], Tensor]:
        def vary(images: Tensor, index: Tensor, draw: int) -> Tensor:
            if draw == 0:
                return images
            generator = torch_generator(seed, "draw", draw)
            light = 1 + self.dimming * float(torch.rand(1, generator=generator) * 2 - 1)
            turns = torch.randint(0, 4, (1,), generator=generator).expand(len(images)).to(images.device)
            sticker = (quarter_turns(squares.cut(images, index), turns) * light).clamp(0, 1)
            return squares.pasted(images, sticker, index)

        return vary


@dataclass(frozen=True)
class _Squares:
    """Where the square of each image lies: its rows and columns, ``(N, s)`` each."""

    rows: Tensor
    columns: Tensor

    def cut(self, images: Tensor, index: Tensor) -> Tensor:
        """The squares ``(n, 3, s, s)`` of images ``(n, 3, S, S)`` with these numbers."""
        return images[self._pixels(index)].permute(0, 3, 1, 2)  # what is indexed comes first

    def pasted(self, images: Tensor, looks: Tensor, index: Tensor) -> Tensor:
        """These images with their squares replaced by ``looks``."""
        changed = images.to(looks.dtype, copy=True)
        changed[self._pixels(index)] = looks.permute(0, 2, 3, 1)
        return changed

    def _pixels(self, index: Tensor) -> tuple[Tensor | slice, ...]:
        numbers = torch.arange(len(index), device=index.device)[:, None, None]
        return numbers, slice(None), self.rows[index][:, :, None], self.columns[index][:, None, :]


@dataclass(frozen=True)
class _Pasted:
    """An objective of looks ``(n, 3, s, s)``: that of the images which they are stuck on."""

    objective: Objective
    clean: Tensor
    squares: _Squares

    def __call__(self, looks: Tensor, index: Tensor) -> Tensor:
        return self.objective(self.squares.pasted(self.clean[index], looks, index), index)


def _values(objective: Objective, images: Tensor, index: Tensor) -> Tensor:
    with torch.no_grad():
        return objective(images, index).detach()
