"""Which cells of `elpv` come from one solar module: the dataset does not say, its numbering and its images do.

Cells are numbered module by module: runs of one kind (mono or poly) are as long as whole modules of 60 cells, but for
two single modules (72 and 48 cells) and two runs that lack a few cells. Those are cut where the normal cells on either
side resemble each other least, which can be seen in the mono run (its sixth module of twelve lacks six cells); in the
poly run a cut may be a few cells off. That makes 18 and 26 modules, as many as the dataset's paper counts.

Source: Deitsch et al., Solar Energy 2019 (numbers of modules and cells).
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustad.data.tables import elpv_root

CELLS = 60
STRIPE, EDGE = 10, 8  # pixels
LEVELS = (2, 10, 50, 90, 98)
Floats = NDArray[np.float64]


def module_ranges(root: Path | None = None) -> dict[str, tuple[int, int]]:
    """First and last number of each module's cells, by module, e.g. ``mono-07``."""
    root = elpv_root() if root is None else root
    table = [line.split() for line in (root / "labels.csv").read_text().splitlines() if line.strip()]
    ranges: dict[str, tuple[int, int]] = {}
    counts = {"mono": 0, "poly": 0}
    first = 1
    for kind, run in groupby(table, key=lambda row: row[2]):
        for length in module_lengths(root, list(run)):
            counts[kind] += 1
            ranges[f"{kind}-{counts[kind]:02}"] = (first, first + length - 1)
            first += length
    return dict(sorted(ranges.items()))


def module_lengths(root: Path, run: list[list[str]]) -> list[int]:
    """Numbers of cells of the modules of one run, in their order."""
    count = round(len(run) / CELLS)
    if count == 1:
        return [len(run)]
    if len(run) == count * CELLS:
        return [CELLS] * count
    looks = np.array([look(root / row[0]) for row in run])
    return cut(looks, np.array([float(row[1]) == 0 for row in run]), count)


def look(path: Path) -> Floats:
    """How bright a cell is, in all, in stripes along both sides, and line by line at its edges."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"), dtype=np.float64)
    lines = [pixels.mean(axis) for axis in (0, 1)]
    stripes = [line.reshape(-1, STRIPE).mean(1) for line in lines]
    edges = [end for line in lines for end in (line[:EDGE], line[-EDGE:])]
    return np.concatenate([np.percentile(pixels, LEVELS), *stripes, *edges])


def cut(looks: Floats, normal: NDArray[np.bool_], count: int) -> list[int]:
    """Lengths of segments, none above `CELLS`, whose normal cells differ least from their segment's median.

    Args:
        looks: ``(N, D)``, one row per cell, in their order.
        normal: ``(N,)``, which cells say how their module looks.
        count: Number of segments.
    """
    scaled = (looks - looks[normal].mean(0)) / (looks[normal].std(0) + 1e-6)
    shortest = len(looks) - (count - 1) * CELLS
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for _ in range(count):
        ends: dict[int, tuple[float, list[int]]] = {}
        for start, (cost, lengths) in best.items():
            for length in range(shortest, min(CELLS, len(looks) - start) + 1):
                own = slice(start, start + length)
                total = cost + _spread(scaled[own][normal[own]])
                if start + length not in ends or total < ends[start + length][0]:
                    ends[start + length] = (total, [*lengths, length])
        best = ends
    return best[len(looks)][1]


def _spread(rows: Floats) -> float:
    return float(np.abs(rows - np.median(rows, 0)).sum()) if len(rows) else 0.0
