"""Paired timing: rivals take turns, so that whatever else the machine does hits all of them.

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

    def row(self, claim: str, *, per: float, unit: str, share_of_peak: float | None = None) -> BenchmarkRow:
        """The result as work per CPU second: ``per`` units of work are done in each round."""
        return BenchmarkRow(
            claim=claim,
            baseline=round(per / self.baseline, 4),
            ours=round(per / self.ours, 4),
            unit=unit,
            ratio=round(self.ratio, 3),
            share_of_peak=share_of_peak,
        )


def alternate(
    baseline: Callable[[], object],
    ours: Callable[[], object],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> Pair:
    """Time both in turn, after one untimed run of each; another ``clock`` counts other seconds."""
    return alternate_all(baseline, [ours], rounds=rounds, clock=clock)[0]


def alternate_all(
    baseline: Callable[[], object],
    rivals: list[Callable[[], object]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> list[Pair]:
    """Time the baseline and all rivals in turn, after one untimed run of each; one pair per rival."""
    seconds = [[seconds_of(call, clock) for call in (baseline, *rivals)] for _ in range(rounds + 1)]
    first, *others = zip(*seconds[1:], strict=True)
    return [
        Pair(median(first), median(other), median(a / b for a, b in zip(first, other, strict=True))) for other in others
    ]


def seconds_of(call: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """What one call takes on this clock."""
    start = clock()
    call()
    return clock() - start
