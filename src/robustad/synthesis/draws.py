"""Random numbers per sample: each image's anomaly depends on its own seed, never on its batch, rank or worker."""

from __future__ import annotations

import dataclasses
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Floats = NDArray[np.floating[Any]]
"""Of float32."""
NUM_UNIFORM = 32
_COARSE, _FINE = (4, 8, 16), (3, 6, 12, 24)  # sides of the grids, cells
_NUM_COARSE, _NUM_FINE = (sum(side * side for side in sides) for sides in (_COARSE, _FINE))


class Window(NamedTuple):
    """A rectangle of pixels: rows ``top`` to ``bottom``, columns ``left`` to ``right``, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where it lies in an array ``(H, W)``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grid(self, size: tuple[int, int]) -> tuple[Floats, Floats]:
        """Centres of the rows ``(h, 1)`` and of the columns ``(1, w)``, in (0, 1) over an image of ``size``."""
        rows = (np.arange(self.top, self.bottom, dtype=np.float32) + 0.5) / size[0]
        columns = (np.arange(self.left, self.right, dtype=np.float32) + 0.5) / size[1]
        return rows[:, None], columns[None, :]


@dataclasses.dataclass(frozen=True)
class Draws:
    """What one anomaly is made from; the numbers of the noise fields are drawn only for who asks.

    Attributes:
        uniform: 32 uniform numbers in [0, 1); each shape and appearance reads fixed ones.
        generator: Stands behind the uniform numbers.
        size: Height and width of the image.
        half_sizes: Half axes of blobs and rectangles, from and to, in image sides.
    """

    uniform: list[float]
    generator: torch.Generator
    size: tuple[int, int]
    half_sizes: tuple[float, float] = (0.06, 0.5)

    @property
    def everything(self) -> Window:
        """The window that is the whole image."""
        return Window(0, self.size[0], 0, self.size[1])

    def warp(self, window: Window) -> Floats:
        """Coarse noise ``(h, w)`` in a window, standardised over the image: bends outlines."""
        return _field(self._normal[:_NUM_COARSE], _COARSE, self.size, window)

    def texture(self, window: Window) -> Floats:
        """Noise with fine detail ``(h, w)`` in a window, standardised over the image: fills regions."""
        return _field(self._normal[_NUM_COARSE:], _FINE, self.size, window)

    @cached_property
    def _normal(self) -> Floats:
        """Standard normal numbers, the grids of the noise fields."""
        numbers: Floats = torch.randn(_NUM_COARSE + _NUM_FINE, generator=self.generator).numpy()
        return numbers


def draw(seed: int, area: NDArray[np.bool_], half_sizes: tuple[float, float] = (0.06, 0.5)) -> Draws:
    """Draws for one anomaly whose centre, numbers 0 and 1, lies in ``area`` ``(H, W)``, which must not be empty."""
    height, width = area.shape
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(NUM_UNIFORM, generator=generator).tolist()
    count = int(np.count_nonzero(area))
    rank = min(int(np.float32(uniform[10]) * np.float32(count)), count - 1)
    row, column = divmod(rank if count == area.size else int(np.flatnonzero(area)[rank]), width)
    # number 10 stands for a pixel of the area, row by row; the first two say where inside of that pixel
    uniform[:2] = [(row + uniform[0]) / height, (column + uniform[1]) / width]
    return Draws(uniform, generator, (height, width), half_sizes)


class _Basis(NamedTuple):
    """How the cells of all octaves, one after the other, become the pixels of one axis of length L.

    Attributes:
        weights: Bicubic weights ``(L, cells)``.
        mean: Of the weights over the pixels ``(cells,)``.
        products: Of the weights with each other, mean over the pixels ``(cells, cells)``.
    """

    weights: Floats
    mean: NDArray[np.float64]
    products: NDArray[np.float64]


@lru_cache(maxsize=64)
def _basis(length: int, sides: tuple[int, ...]) -> _Basis:
    parts = [
        F.interpolate(torch.eye(side)[None, None], size=(length, side), mode="bicubic", align_corners=True)[0, 0]
        for side in sides
    ]
    weights = torch.cat(parts, dim=1).numpy()
    exact = weights.astype(np.float64)
    return _Basis(weights, exact.mean(axis=0), exact.T @ exact / length)


def _field(numbers: Floats, sides: tuple[int, ...], size: tuple[int, int], window: Window) -> Floats:
    """What `robustad.ops.noise.value_noise` makes of the grids, in a window of the image.

    Bicubic weights of rows and of columns are two matrices, so that mean and spread over all pixels follow from small
    products: no pixel outside of the window is computed.
    """
    grid: NDArray[Any] = np.zeros((sum(sides), sum(sides)))  # octaves on the diagonal, each with half the weight
    start, place = 0, 0
    for octave, side in enumerate(sides):
        cells = numbers[start : start + side * side].reshape(side, side)
        grid[place : place + side, place : place + side] = 0.5**octave * cells
        start, place = start + side * side, place + side
    rows, columns = _basis(size[0], sides), _basis(size[1], sides)
    mean = float(rows.mean @ grid @ columns.mean)
    square = float(np.sum((rows.products @ grid) * (grid @ columns.products)))
    pixels = size[0] * size[1]
    spread = max(max(square - mean * mean, 0.0) * pixels / max(pixels - 1, 1), 1e-12) ** 0.5
    # torch, not NumPy: it keeps to the number of threads that it was given
    scaled = torch.from_numpy((grid / spread).astype(np.float32))
    across = scaled @ torch.from_numpy(columns.weights[window.left : window.right]).T
    field: Floats = (torch.from_numpy(rows.weights[window.top : window.bottom]) @ across).numpy()
    field -= np.float32(mean / spread)
    return field
