"""The table of corruptions in a test report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustad.evaluation import BASELINE, FALSE_ALARMS, MISSES, Row, select
from robustad.reporting import MetricRow, MetricTable

_METRICS = {"AUROC": "image_AUROC", "false alarms": FALSE_ALARMS, "misses": MISSES}
Figures = dict[str, float | None]


def corruption_table(rows: Sequence[Row], detector: str, *, calibrated: bool) -> MetricTable:
    """Clean, the mean over all corruptions, then each of them, the most harmful first; last the brightness baseline.

    Args:
        rows: What `robustad.evaluation.corruption_rows` gave.
        detector: Name of the detector.
        calibrated: Whether the threshold is the detector's own.
    """
    severities = sorted({row.epsilon for row in rows if row.epsilon})
    own = select(rows, detector=detector)
    names = list(dict.fromkeys(row.attack for row in own if row.epsilon))
    figures = {name: _line(own, [name], severities) for name in names}
    rule = "the detector's own" if calibrated else "the one that 5 % of the clean normal images lie above"
    return MetricTable(
        caption="Corruptions by severity, the most harmful first",
        rows=(
            _row("clean", _line(own, ["none"], severities)),
            _row("mean of all corruptions", _line(own, names, severities), emphasis=True),
            *(
                _row(name, figures[name])
                for name in sorted(names, key=lambda name: _harm(figures[name], severities), reverse=True)
            ),
            *_baseline(select(rows, detector=BASELINE), names, severities, detector),
        ),
        note=f"False alarms and misses are shares at one fixed threshold, {rule}: what happens on a line.",
        head="Corruption, severity",
        by_radius=False,
    )


def _harm(line: Figures, severities: Sequence[float]) -> float:
    """At the highest severity: how much is lost, or without images of defects how often the line would stop."""
    kept, stops = (line[f"{title}, {severities[-1]:g}"] for title in ("AUROC", "false alarms"))
    return (stops or 0.0) if kept is None else 1 - kept


def _line(rows: Sequence[Row], names: Sequence[str], severities: Sequence[float]) -> Figures:
    """Means over some corruptions; clean figures are the same at each severity."""
    line: Figures = {}
    for title, metric in _METRICS.items():
        for severity in severities:
            at = 0.0 if list(names) == ["none"] else severity
            values = [row.value for row in select(rows, attack=list(names), metric=metric, epsilon=at)]
            known = [value for value in values if value is not None]
            line[f"{title}, {severity:g}"] = float(np.mean(known)) if len(known) == len(values) > 0 else None
    return line


def _row(name: str, values: Figures, *, emphasis: bool = False, baseline: bool = False) -> MetricRow:
    return MetricRow(attack="none", epsilon=0.0, name=name, values=values, emphasis=emphasis, baseline=baseline)


def _baseline(rows: Sequence[Row], names: Sequence[str], severities: Sequence[float], detector: str) -> list[MetricRow]:
    if detector == BASELINE:
        return []
    lines = {"clean": ["none"], "mean of all corruptions": names}
    return [_row(f"{BASELINE}, {t}", _line(rows, chosen, severities), baseline=True) for t, chosen in lines.items()]
