"""From a wall-clock budget to a fixed number of steps, measured once and then kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median

MIN_TIMED, MAX_TIMED = 8, 30
MARGIN = 0.97  # later steps are a little slower than the first ones: checkpoints, logs, full epsilon


@dataclass
class StepBudget:
    """Times the first steps until the number of steps that fit into ``max_time`` is known.

    Attributes:
        max_time: Seconds from construction on.
        total: Steps of the whole run, once known.
        reserved: Seconds of the budget that go to other work than steps (early looks).
        cycle: Steps after which costs repeat: with replays, one step in so many makes the images of all.
    """

    max_time: float
    total: int | None = None
    reserved: float = 0.0
    cycle: int = 1
    clock: Callable[[], float] = time.perf_counter
    _durations: list[float] = field(default_factory=list)
    _start: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self._last = self.clock()

    def step_begins(self) -> None:
        """Call before each step."""
        self._last = self.clock()

    def step_ends(self, step: int) -> int | None:
        """Call after each step (``step`` steps are done); returns the total once it is known."""
        if self.total is not None:
            return self.total
        now = self.clock()
        self._durations.append(now - self._last)
        elapsed = now - self._start
        least, most = max(MIN_TIMED, 3 * self.cycle), max(MAX_TIMED, 5 * self.cycle)
        enough = len(self._durations) >= most or elapsed > 0.1 * self.max_time
        if (len(self._durations) >= least and enough) or elapsed >= self.max_time:
            typical = self._typical()
            left = MARGIN * self.max_time - elapsed - self.reserved
            self.total = step + max(0, int(left / max(typical, 1e-6)))
        return self.total

    def _typical(self) -> float:
        """Seconds of a step: the median over whole cycles, without the first steps, which also warm caches up."""
        warm, cycle = self._durations[2:], self.cycle
        cycles = [mean(warm[end - cycle : end]) for end in range(len(warm), cycle - 1, -cycle)]
        return median(cycles) if cycles else mean(self._durations)
