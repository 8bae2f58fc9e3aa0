"""Which images to show: the best, the median and the worst of each class, so that nobody picks cherries."""

from __future__ import annotations

from typing import Any

import numpy as np


def pick_examples(scores: Any, labels: Any, *, per_group: int = 2) -> dict[str, list[int]]:
    """Choose images by score: for anomalous ones high is best, for normal ones low is.

    Args:
        scores: ``(N,)``, higher = more anomalous.
        labels: ``(N,)``, True = anomalous.
        per_group: Number of images in each of the three groups of a class, at most.

    Returns:
        Indices by "anomalous, worst", "anomalous, median", "anomalous, best" and the same for "normal", worst first
        within a group. No image is in two groups; a class with few images has smaller groups, one without has none.

    Raises:
        ValueError: If lengths differ or ``per_group`` is below 1.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ValueError(f"`scores` and `labels` must both be (N,), got {values.shape} and {truth.shape}")
    if per_group < 1:
        raise ValueError(f"`per_group` must be at least 1, got {per_group}")
    chosen: dict[str, list[int]] = {}
    for name, members, sign in (("anomalous", truth, 1), ("normal", ~truth, -1)):
        order = np.flatnonzero(members)
        order = order[np.argsort(sign * values[order], kind="stable")]  # worst first
        count = min(per_group, -(-order.size // 3))
        ends, middle = order[count:-count] if order.size > 2 * count else order[:0], min(count, order.size - 2 * count)
        start = (ends.size - middle) // 2 if middle > 0 else 0
        groups = {
            "worst": order[:count],
            "median": ends[start : start + max(0, middle)],
            "best": order[max(count, order.size - count) :],
        }
        chosen.update({f"{name}, {kind}": [int(i) for i in part] for kind, part in groups.items() if part.size})
    return chosen
