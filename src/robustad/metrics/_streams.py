"""Normal samples counted against the anomalous ones, chunk by chunk: what exact pixel metrics need, in flat memory.

Ranking metrics only ask how many normal samples lie below, at, and above each anomalous score. Anomalous pixels are
few and are kept; normal ones, however many, are counted a million at a time, and forgotten: 10^8 pixels on a
memory-mapped file take the memory of the anomalous ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robustad.metrics._inputs import Bools, Floats, check_labels, check_scores, to_numpy

CHUNK = 1 << 20
"""Pixels that are looked at together."""
_BINS_PER_SCORE, _MAX_BINS, _PROBES = 4, 1 << 24, 3
_CELL_BITS = 16
_CACHED = 1 << 18
"""Anomalous scores whose tables a processor's cache holds, more or less."""
_INTEGERS: dict[int, tuple[Any, Any]] = {4: (np.uint32, np.int32), 8: (np.uint64, np.int64)}
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
    grid = _Grid(distinct)
    for chunk, mask in _chunks(values, truth):
        grid.put(chunk[~mask])
    not_above, equal = grid.between[:-1].cumsum(), grid.equal
    return Tally(
        anomalous=counts[::-1].astype(np.int64),
        first=(len(distinct) - 1 - first).astype(np.int64),
        above=(num_normal - not_above)[::-1],
        equal=equal[::-1],
        num_normal=num_normal,
    )


class _Grid:
    """Bins over the anomalous scores: a normal score in a bin without any of them needs no closer look.

    Differences from the median fall into cells by their highest bits, a fixed relative width each; a cell has some bins
    for every anomalous score in it, and at least one. So it does not matter over how many magnitudes scores are spread,
    or how near each other they lie. In a bin with anomalous scores the first ones are compared with, one after the
    other; only where a bin holds more of them is a normal score searched for. Nothing is sorted but those.

    Args:
        distinct: Distinct anomalous scores, ascending; float32 or float64.

    Attributes:
        between: Normal scores seen so far by the number of distinct anomalous scores below them ``(m + 1,)``.
        equal: Normal scores seen so far that equal each anomalous score ``(m,)``.
    """

    def __init__(self, distinct: Floats) -> None:
        self.unsigned, self.signed = _INTEGERS[distinct.dtype.itemsize]
        self.shift = 8 * distinct.dtype.itemsize - _CELL_BITS
        self.mask = self.unsigned((1 << self.shift) - 1)
        self.offset = distinct.dtype.type(0) - distinct[len(distinct) // 2]  # never -0.0: it would keep two zeros apart
        self.start, self.slope = self._cells(distinct)
        self.distinct, self.fenced = distinct, np.append(distinct, distinct.dtype.type(np.inf))
        held = np.bincount(self.bins(distinct), minlength=self.count)
        self.occupied, self.before = held > 0, (held.cumsum() - held).astype(np.int32)  # scores in lower bins
        self.between, self.equal = (np.zeros(len(distinct) + extra, dtype=np.int64) for extra in (1, 0))

    def _cells(self, distinct: Floats) -> tuple[NDArray[np.int32], Floats]:
        """First bin of each cell (its last one, where higher bits are lower numbers), and bins per step of the bits."""
        half = 1 << _CELL_BITS - 1
        rising = np.concatenate([np.arange(2 * half - 1, half - 1, -1), np.arange(half)])  # cells of rising numbers
        held = np.bincount(self._bits(distinct)[1], minlength=2 * half)[rising]
        per_score = min(float(_BINS_PER_SCORE), _MAX_BINS / len(distinct))
        size = np.maximum(1, (held * per_score).astype(np.int64))
        first = size.cumsum() - size
        self.count = int(size.sum())
        falling = np.arange(2 * half) < half  # negative numbers
        start, slope = np.empty(2 * half, dtype=np.int32), np.empty(2 * half, dtype=distinct.dtype)
        start[rising] = np.where(falling, first + size - 1, first)
        slope[rising] = np.where(falling, -1.0, 1.0) * size / 2.0**self.shift
        return start, slope

    def _bits(self, scores: Floats) -> tuple[NDArray[Any], NDArray[np.intp]]:
        with np.errstate(over="ignore"):
            bits = (scores + self.offset).view(self.unsigned)
        return bits, (bits >> self.shift).astype(np.intp)

    def bins(self, scores: Floats) -> NDArray[np.intp]:
        """Bin of each score, never falling as scores rise."""
        bits, cells = self._bits(scores)
        bits &= self.mask
        inside = bits.view(self.signed).astype(scores.dtype)  # signed numbers convert faster
        inside *= self.slope.take(cells)
        bins = self.start.take(cells)
        bins += inside.astype(np.int32)
        return bins.astype(np.intp)

    def put(self, scores: Floats) -> None:
        """Count normal scores."""
        if len(self.distinct) > _CACHED:
            scores = np.sort(scores)  # tables of that size are faster to go through than to jump about in
        bins = self.bins(scores)
        places = self.before.take(bins)
        shared = np.flatnonzero(self.occupied.take(bins))
        close, place = scores.take(shared), places.take(shared)
        for _ in range(_PROBES):
            place += self.fenced.take(place) < close
        above = np.flatnonzero(self.fenced.take(place) < close)
        if len(above):
            above = above[close.take(above).argsort()]  # neighbours are searched for one after the other
            place[above] = np.searchsorted(self.distinct, close.take(above))
        places[shared] = place
        _count(self.between, places)
        _count(self.equal, place[self.fenced.take(place) == close])


def _count(totals: Counts, places: NDArray[np.integer[Any]]) -> None:
    """Add how often each place comes; where places are few, without going through all totals."""
    if len(places) < len(totals):
        np.add.at(totals, places, 1)
    else:
        totals += np.bincount(places, minlength=len(totals))


def _chunks(values: NDArray[Any], truth: NDArray[Any]) -> Iterator[tuple[Floats, Bools]]:
    """Flat pieces of both, checked."""
    flat, marks = values.reshape(-1), truth.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        part = slice(start, start + CHUNK)
        yield check_scores(flat[part], "maps"), check_labels(marks[part], "masks")
