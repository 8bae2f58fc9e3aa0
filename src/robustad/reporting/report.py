"""What a report holds. Everything but the title may be missing, and is then left out of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from robustad.evaluation.results import Row

METRICS = ("image_AUROC", "image_AUPR", "image_F1Max", "pixel_AUROC", "pixel_AUPR", "AUPRO")
"""Metrics in the order of a table's columns; others follow in order of appearance."""


NORM_SIGNS = {"linf": "L∞", "l2": "L2", "none": ""}
"""Norms as people write them."""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The figures on top of the page.

    Attributes:
        clean: The metric without attack, in [0, 1].
        attacked: The metric in the worst case; None = no attack was run.
        epsilon: Size of that attack in pixel units of [0, 1].
        norm: Norm of its ball.
        baseline: What the trivial detector reaches without attack; None = not measured.
        baseline_name: What the trivial detector measures.
        attack: What the worst case was taken over.
        metric: Name of the metric.
        clean_interval: Confidence interval of ``clean``.
        attacked_interval: Confidence interval of ``attacked``.
        lead: Confidence interval of ``attacked`` minus ``baseline`` on the same images; None = too few for one.
        limits: Why the worst case is none of everything, as half a sentence; empty = it is.
    """

    clean: float
    attacked: float | None = None
    epsilon: float | None = None
    norm: str = "linf"
    baseline: float | None = None
    baseline_name: str = "mean brightness"
    attack: str = "worst case over all attacks"
    metric: str = "image AUROC"
    clean_interval: tuple[float, float] | None = None
    attacked_interval: tuple[float, float] | None = None
    lead: tuple[float, float] | None = None
    limits: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One line of a metric table.

    Attributes:
        attack: Name of the attack; ``none`` for clean images.
        epsilon: Radius in pixel units of [0, 1].
        values: Figures by metric name; a missing one or None is undefined and shown as a dash.
        norm: Norm of the ball.
        baseline: Whether this is the trivial detector, which is set apart.
        emphasis: Whether this is the row to look at.
        name: Shown instead of the attack's name.
    """

    attack: str
    epsilon: float
    values: Mapping[str, float | None]
    norm: str = "linf"
    baseline: bool = False
    emphasis: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class MetricTable:
    """Metrics by attack and radius. Metrics that no row has (no maps, no masks) get no column.

    Attributes:
        caption: What the figures are about.
        rows: The lines.
        note: A sentence below the table.
        head: What the lines are called.
        by_radius: Whether each line is about a radius of its own.
    """

    caption: str
    rows: tuple[MetricRow, ...]
    note: str = ""
    head: str = "Attack"
    by_radius: bool = True

    @property
    def columns(self) -> list[str]:
        """Names of the metrics that at least one row has."""
        present = dict.fromkeys(name for row in self.rows for name, value in row.values.items() if value is not None)
        return [name for name in METRICS if name in present] + [name for name in present if name not in METRICS]


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """A plot.

    Attributes:
        title: Title.
        data: The bytes of a PNG, JPEG or SVG file.
        caption: How to read it.
        alt: What it shows, for readers who do not see it; empty = title and caption.
        wide: Whether it takes the whole width of the page instead of half of it.
    """

    title: str
    data: bytes
    caption: str = ""
    alt: str = ""
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image with its pictures.

    Attributes:
        name: Name of the image.
        picture: PNG bytes, e.g. of `visual.strip`.
        score_clean: Its score.
        score_attacked: Its score under attack.
        anomalous: Its label, if known: with a threshold, the decisions are then marked right or wrong.
    """

    name: str
    picture: bytes
    score_clean: float | None = None
    score_attacked: float | None = None
    anomalous: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """Examples of one kind, e.g. the anomalous images with the lowest scores.

    Attributes:
        title: E.g. "Anomalous, worst".
        examples: The images.
        note: A sentence below the title.
    """

    title: str
    examples: tuple[Example, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """One verdict on whether the figures can be believed.

    Attributes:
        name: What was checked.
        passed: Outcome; None = it could not be run.
        why: What was measured, and against which limit.
    """

    name: str
    passed: bool | None
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything on the page.

    Attributes:
        title: Title.
        headline: The figures on top.
        verdicts: Sentences that say what the figures mean.
        summary: Facts on detector and data, by name.
        tables: Metric tables.
        figures: Plots.
        groups: Example images.
        threshold: Decision threshold of the scores: with it each example says how it was decided.
        health: Verdicts on the figures.
        command: The command that makes this report again.
        environment: Facts on machine and software, by name.
        created: Date and time, as text.
    """

    title: str
    headline: Headline | None = None
    verdicts: tuple[str, ...] = ()
    summary: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[MetricTable, ...] = ()
    figures: tuple[ReportFigure, ...] = ()
    groups: tuple[ExampleGroup, ...] = ()
    threshold: float | None = None
    health: tuple[HealthCheck, ...] = ()
    command: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    created: str = ""


def metric_table(
    rows: Iterable[Row], *, caption: str, baseline: str = "brightness", emphasis: str = "ensemble", note: str = ""
) -> MetricTable:
    """A table from result rows: one line per detector kind, attack, norm and radius; the trivial baseline comes last.

    Args:
        rows: Rows of one detector on one data set, and of the baseline; ``mean`` is shown where a row has seeds.
        caption: Caption.
        baseline: Name of the detector that is the trivial baseline.
        emphasis: The attack whose lines are emphasised.
        note: A sentence below the table.

    Returns:
        The table.

    Raises:
        ValueError: If two rows claim the same cell.
    """
    cells: dict[tuple[bool, str, str, float], dict[str, float | None]] = {}
    for row in rows:
        key = (row.detector == baseline, row.attack, row.norm, row.epsilon)
        values = cells.setdefault(key, {})
        if row.metric in values:
            raise ValueError(f"two rows for {row.metric} under {row.attack} at {row.epsilon:g}; select one first")
        values[row.metric] = row.number
    lines = [
        MetricRow(
            attack=attack,
            norm=norm,
            epsilon=epsilon,
            values=values,
            baseline=is_baseline,
            emphasis=attack == emphasis and not is_baseline,
            name=f"{baseline} (trivial baseline)" if is_baseline and attack == "none" else "",
        )
        for (is_baseline, attack, norm, epsilon), values in cells.items()
    ]
    return MetricTable(caption=caption, rows=tuple(sorted(lines, key=lambda line: line.baseline)), note=note)


def spread_text(row: Row) -> str:
    """Range over seeds, or the interval of a single one."""
    values = [value for value in row.values or () if value is not None]
    if len(values) > 1:
        return f"({min(values):.3f} to {max(values):.3f})"
    return "" if row.interval is None else f"[{row.interval[0]:.3f}, {row.interval[1]:.3f}]"


def format_epsilon(epsilon: float, norm: str = "linf") -> str:
    """A radius as people write it: ``8/255`` where it is a whole number of grey levels per pixel, else decimal."""
    levels = 255 * epsilon
    if epsilon == 0:
        return "0"
    whole = norm == "linf" and epsilon < 1 and math.isclose(levels, round(levels), abs_tol=1e-4)
    return f"{levels:.0f}/255" if whole else f"{epsilon:.4g}"
