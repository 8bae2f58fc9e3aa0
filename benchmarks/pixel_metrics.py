"""Claims "pixel auroc" and "aupro": exact metrics over all pixels of a test set, against scikit-learn's.

AUPRO is a ROC curve whose anomalous pixels are weighted by their regions, so that scikit-learn computes both. Maps lie
in a memory-mapped file, as those of a large test set do. Before anything is timed, the values must agree. The usual way
to AUPRO, a loop over some thresholds, is measured on a part of the maps; it need not agree to more than its steps.
"""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.timing import alternate
from robustad.evaluation import BenchmarkRow
from robustad.metrics import aupro, pixel_auroc
from robustad.metrics.aupro import region_weights

Metric = Callable[[Any, Any], float]
SIDE, SHARE = 256, 0.03
"""Side of a map, pixels, and the share of anomalous pixels, about that of MVTec AD."""
MAX_FPR = 0.3
_TAIL = 3.0
"""Spread of the logarithm of scores, which are log-normal then: values lie over some ten magnitudes."""
_FEW = 160
"""Maps whose scores get a heavy tail; every second map has an anomaly."""
_EQUAL = 1e-6
THRESHOLDS, _LOOPED, _NEAR = 200, 16, 0.01
"""Thresholds of the loop, how many maps it gets, and how near it must come."""


def measure(*, quick: bool) -> list[BenchmarkRow]:
    """Time and peak memory of both metrics; quick: 10^7 pixels instead of 10^8."""
    count = 160 if quick else 1600
    with tempfile.TemporaryDirectory() as folder:
        maps, masks = made_maps(count, Path(folder))
        size = f"{maps.size:.0e}".replace("e+0", "e")
        tailed = np.exp(_TAIL * np.asarray(maps[:_FEW])), masks[:_FEW]
        cases: dict[str, tuple[tuple[Any, Any], Metric, Metric]] = {
            f"pixel auroc over {size} memory-mapped pixels": ((maps, masks), sklearn_auroc, pixel_auroc),
            f"aupro over {size} memory-mapped pixels": ((maps, masks), sklearn_aupro, partial(aupro, max_fpr=MAX_FPR)),
            "pixel auroc over 1e7 pixels with a heavy tail": (tailed, sklearn_auroc, pixel_auroc),
        }
        rows = []
        for name, (given, theirs_of, ours_of) in cases.items():
            baseline, ours = partial(theirs_of, *given), partial(ours_of, *given)
            memory = [_peak(call) for call in (baseline, ours)]
            (theirs, their_peak), (own, our_peak) = memory
            if abs(theirs - own) > _EQUAL:
                raise RuntimeError(f"{name}: scikit-learn says {theirs}, we say {own}; nothing was timed")
            claim = f"{name}: scikit-learn against ours"
            rows.append(alternate(baseline, ours, rounds=3).row(claim, per=given[0].size / 1e6, unit="Mpx/s"))
            rows.append(
                BenchmarkRow(
                    claim=f"{claim}, peak memory",
                    baseline=round(their_peak / 2**20, 1),
                    ours=round(our_peak / 2**20, 1),
                    unit="MiB",
                    ratio=round(their_peak / our_peak, 2),
                )
            )
        return [*rows, _against_loop(maps[:_LOOPED], masks[:_LOOPED], rounds=3 if quick else 9)]


def _against_loop(maps: Any, masks: Any, *, rounds: int) -> BenchmarkRow:
    looped, own = looped_aupro(maps, masks), aupro(maps, masks, MAX_FPR)
    if abs(looped - own) > _NEAR:
        raise RuntimeError(f"aupro: a loop over {THRESHOLDS} thresholds says {looped}, we say {own}; it was not timed")
    pair = alternate(lambda: looped_aupro(maps, masks), lambda: aupro(maps, masks, MAX_FPR), rounds=rounds)
    claim = f"aupro over {maps.size:.0e} pixels: loop over {THRESHOLDS} thresholds against ours, exact"
    return pair.row(claim.replace("e+0", "e"), per=maps.size / 1e6, unit="Mpx/s")


def made_maps(count: int, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noise, a little higher inside of one to three squares in every second map; memory-mapped."""
    rng = np.random.default_rng(0)
    side = int(SIDE * (SHARE) ** 0.5)
    maps = np.lib.format.open_memmap(folder / "maps.npy", "w+", np.float32, (count, SIDE, SIDE))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.bool_, (count, SIDE, SIDE))
    for index in range(count):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        for _ in range(int(rng.integers(1, 4)) if index % 2 else 0):
            top, left = rng.integers(0, SIDE - side, 2)
            mask[top : top + side, left : left + side] = True
        maps[index] = rng.normal(size=mask.shape) + mask
        masks[index] = mask
    return maps, masks


def sklearn_auroc(maps: Any, masks: Any) -> float:
    """As everybody computes it."""
    return float(roc_auc_score(np.asarray(masks).ravel(), np.asarray(maps).ravel()))


def sklearn_aupro(maps: Any, masks: Any) -> float:
    """The area up to `MAX_FPR` under a ROC curve whose anomalous pixels are weighted by their regions."""
    truth = np.asarray(masks).ravel()
    weights = np.ones(truth.size)
    weights[truth] = region_weights(masks)
    rates, overlap, _ = roc_curve(truth, np.asarray(maps).ravel(), sample_weight=weights, drop_intermediate=False)
    end = np.interp(MAX_FPR, rates, overlap)
    inside = rates < MAX_FPR
    return float(np.trapezoid(np.append(overlap[inside], end), np.append(rates[inside], MAX_FPR)) / MAX_FPR)


def looped_aupro(maps: Any, masks: Any) -> float:
    """Flag the pixels above each of a few thresholds; count false alarms, and what is found of each region."""
    regions, count = ndimage.label(masks, structure=np.pad(np.ones((1, 3, 3)), ((1, 1), (0, 0), (0, 0))))
    inside = [np.flatnonzero(regions == region) for region in range(1, count + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        flagged = maps >= threshold
        rates.append(flagged[~masks].mean())
        overlaps.append(np.mean([flagged.reshape(-1)[region].mean() for region in inside]))
    end = np.interp(MAX_FPR, rates, overlaps)
    below = np.array(rates) < MAX_FPR
    return float(
        np.trapezoid(np.append(np.array(overlaps)[below], end), np.append(np.array(rates)[below], MAX_FPR)) / MAX_FPR
    )


def _peak(call: Callable[[], float]) -> tuple[float, int]:
    """Its result and the most memory, bytes, that it held at a time."""
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
