"""AUROC, average precision and F1Max: exact, with ties counted as ties, at any number of samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustad.metrics._inputs import Bools, Floats, check_binary
from robustad.metrics._streams import tally


class F1Max(NamedTuple):
    """The best F1 score over all thresholds.

    Attributes:
        value: F1 in (0, 1].
        threshold: Where it is reached: samples with ``score > threshold`` are called anomalous, as in `Calibration`.
    """

    value: float
    threshold: float


class RocCurve(NamedTuple):
    """The ROC curve, one point per distinct score, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: ``(K,)``, ascending.
        true_positive_rate: ``(K,)``, ascending.
        thresholds: ``(K,)``, descending: the point is reached by ``score >= threshold``; the first is infinite.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def auroc(scores: Any, labels: Any) -> float:
    """Area under the ROC curve: how often an anomalous sample scores above a normal one, ties counted half.

    Args:
        scores: Any shape, finite, higher = more anomalous. Tensor, array or sequence.
        labels: Same shape, True = anomalous.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: If a score is NaN or infinite, shapes differ, or only one class is present.
    """
    values, truth = check_binary(scores, labels)
    return _auroc(values, truth)


def aupr(scores: Any, labels: Any) -> float:
    """Average precision: area under the precision-recall curve of the anomalous class, without interpolation.

    Args:
        scores: Any shape, finite, higher = more anomalous.
        labels: Same shape, True = anomalous.

    Returns:
        A value in (0, 1]; the share of anomalous samples is what chance reaches.

    Raises:
        ValueError: As for `auroc`.
    """
    values, truth = check_binary(scores, labels)
    return _aupr(values, truth)


def f1max(scores: Any, labels: Any) -> F1Max:
    """The highest F1 score that any threshold reaches on these samples, and that threshold.

    Chosen with the labels in sight, so an upper bound of what a deployed threshold reaches. Among equally good
    thresholds the highest is returned (fewest false alarms).

    Args:
        scores: Any shape, finite, higher = more anomalous.
        labels: Same shape, True = anomalous.

    Returns:
        The F1 score and a threshold halfway between two neighbouring scores.

    Raises:
        ValueError: As for `auroc`.
    """
    values, truth = check_binary(scores, labels)
    distinct, true_positives, false_positives = _counts(values, truth)
    f1 = 2 * true_positives / (true_positives + false_positives + true_positives[-1])
    best = int(np.argmax(f1))
    return F1Max(float(f1[best]), _threshold_below(distinct, best))


def roc_curve(scores: Any, labels: Any) -> RocCurve:
    """The points of the ROC curve, for plotting.

    Args:
        scores: Any shape, finite, higher = more anomalous.
        labels: Same shape, True = anomalous.

    Returns:
        Rates and thresholds, starting at (0, 0).

    Raises:
        ValueError: As for `auroc`.
    """
    values, truth = check_binary(scores, labels)
    distinct, true_positives, false_positives = _counts(values, truth)
    return RocCurve(
        np.concatenate([[0.0], false_positives / false_positives[-1]]),
        np.concatenate([[0.0], true_positives / true_positives[-1]]),
        np.concatenate([[np.inf], distinct.astype(np.float64)]),
    )


def pixel_auroc(maps: Any, masks: Any) -> float:
    """AUROC over all pixels of all images, normal images included; exact, see `robustad.metrics._streams`.

    Args:
        maps: Anomaly maps ``(N, H, W)``, finite, any range; also memory-mapped.
        masks: Ground truth ``(N, H, W)``, bool.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: As for `auroc`, or if the shapes are not ``(N, H, W)``.
    """
    found = tally(maps, masks)
    below = found.num_normal - found.above - found.equal
    won = int((found.anomalous * (2 * below + found.equal)).sum())
    return won / (2 * found.num_normal * found.num_anomalous)  # Python integers: exact until the division


def pixel_aupr(maps: Any, masks: Any) -> float:
    """Average precision over all pixels of all images, normal images included.

    Args:
        maps: Anomaly maps ``(N, H, W)``, finite, any range.
        masks: Ground truth ``(N, H, W)``, bool.

    Returns:
        A value in (0, 1].

    Raises:
        ValueError: As for `pixel_auroc`.
    """
    found = tally(maps, masks)
    true_positives = found.anomalous.cumsum()
    precision = true_positives / (true_positives + found.above + found.equal)
    return float((precision * found.anomalous).sum() / found.num_anomalous)


def _auroc(values: Floats, truth: Bools) -> float:
    # Only the normal scores need the full sort; the sorted anomalous ones walk through them in memory order.
    normal, anomalous = np.sort(values[~truth]), np.sort(values[truth])
    below = int(np.searchsorted(normal, anomalous, side="left").sum(dtype=np.int64))
    not_above = int(np.searchsorted(normal, anomalous, side="right").sum(dtype=np.int64))
    return (below + not_above) / (2 * normal.size * anomalous.size)  # Python integers: exact until the division


def _aupr(values: Floats, truth: Bools) -> float:
    _, true_positives, false_positives = _counts(values, truth)
    precision = true_positives / (true_positives + false_positives)
    gained = np.diff(true_positives, prepend=0)
    return float((precision * gained).sum() / true_positives[-1])


def _counts(values: Floats, truth: Bools) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores, descending, and how many anomalous and normal samples score at least that much."""
    order = np.argsort(values)[::-1]
    values = values[order]
    last = np.append(
        np.flatnonzero(values[1:] != values[:-1]), values.size - 1
    )  # the last sample of each run of equal scores
    true_positives = np.cumsum(truth[order], dtype=np.int64)[last]
    return values[last], true_positives, last + 1 - true_positives


def _threshold_below(distinct: Floats, index: int) -> float:
    """A threshold in the scores' own precision that separates ``distinct[index]`` from the next lower score."""
    here = distinct[index]
    if index + 1 == distinct.size:
        return float(np.nextafter(here, here.dtype.type(-np.inf)))
    below = distinct[index + 1]
    middle = below / 2 + here / 2
    return float(middle if below <= middle < here else below)  # neighbouring floats: the midpoint may round up
