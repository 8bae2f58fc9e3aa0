"""How far an AUROC can be trusted: a bootstrap over groups, and a comparison of like with like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustad._checks import check_at_least
from robustad._random import numpy_generator
from robustad.metrics._inputs import Bools, Floats, check_binary, check_scores, to_numpy

_CHUNK = 4_000_000  # samples x resamples weighted at once, about 100 MB
MIN_GROUPS = 5
"""Groups that each class must have: resampling fewer shows what they are, not how they vary."""


class Interval(NamedTuple):
    """A value with its bootstrap interval.

    Attributes:
        value: The value on all samples.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class MatchedAuroc(NamedTuple):
    """AUROC over the pairs that agree in a covariate.

    Attributes:
        value: Share of those pairs that are ranked right, ties counted half, in [0, 1].
        num_pairs: Number of anomalous/normal pairs it rests on.
    """

    value: float
    num_pairs: int


def auroc_interval(
    scores: Any,
    labels: Any,
    groups: Any = None,
    *,
    num_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """AUROC with a percentile bootstrap interval that resamples whole groups.

    Images of one tile or one board resemble each other; resampling them one by one would claim more evidence than there
    is. Resamples without one of the classes are drawn again.

    Args:
        scores: Any shape, finite, higher = more anomalous.
        labels: Same shape, True = anomalous.
        groups: Same number of entries, group of each sample (numbers or names); None = each sample is its own.
        num_resamples: Number of bootstrap resamples.
        seed: Same seed, same interval.
        level: Coverage, in (0, 1).

    Returns:
        The AUROC of all samples, and the interval.

    Raises:
        ValueError: As for `auroc`, or if a class has fewer than `MIN_GROUPS` groups.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must be in (0, 1), got {level:g}")
    values, truth = check_binary(scores, labels)
    everything, resampled = _resampled([values], truth, groups, num_resamples=num_resamples, seed=seed)
    low, high = np.quantile(resampled[0], [(1 - level) / 2, (1 + level) / 2])
    return Interval(everything[0], float(low), float(high))


def auroc_lead(scores: Any, others: Any, labels: Any, groups: Any = None) -> Interval:
    """By how much the AUROC of ``scores`` is above that of ``others`` on the same samples, with its 95 % interval.

    Both are resampled together: what makes a resample hard for one may make it hard for the other.

    Args:
        scores: Any shape, finite, higher = more anomalous.
        others: Scores of somebody else, same shape.
        labels: See `auroc_interval`.
        groups: See `auroc_interval`.

    Returns:
        The difference on all samples, in [-1, 1], and its interval.

    Raises:
        ValueError: As for `auroc_interval`.
    """
    (first, truth), (second, _) = check_binary(scores, labels), check_binary(others, labels)
    everything, resampled = _resampled([first, second], truth, groups)
    low, high = np.quantile(resampled[0] - resampled[1], [0.025, 0.975])
    return Interval(everything[0] - everything[1], float(low), float(high))


def matched_auroc(scores: Any, labels: Any, covariate: Any, tolerance: float) -> MatchedAuroc:
    """AUROC over anomalous/normal pairs whose covariate differs by at most ``tolerance``.

    Takes out what the covariate alone explains: if defects are darker and the detector merely measures brightness, the
    AUROC is high and the AUROC matched by mean brightness is one half.

    Args:
        scores: Any shape, finite, higher = more anomalous.
        labels: Same shape, True = anomalous.
        covariate: Same shape, finite, e.g. the mean brightness of each image.
        tolerance: Largest difference within a pair, not negative, in the covariate's unit.

    Returns:
        The share of right pairs and their number.

    Raises:
        ValueError: As for `auroc`, or if no pair is that close.
    """
    values, truth = check_binary(scores, labels)
    cofactor = check_scores(covariate, "covariate").ravel()
    if cofactor.size != values.size:
        raise ValueError(f"`covariate` must have one entry per score, got {cofactor.size} for {values.size} scores")
    check_at_least("tolerance", tolerance, 0)
    order = np.argsort(cofactor[~truth])
    normal, normal_cofactor = values[~truth][order], cofactor[~truth][order].astype(np.float64)
    anomalous, anomalous_cofactor = values[truth], cofactor[truth].astype(np.float64)
    starts = np.searchsorted(normal_cofactor, anomalous_cofactor - tolerance, side="left")
    ends = np.searchsorted(normal_cofactor, anomalous_cofactor + tolerance, side="right")
    twice_right = 0
    for score, start, end in zip(anomalous, starts, ends, strict=True):
        near = normal[start:end]
        twice_right += int(np.count_nonzero(near < score)) + int(np.count_nonzero(near <= score))
    num_pairs = int((ends - starts).sum())
    if num_pairs == 0:
        raise ValueError(f"undefined: no anomalous/normal pair has a `covariate` within {tolerance:g} of each other")
    return MatchedAuroc(twice_right / (2 * num_pairs), num_pairs)


def _resampled(
    columns: list[Floats], truth: Bools, groups: Any, *, num_resamples: int = 1000, seed: int = 0
) -> tuple[list[float], list[NDArray[np.float64]]]:
    """AUROC of each column of scores on all samples, and on the same resamples."""
    check_at_least("num_resamples", num_resamples, 1)
    index, num_groups = _group_index(groups, truth)
    sorted_columns = [(column[order], truth[order], order) for column in columns for order in [np.argsort(column)]]
    generator = numpy_generator(seed, "auroc_interval")
    found: list[list[NDArray[np.float64]]] = [[] for _ in columns]
    missing, draws = num_resamples, 0
    while missing > 0 and draws < 20 * num_resamples:
        size = min(missing, max(1, _CHUNK // truth.size))
        counts = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=size)[:, index]
        for results, (values, labels, order) in zip(found, sorted_columns, strict=True):
            results.append(_weighted_aurocs(values, labels, counts[:, order]))
        missing, draws = missing - found[0][-1].size, draws + size
    if missing > 0:
        raise ValueError(f"undefined: resampling {num_groups} `groups` almost never keeps both classes")
    once = np.ones((1, truth.size), dtype=np.int64)
    everything = [float(_weighted_aurocs(values, labels, once)[0]) for values, labels, _ in sorted_columns]
    return everything, [np.concatenate(results) for results in found]


def _group_index(groups: Any, truth: Bools) -> tuple[NDArray[np.int64], int]:
    """The group of each sample as a number, and how many there are."""
    size = truth.size
    names = np.arange(size) if groups is None else to_numpy(groups).ravel()
    if names.size != size:
        raise ValueError(f"`groups` must have one entry per score, got {names.size} for {size} scores")
    distinct, index = np.unique(names, return_inverse=True)
    fewest = min(np.unique(index[truth == label]).size for label in (False, True))
    if fewest < MIN_GROUPS:
        raise ValueError(f"undefined: a class is in {fewest} `groups`, an interval needs at least {MIN_GROUPS}")
    return index, int(distinct.size)


def _weighted_aurocs(values: Floats, truth: Bools, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUROC of each row of ``weights (B, N)`` over ascending ``values (N,)``; rows without one class are left out."""
    starts = np.append(0, np.flatnonzero(values[1:] != values[:-1]) + 1)  # first sample of each run of equal scores
    positive = np.add.reduceat(weights * truth, starts, axis=1)  # (B, number of distinct scores)
    negative = np.add.reduceat(weights * ~truth, starts, axis=1)
    twice_right = (positive * (2 * np.cumsum(negative, axis=1) - negative)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    defined = pairs > 0
    return np.asarray(twice_right[defined] / (2.0 * pairs[defined]), dtype=np.float64)
