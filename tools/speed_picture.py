"""Draw the ratios of ``results/bench.json``: one bar per claim, and the line at which neither side is faster.

Run: python tools/speed_picture.py      (after `make bench`; `python tools/make_pictures.py` calls it, too)
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.axes import Axes

from robustad.evaluation import BenchmarkRow, Results
from robustad.visual.style import ANOMALOUS, INK, MUTED, NORMAL, add_axes, new_figure, to_bytes

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "speed.svg"
NO_CLAIM = (
    "operations",
    "gemm peak",
    "ratio that",
    "share of all work",
    "wall clock",
    "what cannot go",
    "the bound of",
)
"""Rows that say what a machine or an algorithm is like, not who is better: by a part of their text."""


def shown(rows: tuple[BenchmarkRow, ...]) -> list[BenchmarkRow]:
    """The rows that have a bar."""
    return [row for row in rows if row.ratio and not any(part in row.claim for part in NO_CLAIM)]


def label(row: BenchmarkRow) -> str:
    """The text behind a bar."""
    return f"{row.ratio:.2f}×"


def speed_picture(results: Results) -> bytes:
    """The bars as SVG, in the order of the file.

    Raises:
        ValueError: If the file has no comparison.
    """
    rows = shown(results.benchmarks)
    if not rows:
        raise ValueError(f"{results.name} has no comparison to draw; run make bench")
    figure = new_figure(9.4, 0.9 + 0.44 * len(rows))
    axes = add_axes(figure, 1, 1, 1, xlabel="how many times better ours is (speed, or memory where the line says so)")
    _draw(axes, rows)
    return to_bytes(figure)


def _draw(axes: Axes, rows: list[BenchmarkRow]) -> None:
    places = range(len(rows))
    ratios = [row.ratio or 1.0 for row in rows]
    # bars grow from 1 in both directions, and twice as fast is as far from it as half as fast
    axes.set_xscale("log", base=2)
    axes.barh(
        places,
        [ratio - 1 for ratio in ratios],
        left=1,
        height=0.62,
        color=[NORMAL if ratio >= 1 else ANOMALOUS for ratio in ratios],
    )
    axes.axvline(1, color=INK, linewidth=1.3)
    for place, row, ratio in zip(places, rows, ratios, strict=True):
        beyond = 5 if ratio >= 1 else -5
        axes.annotate(
            label(row),
            (ratio, place),
            xytext=(beyond, 0),
            textcoords="offset points",
            ha="left" if ratio >= 1 else "right",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_yticks(places, [textwrap.fill(row.claim, 62) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", labelcolor=INK)
    low, high = min(0.5, *ratios) / 1.5, max(2.0, *ratios) * 1.5
    axes.set_xlim(low, high)
    ticks = [stop for stop in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32, 64, 128) if low <= stop <= high]
    axes.set_xticks(ticks, [f"{stop:g}×" if stop == 1 else f"{stop:g}" for stop in ticks], color=MUTED)
    axes.minorticks_off()


def main() -> None:
    """Draw and write."""
    PICTURE.write_bytes(speed_picture(Results.read(ROOT / "results" / "bench.json")))
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
