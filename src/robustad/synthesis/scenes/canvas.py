"""What the images of one procedural process share, and in what each of them differs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from robustad._random import torch_generator
from robustad.ops.noise import pixel_grid, value_noise

_ALIGNED, _FREE = 0.45, 0.35  # shares of processes whose images lie on each other, and that have nothing in common


class Canvas:
    """Coordinates and random numbers of some images of one process.

    Numbers that a process shares are plain floats; numbers of each image are tensors ``(N, 1, 1)``. How far images of a
    process differ is the process's own: from parts in a fixture (a pixel or two, the light) to a roll of material (any
    place, any turn, other noise).

    Args:
        seed: Seed of the process and of its images.
        number: Images ``N``.
        size: Side of the images, pixels.

    Attributes:
        vary: Share of each noise field that is the image's own, in [0, 1].
        x: Columns of the pixels in the pattern's frame, in image sides, ``(N, S, S)``.
        y: Rows, likewise.
        frame_x: Columns in the image's own frame: 0 to 1 from left to right, but for the jitter of a fixture.
        frame_y: Rows, likewise.
    """

    def __init__(self, seed: int, number: int, size: int) -> None:
        self.generator = torch_generator(seed, "scene")
        self.number, self.size = number, size
        kind = self.uniform(0, 1)
        self.vary = 0.0 if kind < _ALIGNED else 1.0 if kind > 1 - _FREE else self.uniform(0, 1)
        jitter = self.log(0.002, 0.03) * (self.uniform(0, 1) < 0.8)
        rows, columns = pixel_grid((size, size))
        self.frame_x = columns + self.own(-jitter, jitter)
        self.frame_y = rows + self.own(-jitter, jitter)
        reach = 8.0 if self.vary == 1.0 else 0.0
        x, y = self.frame_x + self.own(-reach, reach), self.frame_y + self.own(-reach, reach)
        angle = self._angle()
        cos, sin = angle.cos(), angle.sin()
        self.x, self.y = cos * x + sin * y, cos * y - sin * x  # (N, S, S)

    def _angle(self) -> Tensor:
        """Turns ``(N, 1, 1)``: rolls of material are mostly laid straight, or by quarters; some at any angle."""
        straight = self.chance(0.7)
        common = math.pi / 2 * int(self.uniform(0, 4)) if straight else self.uniform(0, 2 * math.pi)
        wobble = self.log(0.003, 0.06)
        free = math.pi if self.vary == 1.0 and self.chance(0.3) else wobble
        return common + self.own(-free, free)

    def uniform(self, low: float, high: float) -> float:
        """A number of the process."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def log(self, low: float, high: float) -> float:
        """A log-uniform number of the process, both ends above 0."""
        return low * math.exp(self.uniform(0, math.log(high / low)))

    def chance(self, share: float) -> bool:
        """Whether something is so, for the process."""
        return self.uniform(0, 1) < share

    def own(self, low: float, high: float) -> Tensor:
        """A number of each image ``(N, 1, 1)``."""
        return low + (high - low) * torch.rand(self.number, 1, 1, generator=self.generator)

    def table(self, entries: int) -> Tensor:
        """Uniform numbers of the process ``(entries,)``, to be looked up by cell."""
        return torch.rand(entries, generator=self.generator)

    def field(self, *sides: int | tuple[int, int], slope: float = 0.5, vary: float | None = None) -> Tensor:
        """Smooth noise ``(N, S, S)``, mean 0 and standard deviation 1.

        Args:
            sides: Cells of each octave's grid: per side, or (rows, columns).
            slope: Weight of an octave relative to the one before.
            vary: Share that is each image's own; None = as the process has it.
        """
        own = self.vary if vary is None else vary
        grids = []
        for side in sides:
            height, width = side if isinstance(side, tuple) else (side, side)
            shared = torch.randn(1, 1, height, width, generator=self.generator)
            single = torch.randn(self.number, 1, height, width, generator=self.generator)
            grids.append((1 - own**2) ** 0.5 * shared + own * single)
        weights = torch.tensor([slope**octave for octave in range(len(sides))]).expand(self.number, -1)
        finest = max(max(grid.shape[-2:]) for grid in grids)
        made = self.size // 4 if finest <= self.size // 8 else self.size  # what is smooth needs few pixels
        noise = value_noise(grids, (made, made), weights)
        if made < self.size:
            noise = F.interpolate(noise, size=(self.size, self.size), mode="bilinear", align_corners=False)
        return noise[:, 0]

    def cells(self, x: Tensor, y: Tensor, entries: int = 97) -> Tensor:
        """A uniform number of each unit cell of coordinates ``(N, S, S)``, the same wherever that cell is seen."""
        number = (x.floor() * 31 + y.floor() * 57).long() % entries
        return self.table(entries)[number]
