"""Where a pseudo-anomaly lies: soft masks of the shapes that defects have."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from robustad.ops.noise import pixel_grid
from robustad.synthesis.draws import Draws

Shape = Callable[[Draws], Tensor]
# columns of `Draws.uniform` that shapes read: 0, 1 centre; 2 angle; 3 size; 4 aspect; 5 width; 6 length; 7 bend;
# 8 depth


def _rotated(draws: Draws) -> tuple[Tensor, Tensor]:
    """Coordinates ``(N, H, W)`` along and across a random axis through a random centre, in image sides."""
    rows, columns = pixel_grid(draws.size)
    x, y = columns - draws.column(1), rows - draws.column(0)
    angle = draws.column(2) * math.pi
    return x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()


def _half_axes(draws: Draws) -> tuple[Tensor, Tensor]:
    """Half axes: geometric mean log-uniform within ``draws.half_sizes``, aspect up to 3."""
    smallest, largest = draws.half_sizes
    size = smallest * (largest / smallest) ** draws.column(3)
    aspect = 3 ** (draws.column(4) - 0.5)
    return size * aspect, size / aspect


def blob(draws: Draws) -> Tensor:
    """An ellipse whose outline is bent by noise: stains, burns, holes."""
    along, across = _rotated(draws)
    long, short = _half_axes(draws)
    radius = (along / long).square() + (across / short).square()
    return torch.sigmoid((1 - radius + 0.7 * draws.warp()) / 0.15)


def rectangle(draws: Draws) -> Tensor:
    """A rotated rectangle with sharp edges: patches, foreign parts."""
    along, across = _rotated(draws)
    long, short = _half_axes(draws)
    return ((along.abs() < 0.7 * long) & (across.abs() < 0.7 * short)).to(along.dtype)


def stroke(draws: Draws) -> Tensor:
    """A thin, slightly bent line: scratches, cracks, fibres."""
    along, across = _rotated(draws)
    width = 0.006 + 0.03 * draws.column(5).square()
    bent = (across + 0.06 * draws.column(7) * draws.warp()).abs()
    end = 0.1 + 0.6 * draws.column(6) - along.abs()
    return torch.sigmoid((width - bent) / 0.004) * torch.sigmoid(end / 0.01)


def band(draws: Draws) -> Tensor:
    """All that lies on one side of a bent line, to some depth: broken-off or dead areas, shadows."""
    _, across = _rotated(draws)
    inner = across + 0.05 * draws.column(7) * draws.warp()
    depth = 0.2 + 0.8 * draws.column(8) - across
    return torch.sigmoid(inner / 0.01) * torch.sigmoid(depth / 0.01)


def strip(draws: Draws) -> Tensor:
    """As `band`, but nearly along the image's rows or columns: uneven grinding, misfeeds, lines of a process."""
    rows, columns = pixel_grid(draws.size)
    level = draws.column(2) < 0.5
    along = torch.where(level, columns, rows) - 0.5
    across = torch.where(level, rows - draws.column(0), columns - draws.column(1))
    across = torch.where(draws.column(6) < 0.5, across, -across) + 0.1 * (draws.column(5) - 0.5) * along
    inner = across + 0.03 * draws.column(7) * draws.warp()
    depth = 0.1 + 0.9 * draws.column(8) - inner
    return torch.sigmoid(inner / 0.01) * torch.sigmoid(depth / 0.01)


def whole(draws: Draws) -> Tensor:
    """The whole foreground."""
    return draws.uniform.new_ones(len(draws.uniform), *draws.size)


SHAPES: dict[str, Shape] = {
    "blob": blob,
    "rectangle": rectangle,
    "stroke": stroke,
    "band": band,
    "strip": strip,
    "whole": whole,
}
