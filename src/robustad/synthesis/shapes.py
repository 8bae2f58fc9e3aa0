"""Where a pseudo-anomaly lies: soft masks of the shapes that defects have.

A shape is computed in a window that holds all of it; further away it would be fainter than `FAINT`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from robustad.synthesis.draws import Draws, Floats, Window

FAINT = 1e-5
"""What changes less than by this share is left as it is: less than a hundredth of a grey level."""
_FADE = math.log(1 / FAINT)  # the sigmoid of minus this is `FAINT`
_WARP = 4.5  # no standardised field of so few cells reaches further


class Cover(NamedTuple):
    """How much of the pixels of a window ``(h, w)`` belongs to a shape, in [0, 1]; none of what lies outside."""

    window: Window
    alpha: Floats


Shape = Callable[[Draws], Cover]
# numbers of `Draws.uniform` that shapes read: 0, 1 centre; 2 angle; 3 size; 4 aspect; 5 width; 6 length; 7 bend;
# 8 depth


def _around(draws: Draws, half_height: float, half_width: float) -> Window:
    """The window that reaches so far, in image sides, from the centre, cut at the borders; never empty."""
    edges = []
    for centre, half, pixels in zip(draws.uniform, (half_height, half_width), draws.size, strict=False):
        low = math.floor((centre - half) * pixels - 0.5)
        high = math.ceil((centre + half) * pixels + 0.5)
        edges += [min(max(low, 0), pixels - 1), max(min(high, pixels), 1)]
    return Window(*edges)


def _turned_window(draws: Draws, along: float, across: float) -> Window:
    """The window around a rotated rectangle with these half axes."""
    cosine, sine = _direction(draws)
    return _around(draws, along * abs(sine) + across * abs(cosine), along * abs(cosine) + across * abs(sine))


def _direction(draws: Draws) -> tuple[float, float]:
    angle = draws.uniform[2] * math.pi
    return math.cos(angle), math.sin(angle)


def _rotated(draws: Draws, window: Window) -> tuple[Floats, Floats]:
    """Coordinates ``(h, w)`` along and across a random axis through a random centre, in image sides."""
    rows, columns = window.grid(draws.size)
    x, y = columns - draws.uniform[1], rows - draws.uniform[0]
    cosine, sine = _direction(draws)
    return x * cosine + y * sine, y * cosine - x * sine


def _half_axes(draws: Draws) -> tuple[float, float]:
    """Half axes: geometric mean log-uniform within ``draws.half_sizes``, aspect up to 3."""
    smallest, largest = draws.half_sizes
    size = smallest * (largest / smallest) ** draws.uniform[3]
    aspect = 3 ** (draws.uniform[4] - 0.5)
    return size * aspect, size / aspect


def _soft(values: Floats, softness: float) -> Floats:
    """The logistic function of ``values / softness``, in place; through the tangent, which does not overflow."""
    values *= 0.5 / softness
    np.tanh(values, out=values)
    values += 1
    values *= 0.5
    return values


def blob(draws: Draws) -> Cover:
    """An ellipse whose outline is bent by noise: stains, burns, holes."""
    long, short = _half_axes(draws)
    cosine, sine = _direction(draws)
    reach = math.sqrt(1 + 0.7 * _WARP + 0.15 * _FADE)
    window = _around(
        draws, reach * math.hypot(long * sine, short * cosine), reach * math.hypot(long * cosine, short * sine)
    )
    along, across = _rotated(draws, window)
    along /= long
    across /= short
    along *= along
    across *= across
    inside = draws.warp(window)
    inside *= 0.7
    inside += 1
    inside -= along
    inside -= across
    return Cover(window, _soft(inside, 0.15))


def rectangle(draws: Draws) -> Cover:
    """A rotated rectangle with sharp edges: patches, foreign parts."""
    long, short = _half_axes(draws)
    window = _turned_window(draws, 0.7 * long, 0.7 * short)
    along, across = _rotated(draws, window)
    inside = (np.abs(along, out=along) < 0.7 * long) & (np.abs(across, out=across) < 0.7 * short)
    return Cover(window, inside.astype(np.float32))


def stroke(draws: Draws) -> Cover:
    """A thin, slightly bent line: scratches, cracks, fibres."""
    width = 0.006 + 0.03 * draws.uniform[5] ** 2
    bend, length = 0.06 * draws.uniform[7], 0.1 + 0.6 * draws.uniform[6]
    window = _turned_window(draws, length + 0.01 * _FADE, width + 0.004 * _FADE + bend * _WARP)
    along, across = _rotated(draws, window)
    across += bend * draws.warp(window)
    inside = _soft(width - np.abs(across), 0.004)
    inside *= _soft(length - np.abs(along), 0.01)
    return Cover(window, inside)


def band(draws: Draws) -> Cover:
    """All that lies on one side of a bent line, to some depth: broken-off or dead areas, shadows."""
    window = draws.everything
    _, across = _rotated(draws, window)
    depth = 0.2 + 0.8 * draws.uniform[8] - across
    across += 0.05 * draws.uniform[7] * draws.warp(window)
    return Cover(window, _soft(across, 0.01) * _soft(depth, 0.01))


def strip(draws: Draws) -> Cover:
    """As `band`, but nearly along the image's rows or columns: uneven grinding, misfeeds, lines of a process."""
    window = draws.everything
    rows, columns = window.grid(draws.size)
    level = draws.uniform[2] < 0.5
    along = (columns if level else rows) - 0.5
    across = rows - draws.uniform[0] if level else columns - draws.uniform[1]
    across = (across if draws.uniform[6] < 0.5 else -across) + 0.1 * (draws.uniform[5] - 0.5) * along
    inner = across + 0.03 * draws.uniform[7] * draws.warp(window)
    depth = 0.1 + 0.9 * draws.uniform[8] - inner
    return Cover(window, _soft(inner, 0.01) * _soft(depth, 0.01))


def whole(draws: Draws) -> Cover:
    """The whole foreground."""
    return Cover(draws.everything, np.ones(draws.size, dtype=np.float32))


SHAPES: dict[str, Shape] = {
    "blob": blob,
    "rectangle": rectangle,
    "stroke": stroke,
    "band": band,
    "strip": strip,
    "whole": whole,
}
