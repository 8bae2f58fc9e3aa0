"""Paired timing: two rivals take turns, so that whatever else the machine does hits both.

Seconds are CPU seconds of this process, which on one thread are wall seconds of an idle machine: work of others that
pushes this process off the processor is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from robustad.evaluation import BenchmarkRow


class Pair(NamedTuple):
    """Two rivals over the same rounds.

    Attributes:
        baseline: Median CPU seconds of the one to beat.
        ours: Median CPU seconds of ours.
        ratio: Median of the rounds' own ratios, which a slow moment of the machine hardly moves.
    """

    baseline: float
    ours: float
    ratio: float

    def row(self, claim: str, *, per: float, unit: str) -> BenchmarkRow:
        """The result as work per CPU second: ``per`` units of work are done in each round."""
        figures = (round(per / self.baseline, 4), round(per / self.ours, 4))
        return BenchmarkRow(claim=claim, baseline=figures[0], ours=figures[1], unit=unit, ratio=round(self.ratio, 3))


def alternate(baseline: Callable[[], object], ours: Callable[[], object], *, rounds: int) -> Pair:
    """Time both in turn, after one untimed run of each."""
    seconds: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        pair = (_seconds(baseline), _seconds(ours))
        if number:
            seconds.append(pair)
    first, second = zip(*seconds, strict=True)
    return Pair(median(first), median(second), median(a / b for a, b in seconds))


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
