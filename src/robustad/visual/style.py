"""One look for all figures: colours that colour-blind readers can tell apart, legible on light and on dark pages.

Figures are drawn with matplotlib's object-oriented interface; pyplot and its global state are never touched.
"""

from __future__ import annotations

import io
import re
import threading
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ImageFormat = Literal["svg", "png"]

NORMAL, ANOMALOUS = "#2b83c6", "#e06c00"
"""Colours of the two classes, everywhere."""
PALETTE = ("#d1495b", "#2b83c6", "#1f9e77", "#e08e00", "#9a6fc9", "#8a6d4b", "#4fa3a5", "#c0619f")
"""Line colours in order of use; each holds a contrast of 3:1 or so against white and against near-black."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
"""Markers in order of use, so that colour is never the only difference."""
INK, MUTED, GRID = "#1f2933", "#5b6672", "#d5dae0"
"""Text, secondary text and grid lines on a light page."""

_DARK = {INK: "#e8ecf1", MUTED: "#a3adb9", GRID: "#39424e"}  # what they turn into on a dark page
_NAMES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"}
_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_RC = {"svg.fonttype": "none", "svg.hashsalt": "robustad"}
_LOCK = threading.Lock()  # matplotlib's settings are global; the service draws from several threads


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` x ``height`` inches on a transparent ground."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0.0)
    return figure


def add_axes(figure: Figure, *position: int, title: str = "", xlabel: str = "", ylabel: str = "") -> Axes:
    """A quiet pair of axes: no box, light horizontal grid, muted ticks.

    Args:
        figure: Where to put it.
        position: Rows, columns and index as for ``Figure.add_subplot``.
        title: Title, set flush left.
        xlabel: Label of the horizontal axis.
        ylabel: Label of the vertical axis.

    Returns:
        The axes.
    """
    axes = figure.add_subplot(*position)
    axes.patch.set_alpha(0.0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=MUTED, labelsize=9, length=3)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=9.5, color=INK)
    axes.set_ylabel(ylabel, fontsize=9.5, color=INK)
    return axes


def add_legend(axes: Axes, **options: Any) -> None:
    """A legend without a frame, if anything is labelled."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.8, **options)


def to_bytes(figure: Figure, image_format: ImageFormat = "svg") -> bytes:
    """The figure as a file: SVG follows the reader's light or dark page, PNG has a white ground.

    Args:
        figure: What to write.
        image_format: ``svg`` or ``png``.

    Returns:
        The file's bytes; the same figure gives the same bytes.

    Raises:
        ValueError: For another format.
    """
    buffer = io.BytesIO()
    if image_format == "png":
        figure.savefig(buffer, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()
    if image_format != "svg":
        raise ValueError(f"`image_format` must be svg or png, got {image_format!r}")
    with _LOCK, matplotlib.rc_context(_RC):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _adaptive(buffer.getvalue().decode()).encode()


def _adaptive(svg: str) -> str:
    """Let ink, muted and grid colours follow ``prefers-color-scheme``, and take the reader's own sans-serif font."""
    for colour, name in _NAMES.items():
        # Both declarations: a viewer without CSS variables keeps the first and drops the second.
        svg = re.sub(rf"(fill|stroke): {colour}", rf"\1: {colour}; \1: var({name}, {colour})", svg)
    svg = re.sub(r"'DejaVu Sans'(?:, '?[\w -]+'?)*", _FAMILY, svg)
    light = ";".join(f"{name}:{colour}" for colour, name in _NAMES.items())
    dark = ";".join(f"{name}:{_DARK[colour]}" for colour, name in _NAMES.items())
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{style}", svg, count=1)
