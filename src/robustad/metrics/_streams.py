"""Normal samples counted against the anomalous ones, chunk by chunk: what exact pixel metrics need, in flat memory.

Ranking metrics only ask how many normal samples lie below, at, and above each anomalous score. Anomalous pixels are
few and are kept; normal ones, however many, are sorted a few million at a time, counted, and forgotten: 10^8 pixels on
a memory-mapped file take the memory of the anomalous ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustad.metrics._inputs import Bools, Floats, check_labels, check_scores, to_numpy

CHUNK = 1 << 22
"""Pixels that are looked at together."""
Counts = NDArray[np.int64]


class Tally(NamedTuple):
    """Distinct anomalous scores, descending, and where the normal ones lie.

    Attributes:
        anomalous: How many anomalous samples have each score ``(m,)``.
        first: For each anomalous sample, in the order in which they came, the index of its score ``(P,)``.
        above: Normal samples that score higher ``(m,)``.
        equal: Normal samples that score the same ``(m,)``.
        num_normal: Number of normal samples.
    """

    anomalous: Counts
    first: Counts
    above: Counts
    equal: Counts
    num_normal: int

    @property
    def num_anomalous(self) -> int:
        """Number of anomalous samples."""
        return len(self.first)


def tally(maps: Any, masks: Any) -> Tally:
    """Count pixels of maps ``(N, H, W)`` by their masks ``(N, H, W)``; arrays, tensors, or memory-mapped files.

    Raises:
        ValueError: If shapes are not equal and three-dimensional, a value is not finite or not boolean, or all pixels
            are of one class.
    """
    values, truth = to_numpy(maps), to_numpy(masks)
    if values.ndim != 3 or values.shape != truth.shape:
        raise ValueError(f"`maps` and `masks` must both be (N, H, W), got {values.shape} and {truth.shape}")
    anomalous = [chunk[mask] for chunk, mask in _chunks(values, truth)]
    kept = np.concatenate(anomalous) if anomalous else np.empty(0)
    num_normal = values.size - kept.size
    if kept.size == 0 or num_normal == 0:
        missing = "normal" if kept.size else "anomalous"
        raise ValueError(f"undefined: none of the {values.size} `masks` is {missing}, both classes are needed")
    distinct, first, counts = np.unique(kept, return_inverse=True, return_counts=True)
    below, equal = np.zeros(len(distinct) + 1, dtype=np.int64), np.zeros(len(distinct), dtype=np.int64)
    for chunk, mask in _chunks(values, truth):
        normal = np.sort(chunk[~mask])
        place = np.searchsorted(distinct, normal)  # how many distinct anomalous scores lie below each of them
        below += np.bincount(place, minlength=len(below))
        inside = place < len(distinct)
        hits = place[inside][distinct[place[inside]] == normal[inside]]
        equal += np.bincount(hits, minlength=len(equal))
    not_above = below[:-1].cumsum()  # a normal score in (previous, this] was counted at this one
    return Tally(
        anomalous=counts[::-1].astype(np.int64),
        first=(len(distinct) - 1 - first).astype(np.int64),
        above=(num_normal - not_above)[::-1],
        equal=equal[::-1],
        num_normal=num_normal,
    )


def _chunks(values: NDArray[Any], truth: NDArray[Any]) -> Iterator[tuple[Floats, Bools]]:
    """Flat pieces of both, checked."""
    flat, marks = values.reshape(-1), truth.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        yield check_scores(flat[part], "maps"), check_labels(marks[part], "masks")
