"""AUPRO: how much of each defect region is found while few normal pixels are flagged. Exact, not binned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from robustad.metrics._inputs import Bools, Floats, check_maps


def aupro(maps: Any, masks: Any, max_fpr: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to ``max_fpr``, divided by ``max_fpr``.

    Each 8-connected region of the ground truth counts the same, small or large: the overlap at a threshold is the mean
    over regions of the share of the region's pixels that are flagged. It is drawn against the share of all normal
    pixels that are flagged, with one vertex per distinct map value and straight lines between.

    Args:
        maps: Anomaly maps ``(N, H, W)``, finite, any range, higher = more anomalous.
        masks: Ground truth ``(N, H, W)``, bool; normal images have empty masks.
        max_fpr: Where the integration stops, a share of the normal pixels in (0, 1].

    Returns:
        A value in [0, 1]. A random map reaches ``max_fpr / 2``.

    Raises:
        ValueError: If shapes differ, values are not finite, there is no anomalous region, or no normal pixel.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section on the per-region overlap.
    Differs: every distinct value is a threshold, nothing is binned; equal values are crossed in one step.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"`max_fpr` must be in (0, 1], got {max_fpr:g}")
    values, truth = check_maps(maps, masks)
    if not truth.any():
        raise ValueError("undefined: `masks` hold no anomalous region")
    num_normal = int(truth.size - np.count_nonzero(truth))
    if num_normal == 0:
        raise ValueError("undefined: `masks` hold no normal pixel")
    overlap, flagged = _curve(values[~truth], values[truth], region_weights(truth), max_fpr)
    return _area(flagged / num_normal, overlap, max_fpr) / max_fpr


def region_weights(masks: Bools) -> NDArray[np.float64]:
    """For each anomalous pixel, in memory order, the share of the mean overlap that finding it is worth.

    Args:
        masks: Ground truth ``(N, H, W)``, bool.

    Returns:
        Weights ``(number of anomalous pixels,)`` that sum to 1 (each region's pixels to 1 / number of regions).
    """
    weights, num_regions = [], 0
    for mask in masks:
        if mask.any():
            regions, count = ndimage.label(mask, structure=np.ones((3, 3)))
            index = regions[mask]
            weights.append(1.0 / np.bincount(index)[index])
            num_regions += count
    return np.concatenate(weights) / num_regions


def _curve(
    normal: Floats, anomalous: Floats, weights: NDArray[np.float64], max_fpr: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Overlap and number of flagged normal pixels at each distinct value, down to the one that passes ``max_fpr``."""
    # Values below the one at which max_fpr is passed cannot matter: a partition finds it without sorting everything.
    rank = normal.size - min(normal.size, int(np.floor(max_fpr * normal.size)) + 1)
    lowest = np.partition(normal, rank)[rank]
    normal = normal[normal >= lowest]
    kept = anomalous >= lowest
    values = np.concatenate([normal, anomalous[kept]])
    gains = np.concatenate([np.zeros(normal.size), weights[kept]])
    order = np.argsort(values)[::-1]
    values = values[order]
    last = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    overlap = np.cumsum(gains[order])[last]
    flagged = np.cumsum(order < normal.size, dtype=np.int64)[last]  # normal pixels come first in `values`
    return np.append(0.0, overlap), np.append(0, flagged)


def _area(rates: NDArray[np.float64], overlap: NDArray[np.float64], limit: float) -> float:
    """Trapezoidal area under ``overlap`` over [0, limit]; ``rates`` ascend from 0 to at least ``limit``."""
    inside = int(np.searchsorted(rates, limit, side="right"))  # vertices with rate <= limit, the first is (0, 0)
    if inside == rates.size:
        return float(np.trapezoid(overlap, rates))
    left, right = rates[inside - 1], rates[inside]
    share = (limit - left) / (right - left)
    end = overlap[inside - 1] + share * (overlap[inside] - overlap[inside - 1])
    return float(np.trapezoid(np.append(overlap[:inside], end), np.append(rates[:inside], limit)))
