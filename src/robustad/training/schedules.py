"""Learning rate and attack radius as functions of the step."""

from __future__ import annotations

import math


def cosine_with_warmup(step: int, total: int, *, warmup: int, floor: float = 0.02) -> float:
    """Share of the peak learning rate at a 0-based step: linear warm-up, then half a cosine down to ``floor``."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * max(floor, 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total)))))


def published_cosine(epoch: int, epochs: int, *, floor: float = 0.0125) -> float:
    """Share of the initial learning rate in a 0-based epoch: cosine annealing to ``floor``, stepped per epoch.

    Source: PatchGuard, released recipe (1e-5 at the end of 8e-4).
    """
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


def epsilon_at(step: int, total: int, *, epsilon: float, warmup: float) -> float:
    """Attack radius at a 0-based step: from a tenth of ``epsilon`` up to all of it over a share of the steps."""
    if warmup <= 0:
        return epsilon
    return epsilon * min(1.0, 0.1 + 0.9 * step / max(1.0, warmup * total))


def cobra_cosine(step: int, steps_per_epoch: int, epochs: int, *, warmup: float = 10.0) -> float:
    """Learning rate over 0.1 at a 0-based step: up to ten times that in ``warmup`` epochs, then down half a cosine.

    Source: COBRA, released ``scheduler.py``: linear warm-up of ten epochs, then cosine annealing over all epochs.
    """
    time = max(0, step - 1) / steps_per_epoch
    if time <= warmup:
        return 9 * time / warmup + 1
    return 5 * (1 + math.cos(math.pi * (time - warmup) / epochs))
