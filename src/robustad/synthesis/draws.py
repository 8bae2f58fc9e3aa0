"""Random numbers per sample: each image's anomaly depends on its own seed, never on its batch, rank or worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from robustad.ops.noise import value_noise

NUM_UNIFORM = 32
_COARSE, _FINE = (4, 8, 16), (3, 6, 12, 24)  # sides of the grids, cells
_NUM_COARSE, _NUM_FINE = (sum(side * side for side in sides) for sides in (_COARSE, _FINE))


@dataclasses.dataclass(frozen=True)
class Draws:
    """What one anomaly per image is made from; the noise fields are computed only for who asks.

    Attributes:
        uniform: ``(N, 32)`` uniform numbers in [0, 1); each shape and appearance reads fixed columns.
        normal: ``(N, M)`` standard normal numbers, the grids of the noise fields.
        size: Height and width of the images.
        half_sizes: Half axes of blobs and rectangles, from and to, in image sides.
    """

    uniform: Tensor
    normal: Tensor
    size: tuple[int, int]
    half_sizes: tuple[float, float] = (0.06, 0.5)

    def column(self, number: int) -> Tensor:
        """Uniform numbers of one column, ``(N, 1, 1)``."""
        return self.uniform[:, number, None, None]

    def select(self, index: Tensor) -> Draws:
        """The draws of some of the images."""
        return dataclasses.replace(self, uniform=self.uniform[index], normal=self.normal[index])

    def warp(self) -> Tensor:
        """Standardised coarse noise ``(N, H, W)``: bends outlines."""
        return _field(self.normal[:, :_NUM_COARSE], _COARSE, self.size)

    def texture(self) -> Tensor:
        """Standardised noise ``(N, H, W)`` with fine detail: fills regions."""
        return _field(self.normal[:, _NUM_COARSE:], _FINE, self.size)


def draw(seeds: Sequence[int], size: tuple[int, int]) -> Draws:
    """Draws for one anomaly per seed, for images of ``size`` (height, width)."""
    uniform, normal = [], []
    generator = torch.Generator()
    for seed in seeds:
        generator.manual_seed(seed)
        uniform.append(torch.rand(NUM_UNIFORM, generator=generator))
        normal.append(torch.randn(_NUM_COARSE + _NUM_FINE, generator=generator))
    return Draws(torch.stack(uniform), torch.stack(normal), size)


def _field(numbers: Tensor, sides: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    grids, start = [], 0
    for side in sides:
        grids.append(numbers[:, start : start + side * side].view(-1, 1, side, side))
        start += side * side
    return value_noise(grids, size)[:, 0]
