"""AUPRO: how much of each defect region is found while few normal pixels are flagged. Exact, not binned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from robustad.metrics._inputs import Bools, check_labels, to_numpy
from robustad.metrics._streams import tally


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
    found = tally(maps, masks)
    gains = np.bincount(found.first, weights=region_weights(to_numpy(masks)), minlength=len(found.anomalous))
    # at each anomalous value: flagged normal pixels before and after it is crossed, and the overlap before and after
    after = found.above + found.equal
    flagged = np.concatenate([[0], np.column_stack([found.above, after]).ravel(), [found.num_normal]])
    overlap = np.repeat(np.append(0.0, gains.cumsum()), 2)
    return _area(flagged / found.num_normal, overlap, max_fpr) / max_fpr


def region_weights(masks: Bools) -> NDArray[np.float64]:
    """For each anomalous pixel, in memory order, the share of the mean overlap that finding it is worth.

    Args:
        masks: Ground truth ``(N, H, W)``, bool.

    Returns:
        Weights ``(number of anomalous pixels,)`` that sum to 1 (each region's pixels to 1 / number of regions).
    """
    weights, num_regions = [], 0
    for mask in masks:
        mask = check_labels(mask, "masks")
        if mask.any():
            part = mask[_extent(mask, 1), _extent(mask, 0)]  # anomalies are small: less to go through
            regions, count = ndimage.label(part, structure=np.ones((3, 3)))
            index = regions[part]
            weights.append(1.0 / np.bincount(index)[index])
            num_regions += count
    return np.concatenate(weights) / num_regions


def _extent(mask: Bools, axis: int) -> slice:
    """From the first to the last row or column that is marked anywhere along ``axis``."""
    places = np.flatnonzero(mask.any(axis=axis))
    return slice(int(places[0]), int(places[-1]) + 1)


def _area(rates: NDArray[np.float64], overlap: NDArray[np.float64], limit: float) -> float:
    """Trapezoidal area under ``overlap`` over [0, limit]; ``rates`` ascend from 0 to at least ``limit``."""
    inside = int(np.searchsorted(rates, limit, side="right"))  # vertices with rate <= limit, the first is (0, 0)
    if inside == rates.size:
        return float(np.trapezoid(overlap, rates))
    left, right = rates[inside - 1], rates[inside]
    share = (limit - left) / (right - left)
    end = overlap[inside - 1] + share * (overlap[inside] - overlap[inside - 1])
    return float(np.trapezoid(np.append(overlap[:inside], end), np.append(rates[:inside], limit)))
