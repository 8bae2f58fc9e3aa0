"""Plots: robustness against the size of the attack, score histograms, ROC curves, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from robustad.visual.style import (
    ANOMALOUS,
    GRID,
    INK,
    MARKERS,
    MUTED,
    NORMAL,
    PALETTE,
    ImageFormat,
    add_axes,
    add_legend,
    new_figure,
    to_bytes,
)


class Curve(NamedTuple):
    """One line of a security curve.

    Attributes:
        epsilons: Radii in pixel units of [0, 1], ascending.
        values: The metric at each of them.
        low: Lower ends of an interval, or None.
        high: Upper ends of it.
    """

    epsilons: Sequence[float]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


EPSILON_AXES = {
    "linf": ("largest change of a pixel, ε in grey levels of 255", 255.0),
    "l2": ("length of the perturbation, ε (L2, pixels in [0, 1])", 1.0),
}
"""Label of the radius axis and its unit, by the norm."""


def security_curve(
    curves: Mapping[str, Curve],
    *,
    baseline: float | None = None,
    baseline_label: str = "mean brightness",
    metric: str = "image AUROC",
    norm: str = "linf",
    image_format: ImageFormat = "svg",
) -> bytes:
    """A metric against the size of the perturbation, one line per attack.

    Args:
        curves: Line by attack name; the first is drawn thickest (the headline).
        baseline: What a trivial detector reaches without attack, dashed; None = no line.
        baseline_label: Its name.
        metric: Label of the vertical axis, which runs from 0 to 1.
        norm: Of the perturbation: a key of `EPSILON_AXES`.
        image_format: ``svg`` or ``png``.

    Returns:
        The figure's bytes.

    Raises:
        ValueError: If there is no curve, or a curve's lengths differ.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve")
    figure = new_figure(9.4, 4.4)
    label, unit = EPSILON_AXES[norm]
    axes = add_axes(figure, 1, 1, 1, xlabel=label, ylabel=metric)
    for index, (name, curve) in enumerate(curves.items()):
        _draw_curve(axes, name, curve, index, unit)
    stops = sorted({unit * epsilon for curve in curves.values() for epsilon in curve.epsilons})
    right = stops[-1] or 1.0
    axes.set_xlim(-0.02 * right, 1.02 * right)
    axes.set_ylim(0, 1.02)
    axes.set_xticks(_readable(stops, right), [f"{stop:g}" for stop in np.round(_readable(stops, right), 2)])
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 3)))
    axes.text(0, 0.485, "chance", fontsize=8.5, color=MUTED, va="top")
    labels = [
        (float(curve.values[-1]), f"{name} {curve.values[-1]:.2f}", PALETTE[i % len(PALETTE)])
        for i, (name, curve) in enumerate(curves.items())
    ]
    if baseline is not None:
        axes.axhline(baseline, color=INK, linewidth=1.3, linestyle=(0, (5, 3)))
        labels.append((baseline, f"{baseline_label} {baseline:.2f}", INK))
    _label_ends(axes, labels)
    return to_bytes(figure, image_format)


def score_histograms(
    normal: Any,
    anomalous: Any,
    threshold: float | None = None,
    *,
    attacked_normal: Any = None,
    attacked_anomalous: Any = None,
    image_format: ImageFormat = "svg",
) -> bytes:
    """Where the scores of both classes lie, clean and, beside it, under attack.

    Args:
        normal: Scores of normal images.
        anomalous: Scores of anomalous images.
        threshold: Decision threshold, drawn as a line; None = none.
        attacked_normal: Scores of the attacked normal images; None with ``attacked_anomalous`` = no second panel.
        attacked_anomalous: Scores of the attacked anomalous images.
        image_format: ``svg`` or ``png``.

    Returns:
        The figure's bytes.

    Raises:
        ValueError: If there are no scores, or some are not finite.
    """
    clean = [_scores(normal, "normal"), _scores(anomalous, "anomalous")]
    attacked = [_scores(attacked_normal, "attacked_normal"), _scores(attacked_anomalous, "attacked_anomalous")]
    panels = [("clean", clean)] + ([("under attack", attacked)] if any(part.size for part in attacked) else [])
    everything = np.concatenate([*clean, *attacked])
    if everything.size == 0:
        raise ValueError("`normal` and `anomalous` hold no scores")
    low, high = _visible_range(everything, threshold)
    edges = np.linspace(low, high, 41)
    figure = new_figure(4.4 * len(panels) if len(panels) > 1 else 5.4, 2.9)
    tallest = 0.0
    drawn = []
    for index, (title, parts) in enumerate(panels):
        axes = add_axes(figure, 1, len(panels), index + 1, title=title, xlabel="image score")
        tallest = max(tallest, _draw_histogram(axes, parts, edges, threshold))
        drawn.append(axes)
    for axes in drawn:
        axes.set_ylim(0, 1.12 * tallest)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    drawn[0].set_ylabel("share of the class", fontsize=9.5, color=INK)
    figure.legend(
        *drawn[0].get_legend_handles_labels(),
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return to_bytes(figure, image_format)


def roc_curve_plot(curves: Mapping[str, tuple[Any, Any]], *, image_format: ImageFormat = "svg") -> bytes:
    """ROC curves.

    Args:
        curves: ``(false positive rates, true positive rates)`` by label, each ascending from 0 to 1.
        image_format: ``svg`` or ``png``.

    Returns:
        The figure's bytes.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve")
    figure = new_figure(4.4, 4.2)
    colours = (PALETTE[1], PALETTE[0], *PALETTE[2:])  # clean curves come first and are not alarming
    axes = add_axes(figure, 1, 1, 1, xlabel="false alarms among normal images", ylabel="anomalous images found")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 3)))
    for index, (name, (false_rates, true_rates)) in enumerate(curves.items()):
        axes.plot(false_rates, true_rates, color=colours[index % len(colours)], linewidth=2, label=name)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    add_legend(axes, loc="lower right")
    return to_bytes(figure, image_format)


class Course(NamedTuple):
    """What is drawn of one training task in a panel of `time_curves`.

    Attributes:
        curves: ``(minutes, values)`` by label, minutes ascending and above 0; the first is the baseline.
        mark: Value to be reached, a dashed line.
    """

    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    mark: float


def time_curves(
    courses: Mapping[str, Course], *, metric: str = "attacked image AUROC", image_format: ImageFormat = "svg"
) -> bytes:
    """A metric against training time on a logarithmic axis, one panel per data set.

    Args:
        courses: Panel by its title.
        metric: Label of the vertical axis, which runs from 0 to 1.
        image_format: ``svg`` or ``png``.

    Returns:
        The figure's bytes.

    Raises:
        ValueError: If there is no panel, or a curve has no point.
    """
    if not courses or not all(len(x) for course in courses.values() for x, _ in course.curves.values()):
        raise ValueError("`courses` must hold at least one panel, and each of its curves at least one point")
    figure = new_figure(4.4 * len(courses) + 0.6, 3.4)
    for index, (title, course) in enumerate(courses.items()):
        axes = add_axes(figure, 1, len(courses), index + 1, title=title, xlabel="minutes of training", ylabel=metric)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for number, (name, (minutes, values)) in enumerate(course.curves.items()):
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            axes.plot(minutes, values, label=name, linewidth=1.8, color=colour, marker=marker, markersize=5)
        axes.axhline(course.mark, color=INK, linewidth=1.3, linestyle=(0, (5, 3)))
        axes.text(0.01, course.mark + 0.02, f"mark {course.mark:.2f}", transform=axes.get_yaxis_transform(), color=INK)
        axes.set_ylim(0, 1.02)
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_marker() != "None"}
    figure.legend(
        handles=list(lines.values()),
        loc="outside upper right",
        ncols=len(lines),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    return to_bytes(figure, image_format)


def training_curves(rows: Sequence[Mapping[str, Any]], *, x: str = "step", image_format: ImageFormat = "svg") -> bytes:
    """What a training log says, one panel per kind of quantity.

    Args:
        rows: Log rows; each number except ``x`` becomes a line, a missing one a gap. Names with "loss" share a panel,
            names with "auroc" share another one that runs to 1; any other name has its own.
        x: What to draw against.
        image_format: ``svg`` or ``png``.

    Returns:
        The figure's bytes.

    Raises:
        ValueError: If no row has ``x`` and a number.
    """
    panels: dict[str, list[str]] = {}
    names = dict.fromkeys(name for row in rows if x in row for name in row if name != x and _is_number(row[name]))
    for name in names:
        kind = next((kind for kind in ("loss", "AUROC") if kind.lower() in name.lower()), name)
        panels.setdefault(kind, []).append(name)
    if not panels:
        raise ValueError(f"`rows` must hold numbers beside {x!r}; got {len(rows)} rows without")
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(3.4 * columns if columns > 1 else 5.4, 2.7 * lines)
    for index, (kind, members) in enumerate(panels.items()):
        axes = add_axes(figure, lines, columns, index + 1, title=kind, xlabel=x)
        for number, name in enumerate(members):
            points = [(row[x], row[name]) for row in rows if x in row and _is_number(row.get(name))]
            axes.plot(
                *zip(*points, strict=True),
                label=name,
                color=PALETTE[(number + 1) % len(PALETTE)],
                linewidth=1.8,
                marker="o" if len(points) < 12 else "",
                markersize=3.5,
            )
        if kind == "AUROC":
            axes.set_ylim(top=1.005)
        if len(members) > 1 or members[0] != kind:
            add_legend(axes)
    return to_bytes(figure, image_format)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _draw_curve(axes: Axes, name: str, curve: Curve, index: int, unit: float) -> None:
    sizes = {len(part) for part in curve if part is not None}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"curve {name!r} must have as many values as epsilons, at least one")
    levels = unit * np.asarray(curve.epsilons, dtype=np.float64)
    colour = PALETTE[index % len(PALETTE)]
    if curve.low is not None and curve.high is not None:
        axes.fill_between(levels, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
    axes.plot(
        levels,
        curve.values,
        color=colour,
        linewidth=2.6 if index == 0 else 1.6,
        marker=MARKERS[index % len(MARKERS)],
        markersize=6.5 if index == 0 else 5,
        zorder=4 if index == 0 else 3,
        clip_on=False,
    )


def _readable(stops: list[float], right: float) -> list[float]:
    """The stops that can carry a tick label without touching their neighbour, the last one first."""
    kept: list[float] = []
    for stop in reversed(stops):
        if not kept or kept[-1] - stop >= 0.04 * right:
            kept.append(stop)
    return kept[::-1]


def _label_ends(axes: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names beside the right ends of the lines, moved apart where they would overlap."""
    labels = sorted(labels)
    heights = _spread([height for height, _, _ in labels], gap=0.056, top=1.0)
    for (value, text, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            text,
            xy=(1.0, value),
            xytext=(1.045, height / 1.02),
            xycoords=("axes fraction", "data"),
            textcoords="axes fraction",
            fontsize=9.5,
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": GRID, "linewidth": 0.8, "shrinkB": 3, "relpos": (0, 0.5)},
        )


def _spread(positions: list[float], *, gap: float, top: float) -> list[float]:
    """Move ascending positions as little as possible (least squares) to be ``gap`` apart and not above ``top``."""
    steps = gap * np.arange(len(positions))
    # "At least a gap apart" is "ascending" once the gaps are taken out.
    moved = isotonic_regression(np.asarray(positions) - steps).x + steps
    return [float(height) for height in np.minimum(moved, top - steps[::-1])]


def _scores(values: Any, name: str) -> NDArray[np.float64]:
    array = np.asarray([] if values is None else values, dtype=np.float64).ravel()
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite, got NaN or infinity")
    return array


def _visible_range(values: NDArray[np.float64], threshold: float | None) -> tuple[float, float]:
    """The range of all scores and the threshold, a little wider; a single value gets room on both sides."""
    low, high = float(values.min()), float(values.max())
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or max(1e-6, abs(high)) * 0.5
    return low - margin, high + margin


def _draw_histogram(axes: Axes, parts: list[NDArray[np.float64]], edges: Any, threshold: float | None) -> float:
    tallest = 0.0
    for scores, name, colour in zip(parts, ("normal", "anomalous"), (NORMAL, ANOMALOUS), strict=True):
        if scores.size:
            share = np.histogram(scores, bins=edges)[0] / scores.size
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{name} ({scores.size})")
            tallest = max(tallest, float(share.max()))
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.3, linestyle=(0, (5, 3)))
        axes.annotate(
            "threshold",
            (threshold, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=9,
            color=INK,
        )
    return tallest
