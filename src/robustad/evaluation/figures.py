"""From an evaluation to rows: metrics, intervals, brightness-matched pairs, and the trivial baseline beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustad.evaluation.rows import Row
from robustad.evaluation.runner import Cell, Evaluation
from robustad.metrics import IMAGE_METRICS, auroc, auroc_interval, auroc_lead, matched_auroc

MATCHED = "matched_AUROC"
"""Image AUROC over the pairs whose mean brightness differs by at most one grey level."""
BASELINE, EXACT = "brightness", "exact"
"""Detector and attack name of the baseline's rows; its worst case is computed, not searched."""
_TOLERANCE = 1 / 255 + 1e-7
MIN_PAIRS = 30
"""Fewer pairs of equal brightness than this say nothing."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What rows say of who was measured on what.

    Attributes:
        detector: Name of the detector.
        recipe: Name of the training recipe.
        data: Data set and category.
        split: ``final``, ``dev`` or ``all``.
        seed: Seed of the training.
    """

    detector: str
    recipe: str
    data: str
    split: str = "all"
    seed: int = 0

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `Row` that say it."""
        return asdict(self)


def evaluation_rows(evaluation: Evaluation, subject: Subject, *, num_resamples: int = 1000) -> list[Row]:
    """All figures of an evaluation, clean first; those of the brightness baseline come last.

    Args:
        evaluation: What was measured.
        subject: Who was measured.
        num_resamples: Resamples of the interval of the image AUROC; 0 = no intervals.

    Returns:
        Rows; an undefined figure is None with a reason. Pixel metrics are left out where there are no maps or no masks.
    """
    rows = [row for cell in evaluation.cells for row in _cell_rows(evaluation, cell, subject, num_resamples)]
    if subject.detector != BASELINE:
        rows += _baseline_rows(evaluation, subject, num_resamples)
    return rows


def kind_rows(evaluation: Evaluation, subject: Subject) -> list[Row]:
    """Image AUROC of all normal images against each kind of anomaly by itself, clean and under each attack.

    Empty where fewer than two kinds are known: the pooled figure then says it all.
    """
    if len(evaluation.against) < 2:
        return []
    rows = []
    for cell in evaluation.cells:
        common = _common(subject, cell.attack, cell.epsilon, evaluation) | {"steps": cell.steps}
        for kind, index in evaluation.against.items():
            value, reason = defined(auroc, cell.scores[index], evaluation.labels[index])
            rows.append(Row(**common, metric="image_AUROC", value=value, reason=reason, against=kind))
    return rows


def baseline_scores(evaluation: Evaluation, epsilon: float = 0.0) -> NDArray[np.float32]:
    """The brightness baseline's scores ``(N,)``, in its exact worst case at ``epsilon``: darker = more anomalous.

    A normal image is darkened and an anomalous one brightened, as far as the ball and [0, 1] allow.
    """
    if epsilon == 0:
        return -evaluation.brightness
    darkest, brightest = evaluation.brightness_bounds[epsilon]
    worst = np.where(evaluation.labels, brightest, darkest)
    labels = evaluation.labels
    hit = {"both": np.ones_like(labels), "anomalous": labels, "normal": ~labels}[evaluation.targets]
    scores: NDArray[np.float32] = -np.where(hit, worst, evaluation.brightness)
    return scores


def defined(metric: Callable[..., float], *arguments: Any) -> tuple[float | None, str | None]:
    """A figure and None, or None and why it is undefined."""
    try:
        return float(metric(*arguments)), None
    except ValueError as error:
        return None, str(error)


def _cell_rows(evaluation: Evaluation, cell: Cell, subject: Subject, num_resamples: int) -> Iterator[Row]:
    common = _common(subject, cell.attack, cell.epsilon, evaluation) | {"steps": cell.steps}
    yield from _image_rows(evaluation, cell.scores, common, num_resamples)
    for name, (value, reason) in cell.pixel.items():
        yield Row(**common, metric=name, value=value, reason=reason)


def _baseline_rows(evaluation: Evaluation, subject: Subject, num_resamples: int) -> Iterator[Row]:
    for epsilon in (0.0, *evaluation.brightness_bounds):
        attack = EXACT if epsilon else "none"
        common = _common(subject, attack, epsilon, evaluation) | {"detector": BASELINE, "recipe": "none"}
        yield from _image_rows(evaluation, baseline_scores(evaluation, epsilon), common, num_resamples)


def _image_rows(
    evaluation: Evaluation, scores: NDArray[np.float32], common: dict[str, Any], num_resamples: int
) -> Iterator[Row]:
    labels = evaluation.labels
    for name, metric in IMAGE_METRICS.items():
        value, reason = defined(metric, scores, labels)
        interval = None
        if name == "image_AUROC" and value is not None and num_resamples:
            interval = _interval(scores, evaluation, num_resamples)
        yield Row(**common, metric=name, value=value, reason=reason, interval=interval)
    value, reason = defined(_matched, scores, evaluation)
    yield Row(**common, metric=MATCHED, value=value, reason=reason)


def _matched(scores: NDArray[np.float32], evaluation: Evaluation) -> float:
    found = matched_auroc(scores, evaluation.labels, evaluation.brightness, _TOLERANCE)
    if found.num_pairs < MIN_PAIRS:
        raise ValueError(f"only {found.num_pairs} pairs have the same brightness, at least {MIN_PAIRS} are needed")
    return found.value


def lead_interval(evaluation: Evaluation, scores: NDArray[np.float32]) -> tuple[float, float] | None:
    """By how much scores ``(N,)`` separate the classes better than clean brightness; None where images are too few."""
    try:
        found = auroc_lead(scores, baseline_scores(evaluation), evaluation.labels, evaluation.groups)
    except ValueError:
        return None
    return found.low, found.high


def _interval(scores: NDArray[np.float32], evaluation: Evaluation, num_resamples: int) -> tuple[float, float] | None:
    try:
        found = auroc_interval(scores, evaluation.labels, evaluation.groups, num_resamples=num_resamples)
    except ValueError:  # too few groups: the figure stands, its uncertainty is not known
        return None
    return found.low, found.high


def _common(subject: Subject, attack: str, epsilon: float, evaluation: Evaluation) -> dict[str, Any]:
    return subject.fields | {
        "attack": attack,
        "norm": evaluation.norm if epsilon else "none",
        "epsilon": epsilon,
        "targets": evaluation.targets,
    }


def evaluation_details(evaluation: Evaluation) -> dict[str, Any]:
    """What the rows do not say: how many images, what the ensemble consisted of, what was skipped and why."""
    labels = evaluation.labels
    scores = evaluation.clean.scores
    pairs, _ = defined(lambda: matched_auroc(scores, labels, evaluation.brightness, _TOLERANCE).num_pairs)
    return {
        "num_normal": int((~labels).sum()),
        "num_anomalous": int(labels.sum()),
        "num_groups": len(set(evaluation.groups)),
        "num_with_mask": int((evaluation.has_mask & labels).sum()),
        "num_matched_pairs": int(pairs or 0),
        "attacks": {
            plan.name: {
                "runs": [{"goal": run.goal, "attack": repr(run.attack), "judged": run.judged} for run in plan.runs],
                "skipped": dict(plan.skipped),
            }
            for plan in evaluation.plans
        },
        "members": [_member_details(evaluation, cell) for cell in evaluation.cells if cell.members],
    }


def _member_details(evaluation: Evaluation, cell: Cell) -> dict[str, Any]:
    """AUROC of each member of a worst case, and for how many images it was the worst."""
    runs = {}
    for label, scores in cell.members.items():
        value, _ = defined(auroc, scores, evaluation.labels)
        runs[label] = {"image_AUROC": value, "num_worst": int((scores == cell.scores).sum())}
    return {"attack": cell.attack, "epsilon": cell.epsilon, "runs": runs}
