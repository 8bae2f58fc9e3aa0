"""The plots of a test report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from robustad.evaluation import BASELINE, Cell, Evaluation, Row, baseline_scores, select
from robustad.metrics import auroc, roc_curve
from robustad.reporting import ReportFigure, format_epsilon
from robustad.visual import Curve, roc_curve_plot, score_histograms, security_curve, training_curves

PLOTTED = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC"}


def report_figures(
    evaluation: Evaluation,
    rows: Sequence[Row],
    worst: Cell | None,
    log: Sequence[Mapping[str, Any]],
    threshold: float | None,
) -> tuple[ReportFigure, ...]:
    """Security curves, histograms, ROC curves and the training log, as far as there is something to show."""
    return (
        *_security_curves(rows, worst, evaluation.norm),
        _histograms(evaluation, worst, threshold),
        *_roc_curves(evaluation, worst),
        *_training(log),
    )


def _security_curves(rows: Sequence[Row], worst: Cell | None, norm: str) -> Iterator[ReportFigure]:
    if worst is None:
        return
    titles = {"image_AUROC": "How much attack the detector bears", "pixel_AUROC": "How much attack its maps bear"}
    for metric, label in PLOTTED.items():
        headline = worst.attack if metric == "image_AUROC" else "map-pgd"
        curves = _curves([row for row in rows if row.metric == metric], headline)
        if curves:
            band = f"The band is the 95 % interval of {headline} over groups of images."
            has_band = any(curve.low is not None for curve in curves.values())
            yield ReportFigure(
                title=titles[metric],
                data=security_curve(curves, metric=label, norm=norm),
                caption=band if has_band else "",
                wide=True,
            )


def _curves(rows: Sequence[Row], headline: str) -> dict[str, Curve]:
    """A line per attack, the headline first, the baseline last; attacks with an undefined figure have none."""
    own = [row for row in rows if row.detector != BASELINE]
    names = list(dict.fromkeys(row.attack for row in own if row.attack != "none"))
    names.sort(key=lambda name: name != headline)
    curves = {}
    for name in names:
        curve = _curve(select(own, attack=["none", name]), band=name == headline)
        if curve is not None:
            curves[name] = curve
    baseline = _curve([row for row in rows if row.detector == BASELINE], band=False)
    if curves and baseline is not None:
        curves["mean brightness"] = baseline
    return curves


def _curve(rows: Iterable[Row], *, band: bool) -> Curve | None:
    points = sorted(rows, key=lambda row: row.epsilon)
    values = [row.value for row in points if row.value is not None]
    if len(points) < 2 or len(values) < len(points):
        return None
    ends = [row.interval for row in points if row.interval is not None]
    if not band or len(ends) < len(points):
        return Curve([row.epsilon for row in points], values)
    return Curve([row.epsilon for row in points], values, [low for low, _ in ends], [high for _, high in ends])


def _histograms(evaluation: Evaluation, worst: Cell | None, threshold: float | None) -> ReportFigure:
    labels, scores = evaluation.labels, evaluation.clean.scores
    attacked = (None, None) if worst is None else (worst.scores[~labels], worst.scores[labels])
    return ReportFigure(
        title="Scores"
        if worst is None
        else f"Scores, clean and under {worst.attack} at {ball_text(evaluation, worst)}",
        data=score_histograms(
            scores[~labels], scores[labels], threshold, attacked_normal=attacked[0], attacked_anomalous=attacked[1]
        ),
        caption="Share of the images of each class.",
        wide=True,
    )


def _roc_curves(evaluation: Evaluation, worst: Cell | None) -> Iterator[ReportFigure]:
    labels = evaluation.labels
    if labels.all() or not labels.any():
        return
    scores = {"clean": evaluation.clean.scores}
    for cell in evaluation.cells[1:]:
        if worst is not None and cell.attack == worst.attack:
            scores[f"{cell.attack} at {ball_text(evaluation, cell)}"] = cell.scores
    scores["mean brightness"] = baseline_scores(evaluation)
    curves = {f"{name}, {auroc(s, labels):.3f}": roc_curve(s, labels)[:2] for name, s in scores.items()}
    yield ReportFigure(
        title="ROC curves", data=roc_curve_plot(curves), caption="Figures in the legend are areas under the curve."
    )


def _training(log: Sequence[Mapping[str, Any]]) -> Iterator[ReportFigure]:
    shown = [{name: value for name, value in row.items() if name not in ("learning_rate", "epoch")} for row in log]
    if len(shown) > 1:
        yield ReportFigure(
            title="Training",
            data=training_curves(shown),
            caption="“look” figures are measured on pseudo-anomalies of held-out normal images, never on the test set.",
            wide=True,
        )


def ball_text(evaluation: Evaluation, cell: Cell) -> str:
    """The radius of a cell, for readers."""
    return format_epsilon(cell.epsilon, evaluation.norm)
